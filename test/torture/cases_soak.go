package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/admin"
	"mayfly/test/torture/history"
	"mayfly/test/torture/register"
)

// soak: functions with state and without, some that fail, a schedule and callers over HTTP, for as long as it is told. Nothing may
// grow but what is counted, and what came must be what was done, buried, filtered or known.
func soak(t *trial) error {
	door, err := freeAddress()
	if err != nil {
		return err
	}
	guests := append(usual(false),
		deploy{name: "reject", guest: "reject", config: "accept = \"0\"\n", silent: true},
		deploy{name: "tick", guest: "tick", state: true, silent: true, more: "[[trigger.cron]]\nschedule = \"@every 1s\"\n"},
		deploy{name: "register", guest: "register", state: true, silent: true})
	if err := t.begin(world{guests: guests, config: fmt.Sprintf("[gateway]\nlisten = %q\n", door)}); err != nil {
		return err
	}
	t.log.Ignore("reject")
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	var asked atomic.Int64
	var others sync.WaitGroup
	others.Go(func() { t.callSteadily(ctx, "http://"+door+"/fn/register", &asked) })
	stop := t.send("reject", 5)
	began, watch := time.Now(), &gauges{}
	for long := pick(t.workshop, 20*time.Second, t.long()); time.Since(began) < long; t.sleep(long / 60) {
		if err := watch.read(t); err != nil {
			return err
		}
	}
	stop()
	cancel()
	others.Wait()
	if err := t.settle(); err != nil {
		return err
	}
	return errors.Join(watch.grown(t), t.addUp(time.Since(began), asked.Load()))
}

// callSteadily makes a hundred requests a second at most, and counts those that were answered.
func (t *trial) callSteadily(ctx context.Context, url string, answered *atomic.Int64) {
	client := &http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		text := register.Call{Op: register.Put, Register: 1, A: n}.Text()
		resp, err := client.Post(url, "text/plain", bytes.NewReader([]byte(text)))
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusOK && len(body) == 8 && int64(binary.LittleEndian.Uint64(body)) == n {
			answered.Add(1)
		}
	}
}

// gauges are what may not grow, read again and again.
type gauges struct {
	rss, goroutines, files, disk []int64
}

func (g *gauges) read(t *trial) error {
	s, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", t.agent.pid()))
	if err != nil {
		return err
	}
	g.rss = append(g.rss, t.agent.rss())
	g.goroutines = append(g.goroutines, int64(s.Memory.Goroutines))
	g.files = append(g.files, int64(len(open)))
	g.disk = append(g.disk, onDisk(filepath.Join(t.dir, "data")))
	return nil
}

// onDisk is what a directory takes; files that go while it is looked at take nothing.
func onDisk(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what cannot be read is not counted
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}

// grown compares the middle of the second quarter with that of the last: by then everything is there that comes once.
func (g *gauges) grown(t *trial) error {
	var faults []error
	for _, x := range []struct {
		name    string
		all     []int64
		most    float64
		besides int64
	}{
		{"RSS", g.rss, 1.25, 16 << 20},
		{"goroutines", g.goroutines, 1.1, 20},
		{"open files", g.files, 1.1, 10},
		{"disk", g.disk, 2, 64 << 20}, // logs and tables come and go in files of that size
	} {
		n := len(x.all) / 4
		if n == 0 {
			return errors.New("the soak was too short to say anything")
		}
		early, late := middle(x.all[n:2*n]), middle(x.all[3*n:])
		t.notes = append(t.notes, fmt.Sprintf("%s: %d early, %d late", x.name, early, late))
		if float64(late) > x.most*float64(early)+float64(x.besides) {
			faults = append(faults, fmt.Errorf("%s grew from %d to %d", x.name, early, late))
		}
	}
	return errors.Join(faults...)
}

func middle(all []int64) int64 { return slices.Sorted(slices.Values(all))[len(all)/2] }

// addUp wants the agent's counters to agree with each other and with what was seen from outside.
func (t *trial) addUp(took time.Duration, asked int64) error {
	s, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, f := range s.Functions {
		c := f.Counters
		over := c.Done + c.DeadLettered + c.Filtered + c.Duplicate
		t.notes = append(t.notes, fmt.Sprintf("%s: received %d = done %d + dead %d + filtered %d + known %d; failed attempts %d", f.Name, c.Received,
			c.Done, c.DeadLettered, c.Filtered, c.Duplicate, c.Failed))
		if c.Received != over || c.Running+c.Queued != 0 {
			faults = append(faults, fmt.Errorf("%s received %d events, and %d are over", f.Name, c.Received, over))
		}
		switch seen := int64(t.log.Effects(f.Name)); {
		case f.Name == "register" && int64(c.Done) < asked:
			faults = append(faults, fmt.Errorf("%d requests were answered and %d done", asked, c.Done))
		case f.Name == "tick" && float64(c.Done) < 0.8*took.Seconds():
			faults = append(faults, fmt.Errorf("the schedule ran %d times in %v", c.Done, took.Round(time.Second)))
		case f.Name == "reject" && (c.Done > 0 || c.DeadLettered == 0 || int64(c.DeadLettered) != s.DeadLetters.Count):
			faults = append(faults, fmt.Errorf("%d dead letters, %d of reject, which did %d", s.DeadLetters.Count, c.DeadLettered, c.Done))
		case seen > 0 && int64(c.Done) < seen:
			faults = append(faults, fmt.Errorf("%s did %d events and %d had an effect", f.Name, c.Done, seen))
		}
	}
	for _, l := range s.Losses {
		if l.Reason == "schedule-missed" { // a machine too busy to look at the clock every second; it is said
			t.notes = append(t.notes, fmt.Sprintf("%d ticks came too late", l.Count))
			continue
		}
		faults = append(faults, fmt.Errorf("a loss: %+v", l))
	}
	return errors.Join(faults...)
}

// allReady waits for as many functions to be there and ready; an agent that answers may still be connecting.
func (t *trial) allReady(functions int) error {
	for late := time.Now().Add(5 * time.Second); ; t.sleep(100 * time.Millisecond) {
		s, err := t.agent.client.Status(t.ctx)
		if err != nil {
			return err
		}
		waiting := slices.IndexFunc(s.Functions, func(f admin.Function) bool { return f.State != admin.StateReady })
		if len(s.Functions) == functions && waiting < 0 {
			return nil
		}
		if time.Now().After(late) {
			t.faults = append(t.faults, fmt.Sprintf("of %d functions %d are there, and not all are ready", functions, len(s.Functions)))
			return nil
		}
	}
}

// killMany is killAgent with a hundred functions deployed: recovery is that of all their subscriptions.
func killMany(t *trial) error {
	guests := usual(false)
	for i := len(guests); i < 100; i++ {
		guests = append(guests, deploy{name: fmt.Sprintf("idle%d", i), guest: "relay", silent: true})
	}
	if err := t.begin(world{guests: guests}); err != nil {
		return err
	}
	n := pick(t.workshop, 5, max(20, int(40*t.minutes)))
	for range n {
		t.sleep(t.between(10*time.Millisecond, 600*time.Millisecond))
		if err := t.agent.kill(); err != nil {
			return err
		}
		if err := t.again(); err != nil {
			return err
		}
	}
	if err := t.allReady(100); err != nil {
		return err
	}
	t.bounds.recovery, t.bounds.duplicates = 2*time.Second, n*atOnce
	delivered, _ := t.log.Count(history.Delivered)
	t.notes = append(t.notes, fmt.Sprintf("RSS %d MiB, %d deliveries", t.agent.rss()>>20, delivered))
	return t.settle()
}
