// Command dex is a real OpenID Connect provider, dex, for the tests of the gateway: its own server over its own memory, with users and
// clients of ours. It is a module of its own, so that what dex needs is not among what Mayfly needs.
//
//	dex -listen 127.0.0.1:5556 -cert CERT -key KEY -valid 10m -rotate 6h
//
// It prints "ready" when it can be asked. For each line on standard input a second server on the same memory takes over, as where several
// share one, and prints "rotated": if -rotate is short that signs with a new key and still shows the old one. A new start has new keys only:
// that is how a key is withdrawn at once. It ends with its standard input.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/dexidp/dex/web"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

type options struct {
	listen, issuer, cert, key, clients string
	valid, rotate                      time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:5556", "address")
	flag.StringVar(&o.issuer, "issuer", "", "URL of the issuer; default: https://<listen>/dex")
	flag.StringVar(&o.cert, "cert", "", "PEM file of its certificate")
	flag.StringVar(&o.key, "key", "", "PEM file of its key")
	flag.StringVar(&o.clients, "clients", "mayfly,other", "names of clients; the secret of each is its name and -secret")
	flag.DurationVar(&o.valid, "valid", 10*time.Minute, "how long a token is valid")
	flag.DurationVar(&o.rotate, "rotate", 6*time.Hour, "how long a key signs; it is looked at every 30 s")
	flag.Parse()
	if err := run(&o); err != nil {
		log.Fatalln("dex:", err)
	}
}

func run(o *options) error {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	users, err := people()
	if err != nil {
		return err
	}
	var clients []storage.Client
	for name := range strings.SplitSeq(o.clients, ",") {
		clients = append(clients, storage.Client{ID: name, Name: name, Secret: name + "-secret"})
	}
	store := storage.WithStaticClients(storage.WithStaticPasswords(memory.New(quiet), users, quiet), clients)
	store = storage.WithStaticConnectors(store, []storage.Connector{{ID: server.LocalConnector, Type: server.LocalConnector, Name: "password"}})
	if o.issuer == "" {
		o.issuer = "https://" + o.listen + "/dex"
	}
	var current atomic.Pointer[server.Server]
	take := func(ctx context.Context) error {
		next, err := server.NewServer(ctx, server.Config{
			Issuer: o.issuer, Storage: store, PasswordConnector: server.LocalConnector, SkipApprovalScreen: true,
			IDTokensValidFor: o.valid, RotateKeysAfter: o.rotate, Web: server.WebConfig{WebFS: web.FS()}, Logger: quiet,
			PrometheusRegistry: prometheus.NewRegistry(),
		})
		current.Store(next)
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := take(ctx); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) })
	s := &http.Server{Handler: handler, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(ln, o.cert, o.key) }()
	fmt.Fprintln(os.Stdout, "ready")
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if err := take(ctx); err != nil {
				served <- err
				return
			}
			fmt.Fprintln(os.Stdout, "rotated")
		}
		served <- nil
	}()
	return <-served
}

// people are who can sign in, each with the password "password".
func people() ([]storage.Password, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost+6) // dex wants at least 10
	if err != nil {
		return nil, err
	}
	var all []storage.Password
	for _, name := range []string{"ada", "bob"} {
		all = append(all, storage.Password{Email: name + "@example.com", Username: name, UserID: "id-of-" + name, Hash: hash})
	}
	return all, nil
}
