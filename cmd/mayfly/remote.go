package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

// reach says which agent a command line is for.
type reach struct {
	socket  string
	address string // of an agent elsewhere
	node    string // a member of the cluster
	token   string
	cert    string // files
	key     string
	ca      string
	signing []string // files with operators' keys
}

func (r *reach) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&r.socket, "socket", "", "admin socket of the agent (env MAYFLY_SOCKET)")
	flags.StringVar(&r.address, "address", "", "an agent elsewhere: https://HOST:PORT or https://NODE-ID@HOST:PORT (env MAYFLY_ADDRESS)")
	flags.StringVar(&r.node, "node", "", "a node of the cluster, found by asking the agent")
	flags.StringVar(&r.token, "token", "", "API token for an agent elsewhere, or @FILE (env MAYFLY_TOKEN)")
	flags.StringVar(&r.cert, "cert", "", "file with an operator's certificate and key (env MAYFLY_CERT)")
	flags.StringVar(&r.key, "key", "", "file with the key, where it is not in that of --cert (env MAYFLY_KEY)")
	flags.StringArrayVar(&r.signing, "signing-key", nil, "file with an operator's key that orders are signed with (repeatable; env MAYFLY_SIGNING_KEY)")
	flags.StringVar(&r.ca, "ca", "", "file with the authority that signs the nodes' certificates (env MAYFLY_CA)")
}

// connect makes a.client the one for the agent that was asked for.
func (a *app) connect(ctx context.Context) error {
	if file := a.Getenv("MAYFLY_SIGNING_KEY"); file != "" && len(a.reach.signing) == 0 {
		a.reach.signing = []string{file}
	}
	r := a.reach
	if r.socket != "" {
		if r.address != "" {
			return &usageError{text: "--socket and --address name two agents", hint: "give one"}
		}
		a.client = admin.NewClient(r.socket)
	} else if r.address = orElse(r.address, a.Getenv("MAYFLY_ADDRESS")); r.address != "" {
		client, err := a.remote(r.address)
		if err != nil {
			return err
		}
		a.client = client
	}
	if r.node == "" {
		if r.address == "" && (r.token != "" || r.cert != "") {
			return &usageError{text: "--token and --cert are for an agent elsewhere", hint: "add --address https://HOST:PORT, or --node NODE"}
		}
		return nil
	}
	m, err := a.client.Node(ctx, r.node)
	if err != nil {
		return hinted(err, "mayfly nodes ls")
	}
	if m.Self {
		return nil
	}
	if m.AdminAddress == "" {
		return &function.Error{
			Op: "connect", Subject: m.Name, Class: function.ClassReject, Kind: "no-door", Err: errors.New("it does not answer operators from afar"),
			Hint: "log in there, or see [admin] in its configuration",
		}
	}
	far, err := a.remote("https://" + m.ID + "@" + m.AdminAddress)
	if err != nil {
		return err
	}
	a.client.Close()
	a.client = far
	return nil
}

// remote returns a client for an agent elsewhere, with what was given to show there.
func (a *app) remote(address string) (*admin.Client, error) {
	out := admin.Remote{Address: address}
	token := orElse(a.reach.token, a.Getenv("MAYFLY_TOKEN"))
	if strings.HasPrefix(token, "@") {
		text, err := os.ReadFile(token[1:])
		if err != nil {
			return nil, &usageError{text: "--token: " + err.Error(), hint: "@ names a file that holds the token"}
		}
		token = string(text)
	}
	out.Token = strings.TrimSpace(token)
	if file := orElse(a.reach.cert, a.Getenv("MAYFLY_CERT")); file != "" {
		pair, err := tls.LoadX509KeyPair(file, orElse(a.reach.key, orElse(a.Getenv("MAYFLY_KEY"), file)))
		if err != nil {
			return nil, &usageError{text: "--cert " + file + ": " + err.Error(), hint: "it holds a certificate and its key in PEM; the key may be in --key"}
		}
		out.Certificate = &pair
	}
	if file := orElse(a.reach.ca, a.Getenv("MAYFLY_CA")); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, &usageError{text: "--ca: " + err.Error()}
		}
		out.CA = x509.NewCertPool()
		if !out.CA.AppendCertsFromPEM(text) {
			return nil, &usageError{text: "--ca " + file + ": there is no certificate in it", hint: "it holds certificates in PEM"}
		}
	}
	return admin.NewRemoteClient(out)
}

// contextFor bounds a question that is asked while somebody types.
func contextFor(cmd *cobra.Command, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), d)
}
