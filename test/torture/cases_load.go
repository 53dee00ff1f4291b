package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"mayfly/admin"
	"mayfly/test/torture/history"
	"mayfly/test/torture/sender"
)

// floodRSS is what the agent may take in a flood: the sandboxes' memory, the store's tables, windows and queues are all bounded.
const floodRSS = 160 << 20

// flood: ten times what the function can do, at a broker with its default limits. The broker drops what does not fit its queue and
// says nothing; what it delivered and the agent acknowledged has its effect, from the journal, and memory stays bounded.
func flood(t *trial) error {
	// One at a time, 2 ms of work: at most 500 a second. The sender adds ten times that.
	guests := []deploy{{name: "slow", guest: "slow", limits: "concurrency = 1\n", config: "work_ms = 2\n"}}
	if err := t.begin(world{guests: guests, unsteady: true}); err != nil {
		return err
	}
	t.load.rate.Store(5000)
	t.load.most.Store(math.MaxInt64)
	peak, spilled := int64(0), int64(0)
	for until := time.Now().Add(pick(t.workshop, 3*time.Second, t.long())); time.Now().Before(until); t.sleep(200 * time.Millisecond) {
		peak = max(peak, t.agent.rss())
		if s, err := t.agent.client.Status(t.ctx); err == nil {
			spilled = max(spilled, s.Journal.Count)
		}
	}
	began := time.Now()
	if err := t.settleFor(10 * time.Minute); err != nil {
		return err
	}
	peak = max(peak, t.agent.rss())
	sent, _ := t.log.Count(history.Sent)
	delivered, _ := t.log.Count(history.Delivered)
	t.notes = append(t.notes, fmt.Sprintf("the broker dropped %d of %d; at most %d in the journal; RSS at most %d MiB; drained in %v",
		sent-delivered, sent, spilled, peak>>20, time.Since(began).Round(time.Second)))
	if peak > floodRSS {
		t.faults = append(t.faults, fmt.Sprintf("RSS went up to %d MiB, at most %d are allowed", peak>>20, floodRSS>>20))
	}
	if spilled == 0 {
		t.faults = append(t.faults, "nothing was spilled")
	}
	return nil
}

// rss returns the agent's resident memory in bytes, 0 when it does not run.
func (a *agent) rss() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// hostile: functions that loop, recurse, trap, take memory and make noise run beside one that behaves. Its p99 may grow by a fifth,
// and nothing of it is lost. Many short phases take turns, because other work on the machine comes and goes.
func hostile(t *trial) error {
	guests := []deploy{
		{name: "relay", guest: "relay"},
		{name: "hostile", guest: "hostile", limits: "concurrency = 1\n", timeout: "20ms", silent: true},
	}
	if err := t.begin(world{guests: guests}); err != nil {
		return err
	}
	t.log.Ignore("hostile")
	t.load.rate.Store(200)
	var calm, beset []time.Duration
	before := t.agent.rss()
	for range pick(t.workshop, 4, 12) {
		calm = append(calm, t.took(1500*time.Millisecond)...)
		stop := t.send("hostile", 5)
		beset = append(beset, t.took(1500*time.Millisecond)...)
		stop()
		if err := t.agent.ready(t.ctx, 30*time.Second, func(s *admin.Status) bool { return s.Journal.Count == 0 }); err != nil {
			return err
		}
	}
	alone, beside := quantile(calm, 0.99), quantile(beset, 0.99)
	t.notes = append(t.notes, fmt.Sprintf("p99 of %d events %.1f ms alone, of %d events %.1f beside hostile guests (%.2f), p50 %.1f and %.1f; RSS %d MiB before, %d after",
		len(calm), alone, len(beset), beside, beside/alone, quantile(calm, 0.5), quantile(beset, 0.5), before>>20, t.agent.rss()>>20))
	if beside > 1.2*alone && beside-alone > 2 {
		t.faults = append(t.faults, "the p99 of the function that behaves grew by more than a fifth")
	}
	return t.settle()
}

