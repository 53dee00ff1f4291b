package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// handler is every route of the gateway.
func (g *Gateway) handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

// serveHTTP finds out what a request is for: what is the gateway's own, else a route.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if g.shares(w, r) {
		return
	}
	path := r.URL.Path
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	name, called := strings.CutPrefix(path, function.ReservedPath)
	id, late := strings.CutPrefix(path, function.ResultsPath)
	switch {
	case called && !strings.Contains(name, "/"):
		g.invoke(w, r, name)
	case late && !strings.Contains(id, "/"):
		g.result(w, r, id)
	case path == "/healthz" && reads:
		g.health(w, r)
	case path == "/readyz" && reads:
		g.ready(w, r)
	case path == "/openapi.json" && reads:
		g.openAPI(w, r)
	default:
		g.table.Load().mux.ServeHTTP(w, r) // the most specific route, by the rules of net/http
	}
}

func (g *Gateway) health(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

// ready says no reasons: everybody may ask.
func (g *Gateway) ready(w http.ResponseWriter, _ *http.Request) {
	if g.closing.Load() || g.c.Ready != nil && g.c.Ready() != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready")
		return
	}
	fmt.Fprintln(w, "ready")
}

// target is what a request is for.
type target struct {
	route    *Route // Trigger "" = it was called by its name
	source   string // of the event
	method   string // "" = POST, as always
	captures []event.Attr
	by       identity
}

// invoke is POST /fn/<name>.
func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request, name string) {
	who, p := g.byName(r, name)
	if p != nil {
		g.problem(w, p)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		g.problem(w, &problem{Status: http.StatusMethodNotAllowed, Kind: "method", Title: "Functions are run with POST", Detail: "the method was " + r.Method})
		return
	}
	to := &target{route: &Route{Function: name, CallerRate: g.c.Rate}, source: function.ReservedPath + name, by: who}
	if g.slower(w, to) {
		return
	}
	g.run(w, r, to)
}

// slower answers a caller who calls too often.
func (g *Gateway) slower(w http.ResponseWriter, to *target) bool {
	rate, wait := to.route.CallerRate, time.Duration(0)
	if rate.Count == 0 && to.route.Rate.Count == 0 {
		return false
	}
	key := to.route.Function + " " + to.route.Trigger
	if rate.Count > 0 {
		wait = g.limits.take(caller{key, g.name(&to.by)}, rate)
	}
	if wait == 0 {
		rate = to.route.Rate
		wait = g.limits.take(caller{key, ""}, rate)
	}
	if wait == 0 {
		return false
	}
	g.problem(w, &problem{
		Status: http.StatusTooManyRequests, Kind: "rate", Title: "Too many requests", Detail: "the limit is " + rate.String(),
		Next: "try again later", after: seconds(wait),
	})
	return true
}

// run runs a function for a request and answers it.
func (g *Gateway) run(w http.ResponseWriter, r *http.Request, to *target) {
	if p := streaming(r); p != nil {
		g.problem(w, p)
		return
	}
	if g.running.Add(1) > int64(g.c.Limits.Concurrency) {
		g.running.Add(-1)
		g.problem(w, &problem{
			Status: http.StatusServiceUnavailable, Kind: "busy", Title: "Too many functions are running",
			Detail: fmt.Sprintf("%d run or wait to run for other callers", g.c.Limits.Concurrency), Next: "try again later", after: "1",
		})
		return
	}
	answer := &receipt{running: &g.running}
	accepted := false
	defer func() {
		if !accepted { // also after a panic, which net/http survives
			answer.leave()
		}
	}()
	ev, p := g.readEvent(w, r, to)
	if p != nil {
		g.problem(w, p)
		return
	}
	w.Header()["Mayfly-Event"] = []string{ev.ID}
	ctx := r.Context()
	call, place, err := Call{Function: to.route.Function, Trigger: to.route.Trigger, Event: ev}, "", error(nil)
	if later(r.Header) {
		place = g.results.open(to.route, g.name(&to.by)).id
		call.Late = late{g.results, place}
		w.Header().Set("Preference-Applied", "respond-async")
		err = g.c.Functions.Post(call, answer)
	} else {
		err = g.c.Functions.Invoke(ctx, call, answer)
	}
	if err != nil {
		g.results.close(place)
		g.problem(w, g.explain(to.route.Function, err))
		return
	}
	accepted = true
	g.await(ctx, w, replyTo(r, to, ev, place), answer)
}

// streaming says why a request that asks for a stream cannot have one: a function runs for one event, takes it whole and answers whole.
func streaming(r *http.Request) *problem {
	what := ""
	switch {
	case first(r.Header, "Upgrade") != "":
		what = "Upgrade: " + first(r.Header, "Upgrade")
	case strings.HasPrefix(first(r.Header, "Accept"), "text/event-stream"):
		what = "Accept: text/event-stream"
	case strings.HasPrefix(first(r.Header, "Content-Type"), "application/grpc"):
		what = "Content-Type: " + first(r.Header, "Content-Type")
	default:
		return nil
	}
	return &problem{
		Status: http.StatusNotImplemented, Kind: "streaming", Title: "There are no streams here",
		Detail: what + " asks for one; a function takes one request whole and answers it whole", Next: "subscribe to what it publishes by MQTT",
	}
}

