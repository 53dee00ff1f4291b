// Package cron turns schedules into events. What a schedule means is in package function; here is what happens as time goes by: a
// node that was off, a disk without room, a clock that is wrong or jumps. DESIGN.md walks through it.
package cron

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
	_ "time/tzdata" // a small device has no zones of its own

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

const (
	look       = time.Minute     // how often the clock is looked at, at least: it may have been set, or the device been asleep
	again      = 5 * time.Second // wait before a tick that was refused is offered again
	onTime     = 2 * look        // a tick that is later than this was missed
	backwards  = 3 * time.Hour   // a clock that goes back by more was wrong before, by less it repeats itself
	mostAtOnce = 100             // ticks that misfire = "all" makes up for
	countable  = 10_000          // missed ticks that are counted one by one
)

// Trigger is a schedule of a function.
type Trigger struct {
	Function string
	Name     string // "cron[0]"
	Schedule string
	Misfire  function.Misfire // "" = once

	// Last is asked when Run begins. It returns the last tick that became an event or, if there was none yet, when the trigger came to
	// be: from there on ticks count as missed.
	Last func() (time.Time, error)
}

// Source fires one trigger. It implements triggers.Source.
type Source struct {
	t        Trigger
	schedule function.Schedule
	zone     *time.Location
	built    time.Time
	log      *slog.Logger
	now      func() time.Time

	last time.Time // of Run alone; zero = not asked yet

	mu     sync.Mutex
	status Status
}

// Status is what a source does now.
type Status struct {
	Next    time.Time // zero: never, or not known yet
	Waiting string    // why it does not fire although it should; "" = it does
	Fired   uint64
	Missed  uint64 // ticks nothing was made of; counted up to 10,000 at a time
}

// New checks the schedule and its zone. built is when this program was made: while the clock shows less, it is not believed.
func New(t Trigger, built time.Time, log *slog.Logger) (*Source, error) {
	schedule, zone, err := Parse(t.Function, t.Schedule)
	if err != nil {
		return nil, err
	}
	if t.Misfire == "" {
		t.Misfire = function.MisfireOnce
	}
	return &Source{
		t: t, schedule: schedule, zone: zone, built: built, now: time.Now,
		log: log.With("function", t.Function, "trigger", t.Name),
	}, nil
}

// Parse reads a schedule of the function of that name and finds its time zone; without one it is the device's own.
func Parse(name, text string) (function.Schedule, *time.Location, error) {
	schedule, err := function.ParseSchedule(text)
	zone := time.Local
	if err == nil && schedule.Zone != "" {
		zone, err = time.LoadLocation(schedule.Zone)
	}
	if err != nil {
		return schedule, nil, &function.Error{
			Op: "read schedule", Subject: name, Class: function.ClassReject, Kind: "schedule", Err: fmt.Errorf("%q: %w", text, err),
			Hint: "zones are called like Europe/Berlin: timedatectl list-timezones",
		}
	}
	return schedule, zone, nil
}

// Status returns a snapshot. Safe for concurrent use.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run fires until ctx ends. A tick is offered to the sink and counts as fired when it is settled without error; until then no
// later one is offered. The sink must keep the event and remember its time, in one step.
func (s *Source) Run(ctx context.Context, to triggers.Sink) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(s.turn(ctx, to))
	}
}

// turn fires what is due and returns how long there is nothing to do.
func (s *Source) turn(ctx context.Context, to triggers.Sink) time.Duration {
	if s.last.IsZero() {
		last, err := s.t.Last()
		if err != nil {
			s.wait(err.Error())
			return again
		}
		s.last = last
	}
	now := s.now()
	if now.Before(s.built) {
		s.wait(fmt.Sprintf("the clock shows %s, which cannot be: it has not been set since the device started", now.UTC().Format(time.DateTime)))
		return look
	}
	if s.last.Sub(now) > backwards {
		s.log.Warn("the clock was wrong when the last tick was written down, or is now; going on from now", "last", s.last, "now", now)
		s.last = now
	}
	due, total := s.due(now)
	fire := due
	if n := len(due); n > 0 && s.t.Misfire != function.MisfireAll {
		fire = due[n-1:]
		if s.t.Misfire == function.MisfireSkip && now.Sub(due[n-1]) > onTime {
			fire = nil
		}
	}
	for _, tick := range fire {
		if err := s.fire(ctx, to, tick); err != nil {
			s.wait(err.Error())
			return again
		}
		s.last = tick
	}
	if len(due) > 0 {
		s.last = due[len(due)-1]
	}
	return s.sleep(total-len(fire), len(fire))
}

// sleep says what is next and how long to wait for it, or for the next look at the clock.
func (s *Source) sleep(missed, fired int) time.Duration {
	now := s.now()
	after := now
	if s.last.After(now) {
		after = s.last
	}
	next := s.schedule.Next(after, s.zone)
	if missed > 0 {
		s.log.Info("ticks were missed", "missed", missed, "made up for", fired, "policy", string(s.t.Misfire))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Next, s.status.Waiting = next, ""
	s.status.Missed += uint64(missed)
	if next.IsZero() {
		return look
	}
	return min(max(next.Sub(now), time.Millisecond), look)
}

func (s *Source) wait(why string) {
	s.mu.Lock()
	fresh := s.status.Waiting == ""
	s.status.Waiting = why
	s.mu.Unlock()
	if fresh {
		s.log.Warn("schedule waits", "why", why)
	}
}

// due returns the latest ticks after last and until now, oldest first, and how many there were, or more than countable.
func (s *Source) due(now time.Time) (ticks []time.Time, total int) {
	for t := s.schedule.Next(s.last, s.zone); !t.IsZero() && !t.After(now); t = s.schedule.Next(t, s.zone) {
		if total++; total > countable {
			return s.newest(now), total
		}
		if len(ticks) == mostAtOnce {
			ticks = append(ticks[:0], ticks[1:]...)
		}
		ticks = append(ticks, t)
	}
	return ticks, total
}

// newest returns the latest ticks until now, when there are many: it looks back twice as far until it has enough.
func (s *Source) newest(now time.Time) []time.Time {
	for back := time.Minute; ; back *= 2 {
		var ticks []time.Time
		for t := s.schedule.Next(now.Add(-back), s.zone); !t.IsZero() && !t.After(now); t = s.schedule.Next(t, s.zone) {
			ticks = append(ticks, t)
		}
		if len(ticks) >= mostAtOnce {
			return ticks[len(ticks)-mostAtOnce:]
		}
	}
}

// fire offers one tick and waits until it is settled. The event's id says which tick it is: fired twice it is the same event.
func (s *Source) fire(ctx context.Context, to triggers.Sink, tick time.Time) error {
	ev := &event.Event{
		ID:     fmt.Sprintf("%s/%s/%s", s.t.Function, s.t.Name, tick.UTC().Format(time.RFC3339)),
		Source: "cron://" + s.t.Function, Type: event.TypeCron, Time: tick, Subject: s.t.Schedule,
	}
	settled := make(receipt, 1)
	_ = to.Accept(ctx, ev, settled) // what is wrong is in the settlement too
	if st := <-settled; st.Err != nil {
		return st.Err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Fired++
	return nil
}

// receipt takes the settlement to who waits for it.
type receipt chan triggers.Settlement

// Settle implements triggers.Receipt.
func (r receipt) Settle(s triggers.Settlement) { r <- s }
