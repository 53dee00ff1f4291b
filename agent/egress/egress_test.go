package egress

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

func soon() time.Time { return time.Now().Add(5 * time.Second) }

func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, c Config) *Client {
	t.Helper()
	made := New(c)
	t.Cleanup(made.Close)
	return made
}

func TestARequestAndItsAnswer(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Header.Get("X-Sent")+" "+r.Header.Get("User-Agent"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
	})
	got, err := client(t, Config{Agent: "mayfly/1"}).Do(soon(), function.HTTPRequest{
		Method: "PUT", URL: url + "/a?b=c", Body: []byte("in"), MaxBody: 100, Header: []event.Attr{{Name: "X-Sent", Value: "1"}},
	})
	if err != nil || got.Status != 418 || string(got.Body) != "PUT /a?b=c in" {
		t.Fatalf("%+v, %v", got, err)
	}
	if !strings.Contains(fmt.Sprint(got.Header), "1 mayfly/1") {
		t.Error(got.Header)
	}
}

// A redirect is an answer like any other: where it points to was not permitted.
func TestRedirectsAreNotFollowed(t *testing.T) {
	reached := false
	secret := server(t, func(http.ResponseWriter, *http.Request) { reached = true })
	url := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret, http.StatusFound) })
	got, err := client(t, Config{}).Do(soon(), function.HTTPRequest{Method: "GET", URL: url, MaxBody: 1000})
	if err != nil || got.Status != http.StatusFound || reached {
		t.Fatalf("%+v, %v, reached %v", got, err, reached)
	}
}

func TestALargeAnswerIsRefusedAndNotHeld(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
				return
			}
		}
	})
	_, err := client(t, Config{}).Do(soon(), function.HTTPRequest{Method: "GET", URL: url, MaxBody: 1000})
	if function.KindOf(err) != "too-large" {
		t.Fatal(err)
	}
}

func TestADeadlineEndsIt(t *testing.T) {
	release := make(chan struct{})
	url := server(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	began := time.Now()
	_, err := client(t, Config{}).Do(began.Add(50*time.Millisecond), function.HTTPRequest{Method: "GET", URL: url + "?key=hidden", MaxBody: 1})
	if err == nil || time.Since(began) > 3*time.Second {
		t.Fatal(err, time.Since(began))
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("the error tells the query: %v", err)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	url := server(t, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	c := client(t, Config{AtOnce: 1})
	done := make(chan error, 1)
	go func() {
		_, err := c.Do(soon(), function.HTTPRequest{Method: "GET", URL: url, MaxBody: 1})
		done <- err
	}()
	<-entered
	if _, err := c.Do(soon(), function.HTTPRequest{Method: "GET", URL: url, MaxBody: 1}); function.KindOf(err) != "overload" {
		t.Error(err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhereNobodyMayGo(t *testing.T) {
	c := client(t, Config{Denied: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}})
	for address, refused := range map[string]bool{
		"127.0.0.1": true, "::1": true, "169.254.169.254": true, "fe80::1": true, "0.0.0.0": true, "::": true, "224.0.0.1": true,
		"255.255.255.255": true, "64:ff9b::a9fe:a9fe": true, "2002:7f00:1::": true, "10.9.1.1": true, "0.1.2.3": true,
		"10.8.1.1": false, "192.168.1.1": false, "8.8.8.8": false, "fd00::1": false, "2001:db8::1": false,
	} {
		if why := c.refuse(netip.MustParseAddr(address), false); (why != "") != refused {
			t.Errorf("%s: %q", address, why)
		}
	}
	if why := c.refuse(netip.MustParseAddr("127.0.0.1"), true); why != "" {
		t.Error(why)
	}
}

// A name that is not written as this device and resolves to it does not get there, whatever the resolver says from one moment to
// the next.
func TestRebinding(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := client(t, Config{})
	for _, host := range []string{"0x7f.1", "[::ffff:169.254.1.1]", "169.254.1.1", "0.0.0.0", "[::]"} {
		conn, err := c.dial(t.Context(), "tcp", net.JoinHostPort(strings.Trim(host, "[]"), port))
		if err == nil {
			conn.Close()
			t.Errorf("%s was connected to", host)
		}
	}
	for _, host := range []string{"localhost.", "LOCALHOST", "localhost.localdomain", "ip6-localhost"} {
		if loopback(host) {
			t.Errorf("%s counts as written out", host)
		}
		conn, err := c.dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			conn.Close()
			t.Errorf("%s led to this device", host)
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		conn, err := c.dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		conn.Close()
	}
}
