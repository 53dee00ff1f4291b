// Package dex starts a real OpenID Connect provider, dex, for tests: the program in test/dex, built from its own module.
package dex

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Provider is one dex. It has the users ada and bob and the clients mayfly and other.
type Provider struct {
	URL    string // of the issuer
	CA     string // PEM file of its certificate, which is its own authority
	Key    string // PEM file of the key
	t      testing.TB
	args   []string
	http   *http.Client
	cmd    *exec.Cmd
	in     io.WriteCloser
	spoken *bufio.Scanner
}

// New builds dex and starts it; its tokens are valid for so long. The first build takes a minute and the modules it needs.
func New(t testing.TB, valid time.Duration) *Provider {
	t.Helper()
	dir := t.TempDir()
	_, here, _, _ := runtime.Caller(0)
	program := filepath.Join(dir, "dex")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(filepath.Dir(here), "..", "..", "test", "dex")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build dex: %v\n%s", err, text)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	p := &Provider{t: t, URL: "https://" + address + "/dex", CA: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	p.certify()
	p.args = []string{program, "-listen", address, "-cert", p.CA, "-key", p.Key, "-valid", valid.String(), "-rotate", "1ms"}
	p.Start()
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		if p.cmd != nil {
			p.Stop()
		}
	})
	return p
}

// certify makes the provider's certificate.
func (p *Provider) certify() {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dex"}, NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		p.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{p.CA: {Type: "CERTIFICATE", Bytes: der}, p.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	p.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 10 * time.Second}
}

// Start starts it with new keys, at the same address.
func (p *Provider) Start() {
	p.t.Helper()
	p.cmd = exec.CommandContext(context.Background(), p.args[0], p.args[1:]...) // Stop ends it
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.spoken = bufio.NewScanner(out)
	p.says("ready")
}

// Stop ends it: it cannot be reached until Start.
func (p *Provider) Stop() {
	p.t.Helper()
	if err := p.in.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Error(err)
	}
	p.cmd = nil
}

// Rotate makes it sign with a new key; it still shows the old one.
func (p *Provider) Rotate() {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "rotate\n"); err != nil {
		p.t.Fatal(err)
	}
	p.says("rotated")
}

func (p *Provider) says(want string) {
	p.t.Helper()
	if !p.spoken.Scan() || p.spoken.Text() != want {
		p.t.Fatalf("dex says %q, not %q: %v", p.spoken.Text(), want, p.spoken.Err())
	}
}

// Token lets a user sign in with a client, by name and password, and returns the identity token.
func (p *Provider) Token(user, client string) string {
	p.t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {user + "@example.com"}, "password": {"password"}, "scope": {"openid email profile"}}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client, client+"-secret")
	status, text := p.do(r)
	var answer struct {
		Token string `json:"id_token"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Token == "" {
		p.t.Fatalf("%s: %s", status, text)
	}
	return answer.Token
}

// Keys returns the provider's keys as it shows them.
func (p *Provider) Keys() string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.URL+"/keys", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	_, text := p.do(r)
	return string(text)
}

// do asks the provider and returns the whole answer.
func (p *Provider) do(r *http.Request) (status string, text []byte) {
	p.t.Helper()
	res, err := p.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err = io.ReadAll(res.Body); err != nil {
		p.t.Fatal(err)
	}
	return res.Status, text
}
