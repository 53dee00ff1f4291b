package peer

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
)

// The reply is lost with its connection. The second try, over a new one, gets the result of the run there was. [N2]
func TestLostReplyRunsOnce(t *testing.T) {
	s := newSite(t)
	var ran atomic.Int64
	srv, _ := s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, from string, r *ExecRequest) (*function.Result, error) {
		n := ran.Add(1)
		return &function.Result{Response: &function.Response{Data: append(make([]byte, 9000), strconv.FormatInt(n, 10)...)}}, nil
	})}, Limits{})
	b, _ := s.resolve("b")
	link := newRelay(t, b)
	s.at("b", link.ln.Addr().String())
	p := s.peers(t, "a")
	for i := range 20 {
		if _, err := p.Probe(context.Background(), "b"); err != nil {
			t.Fatal(err)
		}
		link.cut.Store(8000)
		res, err := invoke(t, p, "b", callOf(strconv.Itoa(i)))
		if err != nil || res.Response == nil || string(res.Response.Data[9000:]) != strconv.Itoa(i+1) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	// Now and then the connection breaks before the call has left: then there is nothing to repeat.
	if repeated := srv.Counters().Repeated.Load(); ran.Load() != 20 || repeated > 20 || repeated < 15 {
		t.Errorf("ran %d times, %d repeated", ran.Load(), repeated)
	}
}

// The connection breaks while the function runs: the second try joins the run.
func TestConnectionLostMidRun(t *testing.T) {
	s := newSite(t)
	var ran atomic.Int64
	started, finish := make(chan struct{}, 10), make(chan struct{})
	srv, _ := s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, from string, r *ExecRequest) (*function.Result, error) {
		ran.Add(1)
		started <- struct{}{}
		select {
		case <-finish:
		case <-ctx.Done():
		}
		return &function.Result{Failure: "x"}, ctx.Err()
	})}, Limits{})
	b, _ := s.resolve("b")
	link := newRelay(t, b)
	s.at("b", link.ln.Addr().String())
	p := s.peers(t, "a")
	done := make(chan error, 1)
	go func() {
		_, err := invoke(t, p, "b", callOf("1"))
		done <- err
	}()
	<-started
	link.breakAll()
	eventually(t, "the second try is there", func() bool { return srv.calls.Load() == 2 })
	close(finish)
	if err := <-done; err != nil || ran.Load() != 1 {
		t.Errorf("%v, ran %d times", err, ran.Load())
	}
}

// No reply comes at all: it is a failed attempt, of which nobody knows whether it ran.
func TestNoReply(t *testing.T) {
	s := newSite(t)
	started := make(chan struct{}, 10)
	_, stop := s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, _ string, _ *ExecRequest) (*function.Result, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})}, Limits{Grace: 50 * time.Millisecond})
	p := s.peers(t, "a")
	done := make(chan error, 1)
	go func() {
		_, err := invoke(t, p, "b", callOf("1"))
		done <- err
	}()
	<-started
	stop()
	err := <-done
	wantClass(t, err, function.ClassRetry, KindLostReply)
}

func TestConcurrentDuplicatesJoin(t *testing.T) {
	s := newSite(t)
	var ran atomic.Int64
	finish := make(chan struct{})
	srv, _ := s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, _ string, r *ExecRequest) (*function.Result, error) {
		ran.Add(1)
		<-finish
		return &function.Result{Failure: r.Event.ID}, nil
	})}, Limits{})
	p := s.peers(t, "a")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if res, err := invoke(t, p, "b", callOf("same")); err != nil || res.Failure != "same" {
				t.Errorf("%v %v", res, err)
			}
		})
	}
	eventually(t, "all are there", func() bool { return srv.calls.Load() == 20 })
	close(finish)
	group.Wait()
	// Another attempt, another owner, another node and another event are other calls.
	for _, c := range []func(*function.Call){
		func(c *function.Call) { c.Attempt = 2 },
		func(c *function.Call) { c.Epoch = 2 },
		func(c *function.Call) { c.Event.ID = "other" },
		func(c *function.Call) { c.Trigger = "mqtt[1]" },
	} {
		call := callOf("same")
		c(call)
		if _, err := invoke(t, p, "b", call); err != nil {
			t.Error(err)
		}
	}
	if _, err := invoke(t, s.peers(t, "c"), "b", callOf("same")); err != nil {
		t.Error(err)
	}
	if ran.Load() != 6 {
		t.Errorf("ran %d times, want 6", ran.Load())
	}
}

