package agent

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

func ticking(name, schedule string, deployed time.Time) *function.Function {
	return &function.Function{
		Manifest: function.Manifest{Name: name, Cron: []function.CronTrigger{{Schedule: schedule}}}, Deployed: deployed,
	}
}

func everywhere(*function.Function, string, function.CronTrigger) bool { return true }

// A tick and the memory of it are one write: what posts it makes both true, or neither.
func TestTickIsRememberedWithItsEvent(t *testing.T) {
	st, _ := opened(t, t.TempDir())
	refuse := errors.New("no room")
	s := newSchedules(st, func(q dispatch.Request, r triggers.Receipt) error {
		if refuse != nil {
			return refuse
		}
		return st.Submit(q.Also, func(err error) { r.Settle(triggers.Settlement{Err: err, Journaled: true}) })
	}, slog.New(slog.DiscardHandler))
	deployed, due := time.Now().Add(-time.Hour).Truncate(time.Second), time.Now().Truncate(time.Second)
	tk := ticker{s, "f", "cron[0]", "0 0 * * *", false}
	offer := func() triggers.Settlement {
		settled := make(answer, 1)
		_ = tk.Accept(t.Context(), &event.Event{Time: due}, settled)
		return <-settled
	}
	if got := offer(); !errors.Is(got.Err, refuse) {
		t.Errorf("refused, but settled with %+v", got)
	}
	if last, err := tk.last(deployed); err != nil || !last.Equal(deployed) {
		t.Errorf("a refused tick is remembered: %v, %v", last, err)
	}
	refuse = nil
	if got := offer(); got.Err != nil {
		t.Error(got.Err)
	}
	if last, err := tk.last(deployed); err != nil || !last.Equal(due) {
		t.Errorf("last tick %v, %v; want %v", last, err, due)
	}
	other := ticker{s, "f", "cron[0]", "0 1 * * *", false}
	if last, err := other.last(deployed); err != nil || !last.Equal(deployed) {
		t.Errorf("another schedule begins at %v, %v; want %v", last, err, deployed)
	}
}

// What runs follows what is deployed, and a trigger that is removed is forgotten.
func TestSchedulesFollowTheCatalog(t *testing.T) {
	st, _ := opened(t, t.TempDir())
	posted := make(chan string, 100)
	s := newSchedules(st, func(q dispatch.Request, r triggers.Receipt) error {
		posted <- q.Function
		return st.Submit(q.Also, func(err error) { r.Settle(triggers.Settlement{Err: err, Journaled: true}) })
	}, slog.New(slog.DiscardHandler))
	defer s.close()
	apply := func(functions ...*function.Function) {
		t.Helper()
		if err := s.apply(functions, everywhere); err != nil {
			t.Fatal(err)
		}
	}
	hour := time.Now().Add(-time.Hour)
	f, bad := ticking("f", "CRON_TZ=UTC 0 0 1 1 *", hour), ticking("bad", "CRON_TZ=Nowhere/Land 0 0 * * *", hour)
	paused := ticking("paused", "@every 1s", hour)
	paused.Paused = true
	often := ticking("often", "@every 1s", hour)
	apply(f, bad, paused, often)
	for range 2 {
		select {
		case name := <-posted:
			if name != "often" {
				t.Errorf("%s fired", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing fired")
		}
	}
	if _, fault, _ := s.state("bad", "cron[0]"); fault == "" {
		t.Error("nobody says that there is no such zone")
	}
	next := s.shown["f/cron[0]"]
	apply(f, often)
	if s.shown["f/cron[0]"] != next {
		t.Error("a schedule that did not change was started anew")
	}
	key := store.Trigger.Key("often", []byte("cron/cron[0]"))
	if _, version, err := st.Get(key); err != nil || version == 0 {
		t.Errorf("nothing is remembered: %v", err)
	}
	apply(f)
	if _, version, err := st.Get(key); err != nil || version != 0 {
		t.Errorf("a removed trigger is remembered: version %d, %v", version, err)
	}
}
