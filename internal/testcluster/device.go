package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
	"mayfly/triggers/broker"
	"mayfly/triggers/mqtt"
)

// Flow is a device that publishes numbers, and what has come of them.
type Flow struct {
	site *Site
	stop chan struct{}
	done chan struct{}

	mu        sync.Mutex
	confirmed map[int]bool
	results   []result
}

// result is what a function made of a number.
type result struct {
	number int
	node   string // that ran the function
	at     time.Time
}

// Flow begins to publish 0, 1, 2 ... to topic at QoS 1, one every gap, until Stop, and to collect what arrives at result: the number and
// the name of the node that the function ran on, as Echo publishes them.
func (s *Site) Flow(topic, result string, gap time.Duration) *Flow {
	f := &Flow{site: s, stop: make(chan struct{}), done: make(chan struct{}), confirmed: map[int]bool{}}
	collected, err := s.Broker.Subscribe(broker.Trigger{Name: result, Filters: []string{result}, QoS: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.run("collector", func(ctx context.Context) error { return collected.Run(ctx, f) })
	p := s.device()
	s.Until("the device is connected", time.Minute, p.Ready)
	go f.publish(p, topic, gap)
	return f
}

// device is a client of the broker with an address of its own.
func (s *Site) device() *mqtt.Publisher {
	s.mu.Lock()
	s.last++
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, byte(s.last >> 8), byte(s.last)}), portDials)
	s.mu.Unlock()
	port, err := s.net.Host(at).Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := mqtt.NewPublisher(mqtt.Broker{
		Name: "site", URLs: []string{"tcp://" + brokerAt().String()},
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) { return port.DialContext(ctx, address) },
	}.WithDefaults(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.run("device", func(ctx context.Context) error {
		defer func() { _ = port.Close() }() // nobody dials any more
		return p.Run(ctx)
	})
	return p
}

func (f *Flow) publish(p *mqtt.Publisher, topic string, gap time.Duration) {
	defer close(f.done)
	tick := time.NewTicker(gap)
	defer tick.Stop()
	for i := 0; ; i++ {
		m := event.Message{Topic: topic, QoS: 1, Data: []byte(strconv.Itoa(i))}
		if err := p.Publish(&m, confirmation{f, i}); err != nil {
			confirmation{f, i}.Confirmed(err) // the device has no connection just now: this number is never sent
		}
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
	}
}

// confirmation is what the broker says to one number.
type confirmation struct {
	flow   *Flow
	number int
}

// Confirmed implements mqtt.Confirmation.
func (c confirmation) Confirmed(err error) {
	c.flow.mu.Lock()
	defer c.flow.mu.Unlock()
	c.flow.confirmed[c.number] = err == nil
}

// Accept implements triggers.Sink: it collects results.
func (f *Flow) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	x := result{at: time.Now()}
	if _, err := fmt.Sscan(string(ev.Data), &x.number, &x.node); err != nil {
		return fmt.Errorf("a result that is none: %w", err)
	}
	f.mu.Lock()
	f.results = append(f.results, x)
	f.mu.Unlock()
	r.Settle(triggers.Settlement{})
	return nil
}

// Stop ends the publishing.
func (f *Flow) Stop() {
	close(f.stop)
	<-f.done
}

// Missing are the numbers that the broker has confirmed and that have not come back.
func (f *Flow) Missing() (missing []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := f.times()
	for n, yes := range f.confirmed {
		if yes && times[n] == 0 {
			missing = append(missing, n)
		}
	}
	slices.Sort(missing)
	return missing
}

// Count returns how many numbers the broker has confirmed, and how many results were more than one for a number.
func (f *Flow) Count() (confirmed, again int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := f.times()
	for n, yes := range f.confirmed {
		if yes {
			confirmed++
		}
		again += max(0, times[n]-1)
	}
	return confirmed, again
}

// times is how often each number came. The lock is held.
func (f *Flow) times() map[int]int {
	times := map[int]int{}
	for _, x := range f.results {
		times[x.number]++
	}
	return times
}

// Owner is the node that the latest result is of, "" when there is none yet.
func (f *Flow) Owner() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.results) == 0 {
		return ""
	}
	return f.results[len(f.results)-1].node
}

// after returns when the first result came after a moment that is of another node than that; the zero time when none has.
func (f *Flow) after(began time.Time, node string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.results {
		if x.node != node && x.at.After(began) {
			return x.at
		}
	}
	return time.Time{}
}

// Successor returns how long after a moment the first result of another node than that came. It fails the test when none comes.
func (s *Site) Successor(f *Flow, of *Node, began time.Time) time.Duration {
	s.t.Helper()
	s.Until("another node has the trigger", 2*time.Minute, func() bool { return !f.after(began, of.Name).IsZero() })
	return f.after(began, of.Name).Sub(began)
}

// KillOwner kills the node that has a flow's trigger, and returns how long it took until the next result came of another. It returns when
// the killed node is back, and may own something again.
func (s *Site) KillOwner(f *Flow) time.Duration {
	s.t.Helper()
	owner, began := s.Named(f.Owner()), time.Now()
	owner.Kill()
	took := s.Successor(f, owner, began)
	owner.Revive()
	s.Until("everybody sees everybody", 5*time.Minute, s.Whole)
	time.Sleep(90 * time.Second)
	return took
}

// Echo is the guest for flows: what it gets it publishes under out/, with the name of its node.
func Echo(took time.Duration) Guest {
	return func(_ context.Context, call *function.Call, res *function.Result) error {
		time.Sleep(took)
		res.Publishes = append(res.Publishes, event.Message{
			Topic: "out/" + call.Event.Topic, QoS: 1, Data: fmt.Appendf(nil, "%s %s", call.Event.Data, call.Node),
		})
		return nil
	}
}
