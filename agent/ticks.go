package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"time"

	"mayfly/agent/ownership"
	"mayfly/agent/placement"
	"mayfly/function"
	"mayfly/store"
)

// ticksState is under which name the last ticks are spread.
const ticksState = "ticks"

// tickID names a schedule of a trigger: another schedule is another one.
type tickID [8]byte

func tickIDOf(function, trigger, schedule string) (id tickID) {
	sum := sha256.Sum256([]byte(function + "\x00" + trigger + "\x00" + schedule))
	copy(id[:], sum[:])
	return id
}

// fired is which ticks of the cluster's schedules were fired last, whoever did. It is spread by gossip, so that a node that takes a
// schedule over goes on where the one before was: a tick is fired twice only when its owner dies before the news of it is out. It
// implements cluster.State.
type fired struct {
	announce func([]byte) error

	mu    sync.Mutex
	known map[tickID]int64 // schedules there are, and the last tick in Unix seconds; 0 = none
	saved map[tickID]int64
	said  map[tickID]time.Time
}

func newFired(s notebook, announce func([]byte) error) (*fired, error) {
	f := &fired{announce: announce, known: map[tickID]int64{}, said: map[tickID]time.Time{}}
	text, version, err := s.Get(ticksKey())
	if err != nil || version == 0 {
		return f, err
	}
	f.known, err = decodeTicks(text)
	if err != nil {
		f.known = map[tickID]int64{} // it is learned again
	}
	f.saved = maps.Clone(f.known)
	return f, nil
}

func ticksKey() []byte { return store.Trigger.Key("", []byte("ticks")) }

const (
	tickSize  = 16
	maxTicks  = 500 // schedules that fit into a digest
	sayAgain  = 10 * time.Second
	saveTicks = 10 * time.Minute
)

// MarshalBinary implements cluster.State.
func (f *fired) MarshalBinary() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return encodeTicks(f.known), nil
}

func encodeTicks(all map[tickID]int64) (b []byte) {
	for id, at := range all {
		if at != 0 && len(b) < maxTicks*tickSize {
			b = binary.BigEndian.AppendUint64(append(b, id[:]...), uint64(at))
		}
	}
	return b
}

var errTicks = errors.New("not a list of ticks")

func decodeTicks(b []byte) (map[tickID]int64, error) {
	if len(b)%tickSize != 0 || len(b) > maxTicks*tickSize {
		return nil, errTicks
	}
	all := map[tickID]int64{}
	for ; len(b) > 0; b = b[tickSize:] {
		all[tickID(b[:8])] = int64(binary.BigEndian.Uint64(b[8:]))
	}
	return all, nil
}

// Merge implements cluster.State.
func (f *fired) Merge(from string, digest []byte) error {
	_, err := f.Heard(from, digest)
	return err
}

// Heard implements cluster.State. A tick that is yet to come was not fired: whoever says so has a wrong clock, or lies.
func (f *fired) Heard(_ string, announcement []byte) (news bool, err error) {
	all, err := decodeTicks(announcement)
	if err != nil {
		return false, err
	}
	latest := time.Now().Add(time.Minute).Unix()
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, at := range all {
		if before, ok := f.known[id]; ok && at > before && at <= latest {
			f.known[id], news = at, true
		}
	}
	return news, nil
}

// keep says which schedules there are; the rest is forgotten.
func (f *fired) keep(ids map[tickID]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.known {
		if !ids[id] {
			delete(f.known, id)
			delete(f.said, id)
		}
	}
	for id := range ids {
		if _, ok := f.known[id]; !ok {
			f.known[id] = 0
		}
	}
}

// did takes note of a tick that this node fired, and tells the others, every few seconds at most.
func (f *fired) did(id tickID, at time.Time) {
	f.mu.Lock()
	f.known[id] = max(f.known[id], at.Unix())
	quiet := time.Since(f.said[id]) < sayAgain
	if !quiet {
		f.said[id] = time.Now()
	}
	b := encodeTicks(map[tickID]int64{id: at.Unix()})
	f.mu.Unlock()
	if !quiet {
		_ = f.announce(b) // who does not hear it learns it with the next exchange
	}
}

// last returns the last tick of a schedule that anybody fired, and false when none is known.
func (f *fired) last(id tickID) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.known[id]
	return time.Unix(at, 0).UTC(), at != 0
}

// unsaved returns the write that makes what is known last, nil when it does already.
func (f *fired) unsaved() []store.Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	if maps.Equal(f.known, f.saved) {
		return nil
	}
	f.saved = maps.Clone(f.known)
	return []store.Op{{Key: ticksKey(), Value: encodeTicks(f.known)}}
}

// firesHere says whether a schedule of the cluster is this node's: it has one owner among the nodes that may run the function, by the
// same rendezvous as other triggers. There is no broker to ask: when gossip is parted each part has an owner, and the ids of events,
// which are made of trigger and tick, are what tells their ticks apart.
func (a *Agent) firesHere(f *function.Function, trigger string) bool {
	if time.Since(a.began) < settleTime && len(a.pool.known.copy()) > 0 {
		return false // who has just started sees nobody yet
	}
	var all []ownership.Node
	view := a.viewer.now()
	for _, n := range append([]placement.Node{view.Self}, view.Peers...) {
		draining := n.Draining
		n.Draining = false
		all = append(all, ownership.Node{
			ID: n.ID, Weight: float64(n.Slots) * n.Speed, Eligible: len(placement.Failed(f, &n)) == 0, BrokerUp: true, Draining: draining,
		})
	}
	top, ok := ownership.Top("cron "+triggerID(f.Name(), trigger), all)
	return ok && top.ID == a.node.ID
}

// settleTime is how long after its start a node waits for the others before it takes the cluster's schedules.
const settleTime = 10 * time.Second

// mayFire says whether a schedule fires here.
func (a *Agent) mayFire(f *function.Function, trigger string, c function.CronTrigger) bool {
	if len(a.unmet(f)) > 0 {
		return false
	}
	if log := a.changelog(f); log != nil {
		return log.Claim() != 0 // where its state is
	}
	return a.pool == nil || c.Scope == function.ScopeNode || a.firesHere(f, trigger)
}

// watchSchedules gives the cluster's schedules to their owners as nodes come and go, until ctx ends.
func (a *Agent) watchSchedules(ctx context.Context) error {
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	save := time.NewTicker(saveTicks)
	defer save.Stop()
	for {
		changed := a.pool.bell.wait()
		select {
		case <-ctx.Done():
			return a.save(a.ticks.fired.unsaved())
		case <-save.C:
			if err := a.save(a.ticks.fired.unsaved()); err != nil {
				a.log.Warn("which ticks were fired could not be written down", "err", err)
			}
			continue
		case <-changed:
		case <-settled.C:
		}
		a.reconcil.Lock()
		err := a.ticks.apply(a.functions(), a.mayFire)
		a.reconcil.Unlock()
		if err != nil {
			a.log.Error("schedules could not be given to their owners; trying again when something changes", "err", err)
		}
	}
}
