package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
	"mayfly/triggers/cron"
)

// schedules keeps what fires equal to the schedules of the deployed functions. A tick is in the journal, and remembered as fired,
// by one write.
type schedules struct {
	store notebook
	fired *fired // of the cluster; nil = this node is alone
	post  func(dispatch.Request, triggers.Receipt) error
	built time.Time
	log   *slog.Logger
	set   *triggers.Set

	mu      sync.Mutex
	sources map[string]*cron.Source // by key
	shown   map[string]*cron.Source // by trigger
	faults  map[string]string       // by trigger
}

func newSchedules(s notebook, post func(dispatch.Request, triggers.Receipt) error, log *slog.Logger) *schedules {
	return &schedules{
		store: s, post: post, built: built(), log: log, set: triggers.NewSet(log),
		sources: map[string]*cron.Source{}, shown: map[string]*cron.Source{}, faults: map[string]string{},
	}
}

// built is a time that is certainly over: that of the commit this program was built from or, where that is not known, the year
// this was written.
func built() time.Time {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return at
	}
	for _, s := range info.Settings {
		if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil && t.After(at) {
			at = t
		}
	}
	return at
}

// apply runs the schedules of the functions that may run here, and forgets those of triggers that are gone.
func (s *schedules) apply(functions []*function.Function, may func(f *function.Function, trigger string, c function.CronTrigger) bool) error {
	ids := map[tickID]bool{}
	want := map[string]func() triggers.Running{}
	known := map[string]bool{}
	s.mu.Lock()
	clear(s.faults)
	clear(s.shown)
	for _, f := range functions {
		for i, c := range f.Manifest.Cron {
			name := fmt.Sprintf("cron[%d]", i)
			known[triggerID(f.Name(), name)] = true
			if c.Scope != function.ScopeNode {
				ids[tickIDOf(f.Name(), name, c.Schedule)] = true
			}
			if !f.Paused && may(f, name, c) { // what comes due meanwhile is missed
				s.plan(f, name, c, want)
			}
		}
	}
	for key := range s.sources {
		if want[key] == nil {
			delete(s.sources, key)
		}
	}
	s.mu.Unlock()
	if s.fired != nil {
		s.fired.keep(ids)
	}
	s.set.Apply(want)
	return s.forget(known)
}

// plan adds one trigger to want. Called with mu held.
func (s *schedules) plan(f *function.Function, name string, c function.CronTrigger, want map[string]func() triggers.Running) {
	id := triggerID(f.Name(), name)
	key := fmt.Sprintf("%s %s %s", id, c.Misfire, c.Schedule)
	t := ticker{s, f.Name(), name, c.Schedule, c.Scope != function.ScopeNode && s.fired != nil}
	source := s.sources[key]
	if source == nil {
		last := func() (time.Time, error) { return t.last(f.Deployed) }
		var err error
		source, err = cron.New(cron.Trigger{Function: f.Name(), Name: name, Schedule: c.Schedule, Misfire: c.Misfire, Last: last}, s.built, s.log)
		if err != nil {
			s.faults[id] = err.Error()
			return
		}
		s.sources[key] = source
	}
	s.shown[id] = source
	want[key] = func() triggers.Running { return triggers.Running{Source: source, Sink: t} }
}

// forget removes what is remembered of triggers that are gone: deployed again, they begin anew.
func (s *schedules) forget(known map[string]bool) error {
	var ops []store.Op
	err := s.store.Scan(store.Trigger.All(), nil, func(key, _ []byte, _ uint64) bool {
		_, name, rest, ok := store.SplitKey(key)
		if trigger, cron := strings.CutPrefix(string(rest), "cron/"); ok && cron && !known[triggerID(name, trigger)] {
			ops = append(ops, store.Op{Key: append([]byte(nil), key...), Delete: true})
		}
		return true
	})
	if err != nil || len(ops) == 0 {
		return err
	}
	synced := make(chan error, 1)
	if err := s.store.Submit(ops, func(err error) { synced <- err }); err != nil {
		return err
	}
	return <-synced
}

// close ends all sources; nothing fires afterwards.
func (s *schedules) close() { s.set.Close() }

// state returns when a trigger fires next, and why it does not, if so.
func (s *schedules) state(function, trigger string) (next time.Time, fault, waiting string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := triggerID(function, trigger)
	source := s.shown[id]
	if source == nil {
		return time.Time{}, s.faults[id], ""
	}
	st := source.Status()
	return st.Next, "", st.Waiting
}

// missed counts the ticks nothing was made of.
func (s *schedules) missed() (sum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, source := range s.sources {
		sum += source.Status().Missed
	}
	return sum
}

// ticker is the sink of one schedule.
type ticker struct {
	s                 *schedules
	function, trigger string
	schedule          string
	shared            bool // it is the cluster's
}

// tick is what is remembered of a trigger.
type tick struct {
	Schedule string
	Last     time.Time
}

func (t ticker) key() []byte { return store.Trigger.Key(t.function, []byte("cron/"+t.trigger)) }

// last returns the last tick that was journaled, or otherwise if there was none of this schedule.
func (t ticker) last(otherwise time.Time) (time.Time, error) {
	value, version, err := t.s.store.Get(t.key())
	var known tick
	if err != nil {
		return otherwise, err
	}
	if version != 0 && json.Unmarshal(value, &known) == nil && known.Schedule == t.schedule {
		otherwise = known.Last
	} else if at := time.Now().Add(-takeover); t.shared && at.After(otherwise) {
		otherwise = at // somebody else had it, who fired what was due before
	}
	if t.shared {
		if at, ok := t.s.fired.last(tickIDOf(t.function, t.trigger, t.schedule)); ok && at.After(otherwise) {
			return at, nil
		}
	}
	return otherwise, nil
}

// takeover is about how long it takes until a schedule whose owner died has another one.
const takeover = 20 * time.Second

// told tells the other nodes of a tick when it is safe.
type told struct {
	triggers.Receipt
	tell func()
}

// Settle implements triggers.Receipt.
func (r told) Settle(s triggers.Settlement) {
	if s.Err == nil {
		r.tell()
	}
	r.Receipt.Settle(s)
}

// Accept implements triggers.Sink.
func (t ticker) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	if t.shared {
		at := ev.Time
		r = told{r, func() { t.s.fired.did(tickIDOf(t.function, t.trigger, t.schedule), at) }}
	}
	value, err := json.Marshal(tick{t.schedule, ev.Time.UTC()})
	if err == nil {
		err = t.s.post(dispatch.Request{
			Function: t.function, Trigger: t.trigger, Event: ev, Lane: t.trigger,
			Also: []store.Op{{Key: t.key(), Value: value}},
		}, r)
	}
	if err != nil {
		r.Settle(triggers.Settlement{Err: err})
	}
	return err
}
