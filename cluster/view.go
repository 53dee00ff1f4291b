package cluster

import (
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// view is who is live. It outlives sessions: a change of our own address is no reason to lose sight of everybody.
type view struct {
	admit func(Member) error

	mu         sync.Mutex
	live       map[string]entry
	generation int
	sorted     []Member // nil = to be made
	changed    chan struct{}
}

type entry struct {
	Member
	generation int // the session that met it last
}

func newView(admit func(Member) error) *view {
	return &view{admit: admit, live: map[string]entry{}, changed: make(chan struct{})}
}

// begin starts a session and returns its number.
func (v *view) begin() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.generation++
	return v.generation
}

func (v *view) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.live)
	v.touch()
}

// touch tells the watchers. The lock is held.
func (v *view) touch() {
	v.sorted = nil
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *view) put(m Member, generation int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if generation != v.generation {
		return
	}
	old, ok := v.live[m.Name]
	v.live[m.Name] = entry{m, generation}
	if !ok || old.Member != m {
		v.touch()
	}
}

func (v *view) drop(name string, generation int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.live[name]; !ok || generation != v.generation {
		return false
	}
	delete(v.live, name)
	v.touch()
	return true
}

// purge drops who was met by an earlier session only.
func (v *view) purge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := len(v.live)
	for name, e := range v.live {
		if e.generation != v.generation {
			delete(v.live, name)
		}
	}
	if len(v.live) != before {
		v.touch()
	}
}

// recheck drops who is not admitted any more and returns the names.
func (v *view) recheck() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var gone []string
	for name, e := range v.live {
		if v.admit(e.Member) != nil {
			delete(v.live, name)
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		v.touch()
	}
	return gone
}

func (v *view) members() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sorted == nil {
		v.sorted = make([]Member, 0, len(v.live))
		for _, e := range v.live {
			v.sorted = append(v.sorted, e.Member)
		}
		slices.SortFunc(v.sorted, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	}
	return v.sorted
}

func (v *view) has(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.live[name]
	return ok && e.generation == v.generation
}

func (v *view) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return max(len(v.live), 1)
}

func (v *view) watch() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// events takes note of what one session of memberlist sees. memberlist holds its locks meanwhile.
type events struct {
	c          *Cluster
	generation int
}

// NotifyJoin implements memberlist.EventDelegate.
func (e *events) NotifyJoin(n *memberlist.Node) { e.seen(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e *events) NotifyUpdate(n *memberlist.Node) { e.seen(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (e *events) NotifyLeave(n *memberlist.Node) {
	if n.Name == e.c.config.Name {
		return // our own goodbye
	}
	if e.c.view.drop(n.Name, e.generation) {
		e.c.loads.forget(n.Name)
		e.c.log.Info("a member is gone", "member", n.Name, "left", n.State == memberlist.StateLeft)
	}
}

func (e *events) seen(n *memberlist.Node) {
	m, err := memberOf(n)
	if err == nil {
		err = e.c.admit(m)
	}
	if err != nil {
		e.c.view.drop(n.Name, e.generation)
		return // NotifyAlive has said why
	}
	e.c.view.put(m, e.generation)
	if e.c.peers.met(m.Name, m.Addr.String()) {
		signal(e.c.returned)
	}
}
