package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/agent/meter"
	"mayfly/function"
)

// purse is what functions spent: earlier is in the ledger since some time, totals are this process's.
type purse struct {
	mu      sync.Mutex
	now     time.Time
	totals  map[meter.Subject]meter.Usage
	ledger  map[string]meter.Usage
	since   time.Time
	failing bool
}

func (p *purse) spent(from time.Time) (a, b map[string]meter.Usage, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing {
		return nil, nil, errors.New("the disk says no")
	}
	a, b = map[string]meter.Usage{}, map[string]meter.Usage{}
	if !from.After(p.since) {
		maps.Copy(a, p.ledger)
		for s, u := range p.totals {
			sum := a[s.Function]
			sum.Add(u)
			a[s.Function] = sum
		}
	}
	for s, u := range p.totals {
		sum := b[s.Function]
		sum.Add(u)
		b[s.Function] = sum
	}
	return a, b, nil
}

func (p *purse) budgets() *budgets {
	b := newBudgets(p.spent, p.all, slog.New(slog.DiscardHandler))
	b.now = p.clock
	return b
}

func (p *purse) all() map[meter.Subject]meter.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.totals)
}

func (p *purse) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *purse) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func (p *purse) use(tenant string, events uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := meter.Subject{Function: "f", Tenant: tenant}
	u := p.totals[s]
	u.Add(meter.Usage{Events: events})
	p.totals[s] = u
}

func newPurse() *purse {
	return &purse{now: time.Date(2026, 11, 22, 23, 59, 0, 0, time.UTC), totals: map[meter.Subject]meter.Usage{}, ledger: map[string]meter.Usage{}}
}

func thrifty(then string) *function.Function {
	return &function.Function{Version: 1, Manifest: function.Manifest{Name: "f", Budget: function.Budget{Per: function.PerDay, Events: 100, Warn: 0.8, Then: then}}}
}

// A function that used up its budget rests, whatever its tenants, until the next period; it says why; one that is only to warn goes on ([L5]).
func TestBudgetStopsUntilTheNextPeriod(t *testing.T) {
	t.Parallel()
	p := newPurse()
	p.since = function.PerDay.Start(p.now)
	p.ledger["f"] = meter.Usage{Events: 50} // before a restart
	b, f, other := p.budgets(), thrifty(function.ThenStop), &function.Function{Manifest: function.Manifest{Name: "free"}}
	rests := func() bool {
		t.Helper()
		out := b.apply([]*function.Function{f, other})
		if len(out) != 2 || out[1] != other || !out[0].Paused && out[0] != f || out[0].Version != f.Version {
			t.Fatalf("%+v", out)
		}
		reason, hint, rests := b.resting("f")
		if rests != out[0].Paused || rests != (reason != "" && hint != "") {
			t.Fatalf("%v: %q %q", rests, reason, hint)
		}
		return rests
	}
	if rests() || len(b.warnings()) != 0 {
		t.Error("50 of 100")
	}
	p.use("", 30)
	if rests() || b.warnings()["f"] != "80 of 100 events per day" {
		t.Errorf("80 of 100: %v", b.warnings())
	}
	p.use("acme", 20)
	if !rests() {
		t.Error("100 of 100 goes on")
	}
	if reason, _, _ := b.resting("f"); !strings.Contains(reason, "100 of 100 events per day") || !strings.Contains(reason, "2026-11-23 00:00 UTC") {
		t.Error(reason)
	}
	first := b.apply([]*function.Function{f})[0]
	if b.apply([]*function.Function{f})[0] != first {
		t.Error("a resting function is another one every time")
	}
	p.pass(2 * time.Minute)
	if rests() || len(b.warnings()) != 0 {
		t.Error("it rests in the next period too")
	}
	p.use("", 99)
	if rests() {
		t.Error("99 of the new period")
	}
	p.pass(-time.Hour)
	if !rests() {
		t.Error("a clock that goes back gives a second budget for the day before")
	}
	more := thrifty(function.ThenStop)
	more.Manifest.Budget.Events = 1000
	if f = more; rests() {
		t.Error("it rests after its budget was raised")
	}
	f = thrifty(function.ThenWarn)
	if rests() || b.warnings()["f"] == "" {
		t.Error("it rests where it should only be told")
	}
	f = &function.Function{Manifest: function.Manifest{Name: "f"}}
	if rests() || len(b.by) != 0 {
		t.Error("a budget that is gone")
	}
}

// What was spent before cannot be read for a moment: nothing rests for that, and it is tried again.
func TestBudgetWithoutLedger(t *testing.T) {
	t.Parallel()
	p := newPurse()
	p.since, p.ledger["f"], p.failing = function.PerDay.Start(p.now), meter.Usage{Events: 200}, true
	b, f := p.budgets(), thrifty(function.ThenStop)
	if b.apply([]*function.Function{f})[0].Paused {
		t.Error("it rests for a disk that says no")
	}
	p.failing = false
	if !b.apply([]*function.Function{f})[0].Paused {
		t.Error("it goes on")
	}
}

// It is looked at every second while there are budgets, changes are passed on until they are taken, and nothing wakes where there are none.
func TestBudgetsAreWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPurse()
		b := p.budgets()
		var fails, told atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- b.watch(ctx, func() error {
				told.Add(1)
				if fails.Add(-1) >= 0 {
					return errors.New("busy")
				}
				return nil
			})
		}()
		b.apply([]*function.Function{thrifty(function.ThenStop)})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if told.Load() != 0 {
			t.Errorf("told %d times of nothing", told.Load())
		}
		p.use("", 100)
		fails.Store(2)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if told.Load() != 3 {
			t.Errorf("told %d times, with two failures", told.Load())
		}
		p.pass(time.Hour)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, _, rests := b.resting("f"); rests || told.Load() != 4 {
			t.Errorf("the next period: %v, told %d times", rests, told.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