// send sends a function so many events a second, of which no history is kept, until stop is called.
func (t *trial) send(function string, rate int) (stop func()) {
	ctx, cancel := context.WithCancel(t.ctx)
	s := sender.New(t.broker.Addr(), 16, history.New())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for seq := uint32(1); ; seq++ {
			if s.Send(ctx, history.Event{Stream: fmt.Sprintf("%s/%d", function, seq%8), Seq: seq}, sender.Payload("1", seq)) != nil {
				return
			}
			<-tick.C
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// took is how long each event of that time took from its sending to the confirmation of its effect.
func (t *trial) took(d time.Duration) []time.Duration {
	began, took := map[history.Event]time.Time{}, []time.Duration{}
	t.log.Watch(func(e history.Event, s history.Sight) {
		switch at, known := began[e]; {
		case s == history.Sent:
			began[e] = time.Now()
		case s == history.Confirmed && known:
			took = append(took, time.Since(at))
		}
	})
	t.sleep(d)
	t.log.Watch(nil)
	return took
}

// slowNeighbour: a function that cannot keep up shares a session, and so the broker's window, with one that can. What waits for the
// slow one goes to the journal, and the other gets its events.
func slowNeighbour(t *trial) error {
	guests := []deploy{{name: "slow", guest: "slow", limits: "concurrency = 1\n", config: "work_ms = 40\n"}} // at most 25 a second
	for i := range 3 {
		// The first four functions have a session each, the fifth shares that of the first.
		guests = append(guests, deploy{name: fmt.Sprintf("idle%d", i), guest: "relay", silent: true})
	}
	guests = append(guests, deploy{name: "relay", guest: "relay"})
	if err := t.begin(world{guests: guests}); err != nil {
		return err
	}
	t.load.rate.Store(200) // a hundred a second each
	t.load.most.Store(900) // the broker's queue takes a thousand
	spilled, before := int64(0), t.effects("relay")
	const long = 5 * time.Second
	for until := time.Now().Add(long); time.Now().Before(until); t.sleep(100 * time.Millisecond) {
		if s, err := t.agent.client.Status(t.ctx); err == nil {
			spilled = max(spilled, s.Journal.Count)
		}
	}
	rate := float64(t.effects("relay")-before) / long.Seconds()
	t.notes = append(t.notes, fmt.Sprintf("the other function got %.0f of 100 events a second; at most %d were in the journal", rate, spilled))
	if rate < 70 {
		t.faults = append(t.faults, "a function that cannot keep up holds back another one")
	}
	return t.settleFor(5 * time.Minute)
}

// effects counts the confirmed effects of a function.
func (t *trial) effects(function string) int { return t.log.Effects(function) }

// deadLetters: a function that rejects everything fills the dead-letter store; then it accepts, and all of them are replayed.
func deadLetters(t *trial) error {
	if err := t.begin(world{guests: []deploy{rejecting("0"), {name: "relay", guest: "relay"}}, config: "[limits]\njournal = \"256MiB\"\n"}); err != nil {
		return err
	}
	t.load.rate.Store(100_000)
	t.load.streams = t.load.streams[:keysPerFunction] // those of reject
	total := pick(t.workshop, 5000, 99_000)           // one function may have 100,000
	for began := time.Now(); ; t.sleep(50 * time.Millisecond) {
		if acked, _ := t.log.Count(history.Acked); acked >= total {
			break
		}
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("%d dead letters took more than five minutes", total)
		}
	}
	began := time.Now()
	if err := t.raise(); err != nil {
		return err
	}
	if err := t.settleFor(10 * time.Minute); err != nil {
		return err
	}
	t.notes = append(t.notes, fmt.Sprintf("replayed and handled in %v; RSS %d MiB", time.Since(began).Round(time.Millisecond), t.agent.rss()>>20))
	return nil
}
