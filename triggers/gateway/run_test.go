package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// Over a real connection: TLS, a request underway when the gateway ends, a caller that leaves.
func TestRunAndDrain(t *testing.T) {
	running := make(chan triggers.Receipt, 1)
	g := gateway(t, functions(func(_ string, _ *event.Event, r triggers.Receipt) error { running <- r; return nil }),
		func(c *Config) { c.TLS = testTLS(t) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	get(t, "listening", g.Listening())
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	url := "https://" + g.Address() + "/fn/f"

	leaving, leave := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(leaving, "POST", url, strings.NewReader("x"))
	left := make(chan error, 1)
	go func() { _, err := client.Do(r); left <- err }()
	gone := get(t, "the call of one who leaves", running)
	leave()
	if err := get(t, "his error", left); err == nil {
		t.Error("he got an answer")
	}
	gone.Settle(triggers.Settlement{})

	answers := make(chan string, 1)
	go func() {
		res, err := client.Post(url, "text/plain", strings.NewReader("x"))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answers <- fmt.Sprint(res.StatusCode, " ", string(body))
	}()
	receipt := get(t, "the call", running)
	cancel()
	until(t, "draining", g.closing.Load)
	select {
	case err := <-ended:
		t.Fatalf("ended (%v) with a request underway", err)
	default:
	}
	receipt.Settle(triggers.Settlement{Response: &function.Response{Data: []byte("late")}})
	if got := get(t, "answer", answers); got != "200 late" {
		t.Errorf("answer %q", got)
	}
	if err := get(t, "end", ended); err != nil {
		t.Error(err)
	}
	if err := g.Run(ctx); err == nil {
		t.Error("ran twice")
	}
}

// A caller that sends its header a byte now and then is cut off, and one more than may be there waits.
func TestSlowAndManyConnections(t *testing.T) {
	g := gateway(t, settle(triggers.Settlement{}), func(c *Config) { c.Limits.Header = 50 * time.Millisecond; c.Limits.Connections = 1 })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	get(t, "listening", g.Listening())
	dial := func() net.Conn {
		c, err := net.Dial("tcp", g.Address())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { c.Close() })
		return c
	}
	slow := dial()
	io.WriteString(slow, "POST /fn/f HT")
	waiting := dial()
	io.WriteString(waiting, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if _, err := io.Copy(io.Discard, slow); err != nil {
		t.Errorf("the slow one was not cut off: %v", err)
	}
	line, err := bufio.NewReader(waiting).ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Errorf("%q, %v", line, err)
	}
	cancel()
	if err := get(t, "end", ended); err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("POST /fn/f HTTP/1.1\r\nHost: 127.0.0.1\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: %41\r\nce-type: t\r\nContent-Length: 1\r\n\r\nx"))
	f.Add([]byte("POST /fn/%2e%2e HTTP/1.1\r\nHost: localhost\r\ntraceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n\r\n"))
	g, err := New(Config{Address: "127.0.0.1:0", Functions: settle(triggers.Settlement{Response: &function.Response{}})})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		if w := call(g, r); w.Code < 200 || g.Status().Running != 0 {
			t.Errorf("status %d, %d places taken", w.Code, g.Status().Running)
		}
	})
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