// A caller that goes away ends the run, but not one that another still waits for; a result that was there before stays.
func TestCancel(t *testing.T) {
	s := newSite(t)
	started, ended := make(chan struct{}, 10), make(chan error, 10)
	srv, _ := s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, _ string, r *ExecRequest) (*function.Result, error) {
		started <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})}, Limits{})
	p := s.peers(t, "a")
	n, _ := p.To("b")
	ctx, cancel := context.WithCancel(context.Background())
	other, cancelOther := context.WithCancel(context.Background())
	call := func(ctx context.Context, done chan<- error) { done <- n.Invoke(ctx, callOf("1"), &function.Result{}) }
	done, otherDone := make(chan error, 1), make(chan error, 1)
	go call(ctx, done)
	<-started
	go call(other, otherDone)
	eventually(t, "both wait", func() bool { return waiting(srv) == 2 })
	cancel()
	wantClass(t, <-done, function.ClassRetry, "canceled")
	select {
	case <-ended:
		t.Fatal("ended though somebody waits")
	case <-time.After(2 * linger):
	}
	cancelOther()
	wantClass(t, <-otherDone, function.ClassRetry, "canceled")
	if err := <-ended; err != context.Canceled {
		t.Errorf("the run ended with %v", err)
	}
	eventually(t, "no call is left", func() bool { return srv.calls.Load() == 0 })
	if srv.replies.bytes != 0 {
		t.Error("the result of a run that was given up is remembered")
	}
	go call(context.Background(), make(chan error, 1)) // it runs again
	<-started
}

// What is remembered is bounded in number, in bytes and in time.
func TestRepliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newReplies()
		deadline := time.Now().Add(time.Hour)
		do := func(i, size int) bool {
			a, repeated, ok := c.do(context.Background(), callKey{event: strconv.Itoa(i)}, deadline, func(context.Context) answer {
				return answer{status: http.StatusOK, body: make([]byte, size), ran: true}
			})
			if !ok || len(a.body) != size {
				t.Fatal("no answer")
			}
			return repeated
		}
		for i := range 3 * maxReplies {
			do(i, 10)
		}
		if len(c.by) != maxReplies || len(c.order) != maxReplies || do(3*maxReplies-1, 10) != true || do(0, 10) != false {
			t.Errorf("%d remembered", len(c.by))
		}
		for i := range 1000 {
			do(-1-i, 1<<20)
		}
		if c.bytes > maxReplyBytes || len(c.by) == 0 || len(c.by) > 16 {
			t.Errorf("%d bytes of %d replies", c.bytes, len(c.by))
		}
		do(1, maxReplyBytes/2) // too large to be remembered
		if do(1, maxReplyBytes/2) {
			t.Error("it is remembered")
		}
		time.Sleep(keepReplies - time.Second)
		if !do(-1000, 1<<20) {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Second)
		if do(-1000, 1<<20) {
			t.Error("remembered too long")
		}
		time.Sleep(keepReplies)
		if c.sweep(); len(c.by) != 0 || c.bytes != 0 || c.order != nil {
			t.Errorf("%d left, %d bytes", len(c.by), c.bytes)
		}
	})
}

// A run that breaks down leaves nothing behind, and whoever waited for it is told.
func TestExecutorPanics(t *testing.T) {
	s := newSite(t)
	started, finish := make(chan struct{}, 10), make(chan struct{})
	srv, _ := s.serve(t, "b", Doors{Exec: exec(func(context.Context, string, *ExecRequest) (*function.Result, error) {
		started <- struct{}{}
		<-finish
		panic("broken")
	})}, Limits{})
	p := s.peers(t, "a")
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := invoke(t, p, "b", callOf("1"))
			done <- err
		}()
	}
	<-started
	eventually(t, "both wait", func() bool { return waiting(srv) == 2 })
	close(finish)
	for range 2 {
		if err := <-done; function.ClassOf(err) != function.ClassRetry {
			t.Errorf("%v", err)
		}
	}
	eventually(t, "nothing is left", func() bool { return srv.calls.Load() == 0 && srv.bodies.used.Load() == 0 })
}

