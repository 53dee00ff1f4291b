package gateway

import (
	"container/list"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"mayfly/function"
	"mayfly/triggers"
)

// What is kept for callers who do not wait. It is in memory: a restart forgets it, not the event.
const (
	maxResults     = 10_000
	maxResultBytes = 16 << 20 // of all answers together
	keepResult     = 10 * time.Minute
)

// results are what became of requests whose callers did not wait. The oldest make room for new ones [T5].
type results struct {
	mu    sync.Mutex
	byID  map[string]*list.Element
	order list.List // of *result, oldest first
	bytes int
}

// result is one of them.
type result struct {
	id      string
	of      Route  // who may read it: whom this route lets in ...
	who     string // ... if it is the same caller
	began   time.Time
	settled *triggers.Settlement // nil = not yet
	bytes   int
}

func newResults() *results { return &results{byID: map[string]*list.Element{}} }

// open makes a place for the result of a request.
func (s *results) open(of *Route, who string) *result {
	res := &result{id: rand.Text(), of: *of, who: who, began: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	if s.order.Len() >= maxResults {
		s.drop(s.order.Front())
	}
	s.byID[res.id] = s.order.PushBack(res)
	return res
}

// tidy drops those whose time is over. Called with mu held.
func (s *results) tidy() {
	for e := s.order.Front(); e != nil && time.Since(e.Value.(*result).began) > keepResult; e = s.order.Front() {
		s.drop(e)
	}
}

func (s *results) drop(e *list.Element) {
	res := s.order.Remove(e).(*result)
	s.bytes -= res.bytes
	delete(s.byID, res.id)
}

func (s *results) find(id string) (result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	if e := s.byID[id]; e != nil {
		return *e.Value.(*result), true
	}
	return result{}, false
}

// late is the receipt of one result.
type late struct {
	results *results
	id      string
}

// Settle implements triggers.Receipt: the function has run, or was given up.
func (l late) Settle(s triggers.Settlement) { l.results.settle(l.id, &s) }

func (s *results) settle(id string, what *triggers.Settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[id]
	if e == nil {
		return
	}
	res := e.Value.(*result)
	res.settled = what
	if what.Response != nil {
		res.bytes = len(what.Response.Data)
	}
	s.bytes += res.bytes
	for s.bytes > maxResultBytes && s.order.Len() > 1 {
		s.drop(s.order.Front())
	}
	if s.bytes > maxResultBytes {
		s.drop(e)
	}
}

// close takes back a place that nothing will come into.
func (s *results) close(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil {
		s.drop(e)
	}
}

// result is GET /results/<id>: 202 until the function has run, then what it answered, for the caller it was for and nobody else.
func (g *Gateway) result(w http.ResponseWriter, r *http.Request, id string) {
	unknown := &problem{
		Status: http.StatusNotFound, Kind: "no-result", Title: "There is no such result",
		Detail: fmt.Sprintf("results are kept for %v, not over a restart of the agent, and for their callers only", keepResult),
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		g.problem(w, &problem{Status: http.StatusMethodNotAllowed, Kind: "method", Title: "Results are read with GET", Detail: "the method was " + r.Method})
		return
	}
	res, ok := g.results.find(id)
	if !ok {
		g.problem(w, unknown)
		return
	}
	var who identity
	var p *problem
	if res.of.Trigger == "" {
		who, p = g.byName(r, res.of.Function)
	} else {
		who, p = g.admit(r, &res.of)
	}
	switch {
	case p != nil:
		g.problem(w, p)
	case res.of.Auth != function.AuthPublic && g.name(&who) != res.who: // who has the address of a public one's result is who got it
		g.problem(w, unknown)
	case res.settled == nil:
		w.Header().Set("Retry-After", "1")
		g.count(http.StatusAccepted)
		w.WriteHeader(http.StatusAccepted)
	default:
		w.Header().Set("Cache-Control", "no-store")
		g.answer(w, reply{function: res.of.Function}, *res.settled)
	}
}
