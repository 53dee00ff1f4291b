package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	maxDocument  = 256 << 10 // bytes of either answer of a provider
	maxRedirects = 3
	fetchTimeout = 10 * time.Second // of both requests together
	wellKnown    = "/.well-known/openid-configuration"
)

// checkURL says whether keys may be fetched from there: by TLS, or from a program on this device.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return fmt.Errorf("%q is not a URL of the form https://host/path", text)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q: keys are fetched by https, or by http from loopback", text)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// newClient makes what asks the provider at base. It follows redirects on one host only; without TLS it connects to loopback
// only, wherever a name points to.
func newClient(base, ca string) (*http.Client, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 5 * time.Second,
		ResponseHeaderTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10, MaxConnsPerHost: 1, IdleConnTimeout: 5 * time.Second,
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", ca)
		}
	}
	if strings.HasPrefix(base, "http:") {
		t.Proxy = nil
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().Unmap().IsLoopback() {
				return fmt.Errorf("%s is not on this device", address)
			}
			return nil
		}
	}
	t.DialContext = dialer.DialContext
	return &http.Client{Transport: t, Timeout: fetchTimeout, CheckRedirect: sameHost}, nil
}

func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > maxRedirects || next.URL.Host != first.Host || next.URL.Scheme != first.Scheme {
		return errors.New("the provider redirects elsewhere")
	}
	return nil
}

// fetch asks the provider where its keys are, and for them.
func fetch(ctx context.Context, client *http.Client, base string) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	text, err := get(ctx, client, strings.TrimSuffix(base, "/")+wellKnown)
	if err != nil {
		return nil, err
	}
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return nil, fmt.Errorf("read what the provider says of itself: %w", err)
	}
	if about.Issuer != base { // OpenID Connect Discovery 1.0 section 4.3: exactly
		return nil, fmt.Errorf("the provider calls itself %q, not %q", about.Issuer, base)
	}
	if err := checkURL(strings.SplitN(about.Keys, "?", 2)[0]); err != nil {
		return nil, fmt.Errorf("where its keys are: %w", err)
	}
	if strings.HasPrefix(base, "https:") && !strings.HasPrefix(about.Keys, "https:") {
		return nil, fmt.Errorf("its keys are at %q, without TLS", about.Keys)
	}
	if text, err = get(ctx, client, about.Keys); err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	return &keySet{issuer: base, keys: keys, text: text}, nil
}

func get(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, res.Status)
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); !strings.HasSuffix(kind, "json") {
		return nil, fmt.Errorf("%s: the answer is %q, not JSON", from, kind)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("the answer is longer than %d bytes", maxDocument)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return text, nil
}