// waiting is how many requests wait for runs.
func waiting(srv *Server) (n int) {
	srv.replies.mu.Lock()
	defer srv.replies.mu.Unlock()
	for _, e := range srv.replies.by {
		if e.cancel != nil {
			n += e.waiting
		}
	}
	return n
}

func TestDraining(t *testing.T) {
	s := newSite(t)
	started, finish := make(chan struct{}), make(chan struct{})
	srv, stop := s.serve(t, "b", Doors{Exec: exec(func(_ context.Context, _ string, r *ExecRequest) (*function.Result, error) {
		if r.Event.ID == "1" {
			close(started)
			<-finish
		}
		return &function.Result{Failure: r.Event.ID}, nil
	})}, Limits{})
	p := s.peers(t, "a")
	done := make(chan error, 1)
	go func() {
		res, err := invoke(t, p, "b", callOf("1"))
		if res.Failure != "1" {
			t.Errorf("%+v", res)
		}
		done <- err
	}()
	<-started
	srv.draining.Store(true)
	_, err := invoke(t, p, "b", callOf("2"))
	wantClass(t, err, function.ClassOverload, KindDraining)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	_, err = invoke(t, p, "b", callOf("3"))
	if c := function.ClassOf(err); c != function.ClassOverload && c != function.ClassNotHere && c != function.ClassRetry {
		t.Errorf("%v", err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("what ran was not finished: %v", err)
	}
	<-stopped
}

func TestOpaque(t *testing.T) {
	s := newSite(t)
	big := make([]byte, MaxState)
	s.serve(t, "b", Doors{
		State: map[string]Answer{
			"catalog": func(_ context.Context, from string, b []byte) ([]byte, error) {
				return append([]byte(from+":"), b...), nil
			},
			"fails": func(context.Context, string, []byte) ([]byte, error) {
				return nil, &function.Error{Op: "pull", Subject: "x", Class: function.ClassReject, Kind: "gate", Hint: "do this"}
			},
			"big":     func(context.Context, string, []byte) ([]byte, error) { return big, nil },
			"too big": func(context.Context, string, []byte) ([]byte, error) { return append(big, 1), nil },
		},
		Keyring: func(_ context.Context, from string) ([]byte, error) { return []byte("ring for " + from), nil },
	}, Limits{})
	p := s.peers(t, "a")
	ctx := context.Background()
	if b, err := p.Pull(ctx, "b", "catalog", []byte("hello")); err != nil || string(b) != "a:hello" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := p.Pull(ctx, "b", "big", big); err != nil || len(b) != MaxState {
		t.Errorf("%d %v", len(b), err)
	}
	for name, kind := range map[string]string{"fails": "gate", "too big": "too-large", "nothing": kindAbsent} {
		_, err := p.Pull(ctx, "b", name, nil)
		if function.KindOf(err) != kind {
			t.Errorf("%s: %v of kind %s", name, err, function.KindOf(err))
		}
	}
	_, err := p.Pull(ctx, "b", "catalog", append(big, 1))
	wantClass(t, err, function.ClassReject, "too-large")
	if b, err := p.Keyring(ctx, "b"); err != nil || string(b) != "ring for a" {
		t.Errorf("%q %v", b, err)
	}
}

func TestAdmin(t *testing.T) {
	s := newSite(t)
	s.serve(t, "b", Doors{Admin: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path) // the client will see
	})}, Limits{})
	ask := func(who string) (int, string) {
		r, err := http.NewRequest(http.MethodGet, "http://unix/v1/admin/functions", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.peers(t, who).Admin(context.Background(), "b", r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, text := ask("operator"); status != http.StatusOK || text != "/v1/admin/functions" {
		t.Errorf("operator: %d %q", status, text)
	}
	if status, text := ask("a"); status != http.StatusForbidden || text != "" {
		t.Errorf("node: %d %q", status, text)
	}
}
