package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mayfly/agent/meter"
	"mayfly/function"
)

// budgetEvery is how often functions that have a budget are looked at: how much longer one may go on that has used it up.
const budgetEvery = time.Second

// budgets watches what functions spend, and says which of them rest until their next period. Nothing of it is kept on disk: a node that starts
// again adds up the ledger. Safe for concurrent use.
type budgets struct {
	spent  func(from time.Time) (spent, totals map[string]meter.Usage, err error)
	totals func() map[meter.Subject]meter.Usage
	now    func() time.Time
	log    *slog.Logger
	wake   chan struct{} // functions with budgets came, or went

	mu sync.Mutex
	by map[string]*spending // function; those with a budget
}

// spending is what became of one function's budget.
type spending struct {
	function *function.Function // with the budget
	resting  *function.Function // it, paused
	from     time.Time          // of the period
	until    time.Time
	before   meter.Usage // used in the period when totals were at
	at       meter.Usage

	level level
	words string // how much is used
}

type level uint8

const (
	levelFine level = iota
	levelWarn       // enough to say so
	levelOver       // all of it
)

func newBudgets(spent func(time.Time) (a, b map[string]meter.Usage, err error), totals func() map[meter.Subject]meter.Usage, log *slog.Logger) *budgets {
	return &budgets{spent: spent, totals: totals, now: time.Now, log: log, wake: make(chan struct{}, 1), by: map[string]*spending{}}
}

// apply returns functions with those paused that have used up their budgets and are to stop then. A paused one waits as if an operator had
// paused it: its events stay at the broker and in the journal.
func (b *budgets) apply(functions []*function.Function) []*function.Function {
	b.mu.Lock()
	defer b.mu.Unlock()
	watched, out := map[string]*spending{}, make([]*function.Function, 0, len(functions))
	for _, f := range functions {
		if f.Manifest.Budget.Per != "" {
			watched[f.Name()] = b.watched(f)
		}
	}
	b.by = watched
	b.look()
	for _, f := range functions {
		if s := watched[f.Name()]; s != nil && s.rests() {
			f = s.resting
		}
		out = append(out, f)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return out
}

// watched is f's spending, as before if its budget is the same. Called with mu held.
func (b *budgets) watched(f *function.Function) *spending {
	s := b.by[f.Name()]
	if s == nil || s.function.Manifest.Budget != f.Manifest.Budget {
		s = &spending{}
	}
	if s.function != f {
		resting := *f
		resting.Paused = true
		s.function, s.resting = f, &resting
	}
	return s
}

func (s *spending) rests() bool {
	return s.level == levelOver && s.function.Manifest.Budget.Then == function.ThenStop
}

// look brings every spending up to date and reports whether a function rests that did not, or the other way round. A clock that goes to another
// period, forth or back, begins that one. Called with mu held.
func (b *budgets) look() (changed bool) {
	now := b.now()
	totals := map[string]meter.Usage{}
	for s, u := range b.totals() {
		sum := totals[s.Function]
		sum.Add(u)
		totals[s.Function] = sum
	}
	for name, s := range b.by {
		if now.Before(s.from) || !now.Before(s.until) {
			if err := s.begin(name, now, b.spent); err != nil {
				b.log.Warn("what a function has spent cannot be read; looking again", "function", name, "err", err)
				continue
			}
		}
		used := s.before
		used.Add(totals[name].Minus(s.at))
		changed = b.judge(name, s, used) || changed
	}
	return changed
}

// begin adds up what was spent already in the period of now.
func (s *spending) begin(name string, now time.Time, spent func(time.Time) (a, b map[string]meter.Usage, err error)) error {
	per := s.function.Manifest.Budget.Per
	before, at, err := spent(per.Start(now))
	if err != nil {
		return err
	}
	s.from, s.until, s.before, s.at = per.Start(now), per.Next(now), before[name], at[name]
	return nil
}

// judge says what used means for s, and tells it when that is something else than before.
func (b *budgets) judge(name string, s *spending, used meter.Usage) (changed bool) {
	budget := s.function.Manifest.Budget
	rested, was := s.rests(), s.level
	var part float64
	part, s.words = budget.Used(function.Spent{Events: int64(used.Events), CPU: time.Duration(used.CPU), BytesOut: int64(used.BytesOut)})
	switch {
	case part >= 1:
		s.level = levelOver
	case part >= budget.Warn:
		s.level = levelWarn
	default:
		s.level = levelFine
	}
	switch {
	case s.level > was && s.rests():
		b.log.Warn("a function has used up its budget and rests until the next period; its events wait", "function", name, "used", s.words, "until", s.until)
	case s.level > was:
		b.log.Warn("a function is using up its budget", "function", name, "used", s.words, "until", s.until)
	case rested && !s.rests():
		b.log.Info("a function goes on: its budget has room again", "function", name, "used", s.words)
	}
	return rested != s.rests()
}

// watch looks every second, as long as any function has a budget, and calls changed when one is to rest or to go on.
func (b *budgets) watch(ctx context.Context, changed func() error) error {
	turned := false
	for {
		b.mu.Lock()
		idle := len(b.by) == 0
		turned = b.look() || turned
		b.mu.Unlock()
		if turned {
			err := changed()
			if turned = err != nil; turned {
				b.log.Warn("functions cannot be paused or resumed for their budgets; trying again", "err", err)
			}
		}
		every := make(<-chan time.Time)
		if !idle {
			every = time.After(budgetEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-every:
		}
	}
}

// resting says why a function rests, and what to do about it.
func (b *budgets) resting(name string) (reason, hint string, rests bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.by[name]
	if s == nil || !s.rests() {
		return "", "", false
	}
	return fmt.Sprintf("its budget is used up on this node: %s; its events wait, and it goes on at %s", s.words, s.until.Format("2006-01-02 15:04 UTC")),
		"wait, or raise [budget] in its manifest and deploy again", true
}

// warnings are functions whose budgets are nearly or all used, in words.
func (b *budgets) warnings() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]string{}
	for name, s := range b.by {
		if s.level != levelFine {
			all[name] = s.words
		}
	}
	return all
}

// functions are the deployed ones as they are to run here: those whose budgets are used up rest.
func (a *Agent) functions() []*function.Function { return a.budgets.apply(a.catalog.List()) }
