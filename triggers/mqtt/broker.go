package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Broker says how to reach one broker and what to expect of it. The zero value of a field means its default; see
// WithDefaults. Safe to copy.
type Broker struct {
	Name         string   // by which manifests name it; part of every event's source
	URLs         []string // tcp://host:port, tls://host:port, unix:///path; tried in turn, they must be one broker or one cluster
	User         string   // empty: anonymous
	PasswordFile string   // a file whose content, less one trailing newline, is the password
	Credential   string   // instead of PasswordFile: name of a systemd credential, read below $CREDENTIALS_DIRECTORY
	TLS          TLS      // for tls:// URLs

	KeepAlive      time.Duration // default 30 s, whole seconds; a silent link is found dead after this plus PingTimeout
	PingTimeout    time.Duration // default 10 s
	ConnectTimeout time.Duration // default 10 s, for dialling and for the handshakes each
	WriteTimeout   time.Duration // default 10 s; a write that stalls for longer ends the connection

	Window     int   // QoS 1 messages in flight from us to the broker, default 256, at most 16384
	MaxPayload int64 // bytes of one message's payload in either direction, default 256 KiB, at most 256 MB

	// Dial opens the connection that is spoken over, TLS not included; network is "tcp" or "unix". Default: over this machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// TLS says whom to believe and who we are. Files are read at every connection, so replaced certificates are used.
type TLS struct {
	CA         string // PEM file of authorities; empty: the system's
	Cert, Key  string // PEM files of our own certificate, both or neither
	ServerName string // expected name in the broker's certificate, default the URL's host
	MinVersion string // "1.2" (default) or "1.3"
}

// WithDefaults returns b with every zero field at its default.
func (b Broker) WithDefaults() Broker {
	setDefault(&b.KeepAlive, 30*time.Second)
	setDefault(&b.PingTimeout, 10*time.Second)
	setDefault(&b.ConnectTimeout, 10*time.Second)
	setDefault(&b.WriteTimeout, 10*time.Second)
	setDefault(&b.Window, 256)
	setDefault(&b.MaxPayload, 256<<10)
	setDefault(&b.TLS.MinVersion, "1.2")
	return b
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every fault of a configuration that has its defaults, joined. It reads no file.
func (b Broker) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("broker %q: "+format, append([]any{b.Name}, args...)...))
		}
	}
	check(b.Name != "" && !strings.ContainsAny(b.Name, "/?# \t\n"), "name: wanted one word without / ? or #")
	check(len(b.URLs) > 0, "url: wanted at least one")
	for i, u := range b.URLs {
		_, err := parseURL(u)
		check(err == nil, "url %d, %q: %v", i+1, withoutSecrets(u), err)
	}
	check(b.User != "" || b.PasswordFile == "" && b.Credential == "", "user: a password needs one ([MQTT-3.1.2-22])")
	check(b.PasswordFile == "" || b.Credential == "", "password_file and credential: wanted one of them")
	check(b.Credential == filepath.Base(b.Credential) || b.Credential == "", "credential %q: wanted a name, not a path", b.Credential)
	check((b.TLS.Cert == "") == (b.TLS.Key == ""), "tls: cert and key belong together")
	check(b.TLS.MinVersion == "1.2" || b.TLS.MinVersion == "1.3", "tls: min_version %q: wanted 1.2 or 1.3", b.TLS.MinVersion)
	check(b.KeepAlive >= time.Second && b.KeepAlive <= 65535*time.Second && b.KeepAlive%time.Second == 0,
		"keepalive %v: wanted whole seconds from 1 to 65535", b.KeepAlive)
	check(b.PingTimeout > 0, "ping_timeout %v: wanted more than 0", b.PingTimeout)
	check(b.ConnectTimeout > 0, "connect_timeout %v: wanted more than 0", b.ConnectTimeout)
	check(b.WriteTimeout > 0, "write_timeout %v: wanted more than 0", b.WriteTimeout)
	check(b.Window >= 1 && b.Window <= 16384, "window %d: wanted 1 to 16384", b.Window)
	check(b.MaxPayload >= 1 && b.MaxPayload <= 256_000_000, "max_payload %d: wanted 1 to 256000000 bytes", b.MaxPayload)
	return errors.Join(faults...)
}

// withoutSecrets cuts user and password out of what may be a URL.
func withoutSecrets(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if i := strings.LastIndexByte(rest, '@'); ok && i >= 0 {
		return scheme + "://..." + rest[i:]
	}
	return address
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("not a URL") // the library's error shows all of it, passwords too
	case u.User != nil:
		return nil, errors.New("holds credentials; use user and password_file")
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return u, nil
	case u.Scheme != "tcp" && u.Scheme != "tls":
		return nil, errors.New("wanted tcp://host:port, tls://host:port or unix:///path")
	case u.Hostname() == "" || u.Port() == "" || u.Path != "":
		return nil, errors.New("wanted host:port and nothing behind it")
	}
	return u, nil
}

// password reads the password now, so that a changed file is used at the next connection.
func (b *Broker) password() (string, error) {
	file := b.PasswordFile
	if b.Credential != "" {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("credential %q: CREDENTIALS_DIRECTORY is not set", b.Credential)
		}
		file = filepath.Join(dir, b.Credential)
	}
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	return strings.TrimSuffix(string(text), "\n"), err
}

// config builds the TLS configuration from the files as they are now.
func (t TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
