package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func live(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func TestPeersAreRememberedAndForgotten(t *testing.T) {
	p := newPeers("me", []Peer{{"seed", "10.0.0.1:1"}, {"me", "10.0.0.2:1"}})
	p.met("b", "10.0.0.3:1")
	p.met("me", "10.0.0.2:1")
	p.met("seed", "10.0.0.4:1") // it has moved: both addresses are worth a try
	b, err := p.save(false)
	if err != nil || b == nil {
		t.Fatal("nothing to save", err)
	}
	if again, _ := p.save(false); again != nil {
		t.Error("saved twice without a change: flash wears out")
	}
	p.missed(live("b"), forgetAfter-time.Hour)

	q := newPeers("me", nil)
	if err := q.load(b); err != nil {
		t.Fatal(err)
	}
	if got := q.missing(live()); len(got) != 2 {
		t.Errorf("after a restart: %v", got)
	}
	if got := p.missing(live("b")); len(got) != 2 || got[0].name != "seed" || got[1].name != "seed" {
		t.Errorf("missing: %v", got)
	}
	p.missed(live(), 2*time.Hour)
	if got := p.missing(live()); len(got) != 3 {
		t.Errorf("a seed is never forgotten, and b was missing for two hours: %v", got)
	}
	p.missed(live(), forgetAfter)
	if got := p.missing(live()); len(got) != 2 || got[0].name == "b" {
		t.Errorf("b was missing for 60 days: %v", got)
	}
	if newPeers("me", nil).load([]byte("{damaged")) == nil {
		t.Error("what is damaged was loaded")
	}
}

func TestPeersAreBounded(t *testing.T) {
	p := newPeers("me", []Peer{{"seed", "10.0.0.1:1"}})
	p.met("old", "10.0.0.2:1")
	p.missed(live(), time.Hour)
	for i := range peersMax {
		p.met(fmt.Sprint(i), "10.0.0.3:1")
	}
	if len(p.known) > peersMax || p.known["seed"] == nil || p.known["old"] != nil {
		t.Errorf("%d peers; the one that is missing longest goes first", len(p.known))
	}
	if !p.met("seed", "10.0.0.1:1") || p.met("seed", "10.0.0.1:1") {
		t.Error("the seed was missing once")
	}
	p.forget("seed")
	if p.known["seed"] != nil {
		t.Error("a revoked peer is remembered")
	}
}
