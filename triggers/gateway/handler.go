package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// handler is every route of the gateway.
func (g *Gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", g.health)
	mux.HandleFunc("GET /readyz", g.ready)
	mux.Handle("/fn/{name}", g.guarded(http.HandlerFunc(g.invoke)))
	mux.Handle("GET /openapi.json", g.guarded(http.HandlerFunc(g.openAPI)))
	mux.HandleFunc("/", g.route)
	return mux
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

// guarded lets in who has a token; where none are asked for, everybody but web pages: neither a page of another origin nor
// one that made its own name point to this machine (DNS rebinding).
func (g *Gateway) guarded(next http.Handler) http.Handler {
	if g.c.Tokens != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !g.c.Tokens.allow(r.Header.Get("Authorization")) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="mayfly"`)
				g.problem(w, &problem{
					Status: http.StatusUnauthorized, Kind: "unauthorized", Title: "A token is required",
					Detail: "the request has no token that is known here", Next: "send the header Authorization: Bearer <token>",
				})
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	origin := http.NewCrossOriginProtection()
	refuse := func(w http.ResponseWriter, why string) {
		g.problem(w, &problem{
			Status: http.StatusForbidden, Kind: "foreign-origin", Title: "Web pages may not run functions here",
			Detail: why, Next: "configure tokens",
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopback(strings.Trim(host, "[]")) {
			refuse(w, fmt.Sprintf("the request is addressed to %q, which is not a name of this machine", host))
			return
		}
		if err := origin.Check(r); err != nil {
			refuse(w, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// target is what a request is for.
type target struct {
	function string
	trigger  string // "" = it was called by its name
	source   string // of the event
	method   string // "" = POST, as always
	captures []event.Attr
}

// invoke is POST /fn/<name>.
func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		g.problem(w, &problem{Status: http.StatusMethodNotAllowed, Kind: "method", Title: "Functions are run with POST", Detail: "the method was " + r.Method})
		return
	}
	name := r.PathValue("name")
	g.run(w, r, &target{function: name, source: function.ReservedPath + name})
}

// run runs a function for a request and answers it.
func (g *Gateway) run(w http.ResponseWriter, r *http.Request, to *target) {
	select {
	case g.slots <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		g.problem(w, &problem{
			Status: http.StatusServiceUnavailable, Kind: "busy", Title: "Too many functions are running",
			Detail: fmt.Sprintf("%d run or wait to run for other callers", cap(g.slots)), Next: "try again later",
		})
		return
	}
	answer := &receipt{settled: make(chan triggers.Settlement, 1), leave: sync.OnceFunc(func() { <-g.slots })}
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
	w.Header().Set("Mayfly-Event", ev.ID)
	ctx, cancel := context.WithTimeout(r.Context(), g.c.Limits.Timeout)
	defer cancel()
	var err error
	if call := (Call{to.function, to.trigger, ev}); later(r.Header) {
		w.Header().Set("Preference-Applied", "respond-async")
		err = g.c.Functions.Post(call, answer)
	} else {
		err = g.c.Functions.Invoke(ctx, call, answer)
	}
	if err != nil {
		g.problem(w, g.explain(to.function, err))
		return
	}
	accepted = true
	g.await(ctx, w, to.function, answer)
}

// later says whether the caller prefers not to wait (RFC 7240).
func later(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
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
func (g *Gateway) await(ctx context.Context, w http.ResponseWriter, name string, answer *receipt) {
	select {
	case s := <-answer.settled:
		g.answer(w, name, s)
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			g.count(499) // the caller left; the number nginx gives it
			return
		}
		g.problem(w, &problem{
			Status: http.StatusGatewayTimeout, Kind: "timeout", Title: "The function did not answer in time",
			Detail: fmt.Sprintf("there was no answer within %v; it may still run", g.c.Limits.Timeout), Next: "look at it with: mayfly logs " + name,
		})
	}
}

// receipt takes the settlement to the request that waits for it, if it still does.
type receipt struct {
	settled chan triggers.Settlement
	leave   func()
}

// Settle never blocks: the channel has room for the one settlement there is.
func (r *receipt) Settle(s triggers.Settlement) {
	r.leave()
	select {
	case r.settled <- s:
	default:
	}
}

func (g *Gateway) answer(w http.ResponseWriter, name string, s triggers.Settlement) {
	switch {
	case s.Err != nil:
		g.problem(w, g.explain(name, s.Err))
	case s.Journaled:
		g.count(http.StatusAccepted)
		w.WriteHeader(http.StatusAccepted)
	case s.Outcome != function.Done:
		class := function.ClassRetry
		if s.Outcome == function.Reject {
			class = function.ClassReject
		}
		g.problem(w, g.explain(name, &function.Error{Op: "invoke", Subject: name, Class: class, Kind: s.Outcome.String()}))
	default:
		g.respond(w, name, s.Response)
	}
}

// respond writes what the function answered; 204 when it did not.
func (g *Gateway) respond(w http.ResponseWriter, name string, res *function.Response) {
	if res == nil {
		g.count(http.StatusNoContent)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status := res.Status
	if status == 0 {
		status = http.StatusOK
	}
	if status < 200 || status > 599 {
		g.problem(w, &problem{
			Status: http.StatusBadGateway, Kind: "status", Title: "The function's answer is not valid",
			Detail: fmt.Sprintf("it answered with the status %d", status), Next: "look at it with: mayfly logs " + name,
		})
		return
	}
	h := w.Header()
	for _, a := range res.Header {
		if !ours(a.Name) {
			h.Add(a.Name, a.Value) // net/http leaves out names that are none and takes line breaks out of values
		}
	}
	if res.ContentType != "" {
		h.Set("Content-Type", res.ContentType)
	} else if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("X-Content-Type-Options", "nosniff")
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

func (g *Gateway) count(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answered[status]++
}

// seconds is d for Retry-After: whole seconds, at least one.
func seconds(d time.Duration) string {
	return fmt.Sprint(max(1, int64((d+time.Second-1)/time.Second)))
}
