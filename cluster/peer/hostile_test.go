package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/function"
)

// liar runs a server of the right certificate whose answers are wrong.
func (s *site) liar(t testing.TB, name string, answer http.HandlerFunc) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	config := s.trust(t, name).TLS()
	srv := &http.Server{Handler: answer, Protocols: protocols, TLSConfig: config}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(ln, "", "") // until it is closed
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	s.at(name, ln.Addr().String())
}

// Whatever a node answers, the caller gets an error of the right class, soon, and no more memory is used than a reply may take.
func TestHostileAnswers(t *testing.T) {
	good := encodeReply(aResult(), nil)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		class  function.Class
		kind   string
	}{
		"garbage":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("garbage")) }, function.ClassRetry, KindProtocol},
		"nothing":          {func(http.ResponseWriter, *http.Request) {}, function.ClassRetry, KindProtocol},
		"truncated":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good[:len(good)-1]) }, function.ClassRetry, KindProtocol},
		"more than it is":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(good, 1)) }, function.ClassRetry, KindProtocol},
		"endless":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, endless{}) }, function.ClassReject, "output-limit"},
		"said to be large": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }, function.ClassReject, "output-limit"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(good[:10])
		}, function.ClassRetry, KindLostReply},
		"large headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, function.ClassRetry, KindLostReply},
		"an odd load": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(headerLoad, "1/2/lots")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, function.ClassOverload, KindDraining},
		"unexplained 429": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, function.ClassOverload, KindProtocol},
		"unexplained 500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, function.ClassRetry, KindProtocol},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere/", http.StatusFound)
		}, function.ClassNotHere, KindProtocol},
		"a fatal error": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(encodeReply(nil, &function.Error{Op: "o", Subject: "s", Class: function.ClassFatal, Kind: "disk"}))
		}, function.ClassNotHere, "disk"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.liar(t, "b", c.answer)
			p := s.peers(t, "a")
			before := heap()
			_, err := invoke(t, p, "b", callOf("1"))
			wantClass(t, err, c.class, c.kind)
			if after := heap(); after > before+12<<20 {
				t.Errorf("the heap grew from %d to %d KiB", before>>10, after>>10)
			}
			if _, ok := p.Load("b"); ok {
				t.Error("it has a load")
			}
		})
	}
}

// A slow node costs its caller the time of the call and no more.
func TestSlowAnswer(t *testing.T) {
	s := newSite(t)
	s.liar(t, "b", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		for rest(r.Context(), 10*time.Millisecond) == nil {
			_, _ = w.Write([]byte("x")) // until the caller is gone
			http.NewResponseController(w).Flush()
		}
	})
	p := s.peers(t, "a")
	c := callOf("1")
	c.Deadline = time.Now().Add(300 * time.Millisecond)
	began := time.Now()
	_, err := invoke(t, p, "b", c)
	wantClass(t, err, function.ClassRetry, "timeout")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A node that is silently gone is noticed within seconds, whatever the deadline of the call.
func TestDeadPeerIsNoticed(t *testing.T) {
	s := newSite(t)
	s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{})
	to, _ := s.resolve("b")
	cable := newRelay(t, to)
	s.at("b", cable.ln.Addr().String())
	p := NewPeers(Config{
		TLS: s.clientTLS(s.ca.certificate(t, "a")), NodeOf: nodeOf, Resolve: s.resolve, Ping: 200 * time.Millisecond, Connect: 500 * time.Millisecond,
	}, quietLog())
	t.Cleanup(func() { _ = p.Close() })
	if _, err := invoke(t, p, "b", callOf("1")); err != nil {
		t.Fatal(err)
	}
	cable.swallow.Store(true)
	c := callOf("2")
	c.Deadline = time.Now().Add(time.Minute)
	began := time.Now()
	_, err := invoke(t, p, "b", c)
	wantClass(t, err, function.ClassRetry, KindLostReply)
	if took := time.Since(began); took > 20*time.Second { // 0.2 s, the answer's 3 s, one attempt to connect; and a busy machine
		t.Errorf("it took %v", took)
	}
	cable.swallow.Store(false)
	eventually(t, "it is back", func() bool {
		_, err := invoke(t, p, "b", callOf("3"))
		return err == nil
	})
}

// Connections are one per node, end with Forget and Close, and the number of nodes that are remembered is bounded.
func TestLinks(t *testing.T) {
	s := newSite(t)
	srv, _ := s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{PerNode: 1})
	p := s.peers(t, "a")
	var group sync.WaitGroup
	for i := range 50 { // a second connection would be refused
		group.Go(func() {
			if _, err := invoke(t, p, "b", callOf(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	p.Forget("b")
	if _, ok := p.Load("b"); ok {
		t.Error("its load is remembered")
	}
	eventually(t, "it may come again", func() bool {
		_, err := invoke(t, p, "b", callOf("again"))
		return err == nil
	})
	for i := range maxLinks + 10 {
		if _, err := p.link(fmt.Sprint("node-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.links) != maxLinks {
		t.Errorf("%d links", len(p.links))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	_, err := invoke(t, p, "b", callOf("closed"))
	wantClass(t, err, function.ClassNotHere, KindUnreachable)
	if srv.Counters().Calls.Load() != 51 {
		t.Errorf("%d calls", srv.Counters().Calls.Load())
	}
}

// The certificate is that of the moment: what is renewed is used for the next connection.
func TestRenewedCertificate(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	old := newAuthority(t)
	current := old.certificate(t, "b") // of an authority nobody trusts
	trust := s.trust(t, "b")
	trust.TLS = func() *tls.Config {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{Certificates: []tls.Certificate{current}, ClientCAs: s.ca.pool, ClientAuth: tls.VerifyClientCertIfGiven}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at("b", ln.Addr().String())
	running(t, NewServer(trust, Doors{Exec: exec(echo)}, Limits{}, quietLog()), ln)
	p := s.peers(t, "a")
	_, err = invoke(t, p, "b", callOf("1"))
	wantClass(t, err, function.ClassNotHere, KindUnreachable)
	mu.Lock()
	current = s.ca.certificate(t, "b")
	mu.Unlock()
	eventually(t, "the new certificate is used", func() bool {
		_, err := p.Probe(context.Background(), "b")
		return err == nil
	})
}
