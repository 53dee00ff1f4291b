package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// onTrial puts a second version beside b's function.
func onTrial(b *bench, percent int) *function.Canary {
	c := &function.Canary{Since: time.Now(), Rules: function.DefaultCanary()}
	c.Rules.Percent = percent
	m := b.fn.Manifest
	m.Version = "new"
	c.Function = &function.Function{Manifest: m, Version: b.fn.Version | 1<<63, Module: function.Digest{2}, Trial: true}
	fn := *b.fn
	fn.Canary = c
	b.fn = &fn
	b.d.Deploy([]*function.Function{b.fn}, []*Route{b.route})
	return c
}

// ledgers of who ran what.
type seen struct {
	mu  sync.Mutex
	all []string // topic, version, id
}

func (s *seen) add(call *function.Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, call.Event.Topic+" "+call.Function.Manifest.Version+" "+call.Event.ID)
}

// [R3] Each key meets one version, in order, also with retries and a pause between; the shares are about those that were asked for.
func TestTrialSharesByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seen
		failed := map[string]bool{}
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			s.add(call)
			s.mu.Lock()
			defer s.mu.Unlock()
			if id := call.Event.ID; strings.HasSuffix(id, "2") && !failed[id] {
				failed[id] = true
				return &function.Error{Op: "invoke", Subject: "f", Class: function.ClassRetry, Err: errors.New("once")}
			}
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Version = "old" })
		c := onTrial(b, 20)
		const keys = 500
		for round := range 3 {
			for k := range keys {
				b.send(fmt.Sprintf("in/%d", k), fmt.Sprintf("%d-%d", k, round))
			}
			time.Sleep(5 * time.Second)
			if round == 0 { // another change of the record is the same trial
				fn := *b.fn
				fn.Version++
				b.d.Deploy([]*function.Function{&fn}, []*Route{b.route})
			}
		}
		synctest.Wait()
		versions, ids := map[string]map[string]bool{}, map[string][]string{}
		for _, line := range s.all {
			w := strings.Fields(line)
			if versions[w[0]] == nil {
				versions[w[0]] = map[string]bool{}
			}
			versions[w[0]][w[1]] = true
			ids[w[0]] = append(ids[w[0]], w[2])
		}
		newer := 0
		for topic, v := range versions {
			if len(v) != 1 || !slices.IsSorted(ids[topic]) {
				t.Fatalf("%s met %v in the order %v", topic, v, ids[topic])
			}
			if v["new"] {
				newer++
			}
		}
		if newer < keys*15/100 || newer > keys*25/100 {
			t.Errorf("%d of %d keys met the new version, want about 20 %%", newer, keys)
		}
		trials := b.d.Trials()
		if len(trials) != 1 || !trials[0].Canary.Since.Equal(c.Since) || trials[0].New.Events+trials[0].Old.Events != uint64(len(s.all)) ||
			trials[0].New.Failed+trials[0].Old.Failed != uint64(len(failed)) || trials[0].New.Failed != uint64(newer) {
			t.Errorf("counted %+v; %d attempts, %d failed, of %d keys", trials, len(s.all), len(failed), newer)
		}
	})
}

// [R4] A version that is stopped gets nothing more, and what failed in it is tried again with the deployed one.
func TestStoppedTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seen
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			s.add(call)
			if call.Function.Trial {
				return &function.Error{Op: "invoke", Subject: "f", Class: function.ClassRetry, Err: errors.New("broken")}
			}
			return nil
		}, func(m *function.Manifest, _ *Route) { m.Version = "old" })
		c := onTrial(b, 100)
		b.send("in/x", "1")
		b.send("in/y", "2")
		synctest.Wait()
		b.d.StopTrial("f", c.Since.Add(time.Second)) // another trial
		if b.d.Trials()[0].Stopped {
			t.Error("the wrong trial was stopped")
		}
		b.d.StopTrial("f", c.Since)
		b.send("in/z", "3")
		time.Sleep(time.Minute)
		synctest.Wait()
		slices.Sort(s.all)
		want := []string{"in/x new 1", "in/x old 1", "in/y new 2", "in/y old 2", "in/z old 3"}
		if !slices.Equal(s.all, want) || b.done.count() != 3 {
			t.Errorf("ran %v, want %v; %d settled", s.all, want, b.done.count())
		}
		if trial := b.d.Trials()[0]; !trial.Stopped || trial.New.Failed != 2 {
			t.Errorf("%+v", trial)
		}
		if _, _, err := b.d.ExecuteHere(t.Context(), guestOfTrial(c)); function.ClassOf(err) != function.ClassNotHere {
			t.Errorf("a peer's call of it: %v", err)
		}
	})
}

func guestOfTrial(c *function.Canary) *function.Call {
	return &function.Call{
		Function: &function.Function{Manifest: function.Manifest{Name: "f"}, Version: c.Function.Version, Module: c.Function.Module},
		Event:    &event.Event{ID: "g", Topic: "in/x"}, Trigger: "mqtt[0]", Attempt: 1,
	}
}

// A peer says which of the two versions it means, and that one runs, also when both have the same module.
func TestGuestsOfATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seen
		b := newBench(t, func(call *function.Call, _ *function.Result) error { s.add(call); return nil }, func(m *function.Manifest, _ *Route) { m.Version = "old" })
		c := onTrial(b, 1)
		c.Function.Module = b.fn.Module
		for _, call := range []*function.Call{guestOfTrial(c), guestOf(b, "h")} {
			if _, _, err := b.d.ExecuteHere(t.Context(), call); err != nil {
				t.Error(err)
			}
		}
		if want := []string{"in/x new g", "in/x old h"}; !slices.Equal(s.all, want) {
			t.Errorf("ran %v, want %v", s.all, want)
		}
		b.fn.Canary = nil
		b.d.Deploy([]*function.Function{b.fn}, []*Route{b.route})
		if _, _, err := b.d.ExecuteHere(t.Context(), guestOfTrial(c)); function.ClassOf(err) != function.ClassNotHere || len(b.d.Trials()) != 0 {
			t.Errorf("after the end of the trial: %v, %v", err, b.d.Trials())
		}
	})
}

// The quantile is no less than the true one and at most an eighth and a microsecond more.
func TestQuantile(t *testing.T) {
	for _, d := range []time.Duration{0, time.Microsecond, 7 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 333 * time.Millisecond, time.Minute, time.Hour} {
		if up := upTo(bucketOf(d)); up < d.Truncate(time.Microsecond) || up > d+d/8+2*time.Microsecond {
			t.Errorf("%v is up to %v", d, up)
		}
	}
	var a arm
	for i := range 100 {
		a.times[bucketOf(time.Duration(i+1)*time.Millisecond)]++
		a.timed++
	}
	if p := a.sum().P90; p < 90*time.Millisecond || p > 102*time.Millisecond {
		t.Errorf("nine tenths of 1 to 100 ms: %v", p)
	}
}
