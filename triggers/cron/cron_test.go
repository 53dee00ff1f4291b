package cron

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

// notes is a sink that writes down when which tick came.
type notes struct {
	mu     sync.Mutex
	refuse error // of the next events
	came   []string
	ids    []string
}

func (n *notes) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse == nil {
		n.came = append(n.came, ev.Time.UTC().Format("15:04:05"))
		n.ids = append(n.ids, ev.ID)
	}
	r.Settle(triggers.Settlement{Err: n.refuse, Journaled: n.refuse == nil})
	return nil
}

func (n *notes) refusing(why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = why
}

// rig runs a source in a bubble, whose clock starts at midnight of the first of January 2000.
type rig struct {
	t     *testing.T
	s     *Source
	sink  *notes
	shift atomic.Int64 // of the wall clock
	stop  func()
}

func start(t *testing.T, c Trigger, shift time.Duration) *rig {
	t.Helper()
	c.Function, c.Name = "f", "cron[0]"
	c.Schedule = "CRON_TZ=UTC " + c.Schedule
	if c.Schedule == "CRON_TZ=UTC @every 1s" {
		c.Schedule = "@every 1s"
	}
	s, err := New(c, time.Date(1999, 6, 1, 0, 0, 0, 0, time.UTC), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, s: s, sink: &notes{}}
	r.shift.Store(int64(shift))
	s.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(r.shift.Load())) } // without the monotonic clock
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, r.sink) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return r
}

func (r *rig) after(d time.Duration, want ...string) {
	r.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	if !slices.Equal(r.sink.came, want) {
		r.t.Errorf("after %v came %v, want %v", d, r.sink.came, want)
	}
	r.sink.came = nil
}

func since(t time.Time) func() (time.Time, error) {
	return func() (time.Time, error) { return t, nil }
}

func midnight() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Trigger{Schedule: "*/5 * * * *", Last: since(midnight())}, 0)
		defer r.stop()
		r.after(4*time.Minute + 59*time.Second)
		r.after(time.Second, "00:05:00")
		r.after(time.Hour, "00:10:00", "00:15:00", "00:20:00", "00:25:00", "00:30:00", "00:35:00", "00:40:00", "00:45:00", "00:50:00", "00:55:00", "01:00:00", "01:05:00")
		if want := "f/cron[0]/2000-01-01T00:05:00Z"; r.sink.ids[0] != want {
			t.Errorf("id %q, want %q", r.sink.ids[0], want)
		}
		if st := r.s.Status(); st.Fired != 13 || st.Missed != 0 || st.Waiting != "" || !st.Next.Equal(midnight().Add(70*time.Minute)) {
			t.Errorf("status %+v", st)
		}
	})
}

func TestEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Trigger{Schedule: "@every 1s", Last: since(midnight())}, 0)
		defer r.stop()
		r.after(3*time.Second, "00:00:01", "00:00:02", "00:00:03")
	})
}

func TestMisfire(t *testing.T) {
	for _, c := range []struct {
		policy function.Misfire
		off    time.Duration
		want   []string
		missed uint64
	}{
		{function.MisfireSkip, 30 * time.Minute, nil, 3},
		{function.MisfireSkip, time.Second, nil, 0},
		{function.MisfireOnce, 30 * time.Minute, []string{"23:55:00"}, 2},
		{"", 30 * time.Minute, []string{"23:55:00"}, 2},
		{function.MisfireAll, 30 * time.Minute, []string{"23:35:00", "23:45:00", "23:55:00"}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Trigger{Schedule: "5-55/10 * * * *", Misfire: c.policy, Last: since(midnight().Add(-c.off))}, 0)
			defer r.stop()
			r.after(time.Second, c.want...)
			if st := r.s.Status(); st.Missed != c.missed {
				t.Errorf("%q after %v: missed %d, want %d", c.policy, c.off, st.Missed, c.missed)
			}
			r.after(10*time.Minute, "00:05:00")
		})
	}
}

// A long time off is not a storm, whatever the policy and however fine the schedule.
func TestLongTimeOffIsNoStorm(t *testing.T) {
	for _, policy := range []function.Misfire{function.MisfireSkip, function.MisfireOnce, function.MisfireAll} {
		for _, off := range []time.Duration{24 * time.Hour, 30 * 365 * 24 * time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Trigger{Schedule: "@every 1s", Misfire: policy, Last: since(midnight().Add(-off))}, 0)
				defer r.stop()
				time.Sleep(time.Millisecond)
				synctest.Wait()
				want := 1 // the latest is on time
				if policy == function.MisfireAll {
					want = 100
				}
				if n := len(r.sink.came); n != want || r.sink.came[n-1] != "00:00:00" {
					t.Errorf("%s after %v: %d events, want %d; %v", policy, off, n, want, r.sink.came)
				}
			})
		}
	}
}

// A clock that nobody has set yet fires nothing; when it is set, what was missed is missed once.
func TestClockNotSetYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Trigger{Schedule: "*/5 * * * *", Last: since(midnight().Add(-time.Hour))}, -30*365*24*time.Hour)
		defer r.stop()
		r.after(time.Hour)
		if st := r.s.Status(); st.Waiting == "" {
			t.Errorf("nobody says why nothing happens: %+v", st)
		}
		r.shift.Store(int64(time.Second))
		r.after(time.Minute, "01:00:00")
		if st := r.s.Status(); st.Waiting != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Trigger{Schedule: "*/10 * * * *", Last: since(midnight())}, 0)
		defer r.stop()
		r.after(10*time.Minute, "00:10:00")
		r.shift.Store(int64(-15 * time.Minute)) // it shows 23:55 again: nothing is done twice
		r.after(24 * time.Minute)
		r.after(time.Minute, "00:20:00")
		r.shift.Store(int64(2 * time.Hour)) // from 00:20 to 02:35
		r.after(time.Minute, "02:30:00")
		r.shift.Store(int64(-20 * 24 * time.Hour)) // it was wrong by weeks: go on from what it shows now
		r.after(20*time.Minute, "00:40:00", "00:50:00")
	})
}

// A tick that finds no room is offered again, and later ones do not pass it.
func TestRefusedTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Trigger{Schedule: "*/10 * * * *", Misfire: function.MisfireAll, Last: since(midnight())}, 0)
		defer r.stop()
		synctest.Wait()
		r.sink.refusing(errors.New("the disk is full"))
		r.after(25 * time.Minute)
		if st := r.s.Status(); st.Waiting != "the disk is full" {
			t.Errorf("status %+v", st)
		}
		r.sink.refusing(nil)
		r.after(10*time.Second, "00:10:00", "00:20:00")
	})
}

func TestParse(t *testing.T) {
	for _, s := range []string{"CRON_TZ=Nowhere/Land 0 0 * * *", "0 0 * *"} {
		if _, err := New(Trigger{Function: "f", Schedule: s}, time.Time{}, slog.New(slog.DiscardHandler)); function.KindOf(err) != "schedule" || fmt.Sprint(err) == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, zone, err := Parse("f", "0 6 * * *"); err != nil || zone != time.Local {
		t.Errorf("without a zone: %v, %v", zone, err)
	}
}