// first is Header.Get for a name that is written as net/http keeps it: finding that out for each of a dozen costs more than looking.
func first(h http.Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// later says whether the caller prefers not to wait (RFC 7240).
func later(h http.Header) bool {
	for _, line := range h["Prefer"] {
		for preference := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// await answers when the call is settled, or its time is over: the place stays taken until the function has ended.
func (g *Gateway) await(ctx context.Context, w http.ResponseWriter, to reply, answer *receipt) {
	settled := answer.settled()
	if settled == nil { // most functions are done by now
		g.answer(w, to, answer.with)
		return
	}
	patience := time.NewTimer(g.c.Limits.Timeout)
	defer patience.Stop()
	select {
	case <-settled:
		g.answer(w, to, answer.with)
	case <-ctx.Done():
		g.count(499) // the caller left; the number nginx gives it
	case <-patience.C:
		g.problem(w, &problem{
			Status: http.StatusGatewayTimeout, Kind: "timeout", Title: "The function did not answer in time",
			Detail: fmt.Sprintf("there was no answer within %v; it may still run", g.c.Limits.Timeout), Next: "look at it with: mayfly logs " + to.function,
		})
	}
}

// reply is how a request is to be answered.
type reply struct {
	function string
	place    string // of the result, for a caller who does not wait
	cloud    *cloudReply
}

// receipt takes the settlement to the request that waits for it, if it still does.
type receipt struct {
	running *atomic.Int64 // counts it until it leaves
	left    atomic.Bool

	mu   sync.Mutex
	over bool
	with triggers.Settlement // never changes once over
	wake chan struct{}       // made by who has to wait, closed when over
}

// leave gives back the place, once.
func (r *receipt) leave() {
	if r.left.CompareAndSwap(false, true) {
		r.running.Add(-1)
	}
}

// Settle implements triggers.Receipt. It never blocks; only the first counts.
func (r *receipt) Settle(s triggers.Settlement) {
	r.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over, r.with = true, s
	if r.wake != nil {
		close(r.wake)
	}
}

// settled returns what is closed when with is there, nil when it is.
func (r *receipt) settled() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && r.wake == nil {
		r.wake = make(chan struct{})
	}
	if r.over {
		return nil
	}
	return r.wake
}

func (g *Gateway) answer(w http.ResponseWriter, to reply, s triggers.Settlement) {
	if s.Err != nil || !s.Journaled {
		g.results.close(to.place)
	}
	switch name := to.function; {
	case s.Err != nil:
		g.problem(w, g.explain(name, s.Err))
	case s.Journaled:
		if to.place != "" {
			w.Header().Set("Location", function.ResultsPath+to.place)
		}
		g.count(http.StatusAccepted)
		w.WriteHeader(http.StatusAccepted)
	case s.Outcome != function.Done:
		class := function.ClassRetry
		if s.Outcome == function.Reject {
			class = function.ClassReject
		}
		g.problem(w, g.explain(name, &function.Error{Op: "invoke", Subject: name, Class: class, Kind: s.Outcome.String(), Hint: "mayfly logs " + name}))
	default:
		g.respond(w, to, s.Response)
	}
}

// respond writes what the function answered; 204 when it did not.
func (g *Gateway) respond(w http.ResponseWriter, to reply, res *function.Response) {
	if res == nil {
		g.count(http.StatusNoContent)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status := res.Status
	if status == 0 {
		status = http.StatusOK
	}
	if status < 200 || status >= len(g.answered) {
		g.problem(w, &problem{
			Status: http.StatusBadGateway, Kind: "status", Title: "The function's answer is not valid",
			Detail: fmt.Sprintf("it answered with the status %d", status), Next: "look at it with: mayfly logs " + to.function,
		})
		return
	}
	h := w.Header()
	if to.cloud != nil {
		res = to.cloud.dress(h, res)
	}
	for _, a := range res.Header {
		if !ours(a.Name) {
			h.Add(a.Name, a.Value) // net/http leaves out names that are none and takes line breaks out of values
		}
	}
	if res.ContentType != "" {
		h.Set("Content-Type", res.ContentType)
	} else if first(h, "Content-Type") == "" {
		h["Content-Type"] = []string{"application/octet-stream"}
	}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	g.count(status)
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		w.Write(res.Data) // an error means the caller left
	}
}

// ours says whether a header describes the connection or the framing, which are not the function's (RFC 9110 section 7.6.1).
func ours(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Content-Length", "Date", "Keep-Alive", "Mayfly-Event", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

func (g *Gateway) count(status int) { g.answered[status].Add(1) }

// seconds is d for Retry-After: whole seconds, at least one.
func seconds(d time.Duration) string {
	return fmt.Sprint(max(1, int64((d+time.Second-1)/time.Second)))
}
