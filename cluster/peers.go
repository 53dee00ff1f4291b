package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// peers is who this node has ever met and where: what it rejoins by. How long one is missing is counted in time this node ran, not
// by the wall clock: a device that lay in a drawer for a year, or whose clock begins in 1970, still knows everybody.
type peers struct {
	self string

	mu    sync.Mutex
	known map[string]*peer
	own   string // our own address when it was last known
	dirty bool   // an address or a name changed since the last save
}

type peer struct {
	Addr    string        `json:"addr"`
	Missing time.Duration `json:"missing,omitempty"` // in all, since it was met last
	seed    string        // the configured address; never forgotten
}

const (
	peersMax    = 1024
	forgetAfter = 60 * 24 * time.Hour
	notMet      = time.Nanosecond // missing since this process began
)

func newPeers(self string, seeds []Peer) *peers {
	p := &peers{self: self, known: map[string]*peer{}}
	for _, s := range seeds {
		if s.Name != self {
			p.known[s.Name] = &peer{Addr: s.Addr, seed: s.Addr, Missing: notMet}
		}
	}
	return p
}

// load adds what was saved.
func (p *peers) load(b []byte) error {
	saved := map[string]*peer{}
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, &saved); err != nil {
		return fmt.Errorf("remembered peers: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range saved {
		if s != nil && name == p.self {
			p.own = s.Addr
		}
		if s == nil || s.Addr == "" || name == "" || name == p.self || len(p.known) >= peersMax {
			continue
		}
		s.Missing = max(s.Missing, notMet)
		if k := p.known[name]; k != nil {
			k.Addr, k.Missing = s.Addr, s.Missing
			continue
		}
		p.known[name] = s
	}
	return nil
}

// save returns what to save, nil when there is nothing new.
func (p *peers) save(force bool) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dirty && !force {
		return nil, nil
	}
	p.dirty = false
	all := maps.Clone(p.known)
	if p.own != "" {
		all[p.self] = &peer{Addr: p.own}
	}
	return json.Marshal(all)
}

// at takes note of our own address and says whether it was another one before, perhaps before a restart.
func (p *peers) at(addr string) (moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == addr {
		return false
	}
	moved = p.own != ""
	p.own, p.dirty = addr, true
	return moved
}

// unsaved takes note that a save failed.
func (p *peers) unsaved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirty = true
}

// met takes note of a member and says whether it was missing.
func (p *peers) met(name, addr string) (missing bool) {
	if name == p.self {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[name]
	if k == nil {
		k = &peer{}
		p.known[name] = k
		p.trim()
	}
	if k.Addr != addr {
		k.Addr, p.dirty = addr, true
	}
	missing = k.Missing > 0
	k.Missing = 0
	return missing
}

// trim forgets who is missing longest when there are too many. The lock is held.
func (p *peers) trim() {
	for len(p.known) > peersMax {
		worst := ""
		for name, k := range p.known {
			if k.seed == "" && k.Addr != "" && (worst == "" || k.Missing > p.known[worst].Missing) {
				worst = name
			}
		}
		if worst == "" {
			return
		}
		delete(p.known, worst)
	}
}

func (p *peers) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[name]; ok {
		delete(p.known, name)
		p.dirty = true
	}
}

// missed adds to the time of everybody who is not live, and forgets who is missing too long.
func (p *peers) missed(live func(string) bool, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, k := range p.known {
		if live(name) {
			k.Missing = 0
			continue
		}
		k.Missing += d
		if k.Missing > forgetAfter && k.seed == "" {
			delete(p.known, name)
			p.dirty = true
		}
	}
}

// candidate is somebody to join by.
type candidate struct {
	name, addr string
	missing    time.Duration
}

// missing returns who is not live, in random order; a seed that has moved is there twice.
func (p *peers) missing(live func(string) bool) []candidate {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []candidate
	for name, k := range p.known {
		if live(name) {
			continue
		}
		all = append(all, candidate{name, k.Addr, k.Missing})
		if k.seed != "" && k.seed != k.Addr {
			all = append(all, candidate{name, k.seed, k.Missing})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.name+a.addr, b.name+b.addr) })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
