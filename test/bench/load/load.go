// Package load drives whatever answers messages of one topic on another through a broker, and measures it from outside: the
// agent and the baselines in exactly the same way.
//
// Every message begins with 40 hexadecimal digits: the run, the message's number, and when it was to be sent. The answer must
// carry them at the same place; the rest of the payload is filling. A run begins when the target answers at all. Use a fresh
// broker for every run: what an earlier target left behind there costs the next one time. Driver and measured process share the machine, so only figures of one
// run on one machine may be compared.
package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"mayfly/event"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

// headLen is the length of run, number and time at the start of a payload.
const headLen = 8 + 16 + 16

// A target must answer a first message within readyWithin; it is sent again every probeEvery until then.
const (
	readyWithin = 30 * time.Second
	probeEvery  = 100 * time.Millisecond
)

// stalled ends a run in which nothing has come back for that long: the missing ones are lost.
const stalled = 5 * time.Second

// Target is what is measured.
type Target struct {
	Broker  string // URL
	In, Out string // topics: we publish on In and expect the answers on Out
	QoS     byte   // of both directions
	Size    int    // bytes of payload, at least 40
	PID     int    // of the process whose CPU time is measured; 0: none
}

// Result is what came out. Latencies are of the answers that came.
type Result struct {
	Sent, Answered, Twice, Lost int
	Elapsed                     time.Duration
	PerSecond                   float64
	CPU                         time.Duration // of the measured process, all of it
	CPUPerMessage               time.Duration
	P50, P90, P99, Max          time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%8.0f/s  cpu %6.1f us/msg  p50 %v  p99 %v  max %v  sent %d lost %d twice %d", r.PerSecond,
		float64(r.CPUPerMessage.Nanoseconds())/1000, r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond),
		r.Max.Round(time.Microsecond), r.Sent, r.Lost, r.Twice)
}

// Closed keeps inFlight messages on their way until total were sent: throughput. Latency counts from the actual sending.
func Closed(ctx context.Context, t Target, inFlight, total int) (Result, error) {
	return run(ctx, t, total, func(d *driver) error {
		credit := make(chan struct{}, inFlight)
		d.onAnswer = func() { <-credit }
		patience := time.NewTimer(stalled)
		defer patience.Stop()
		for range total {
			patience.Reset(stalled)
			select {
			case credit <- struct{}{}:
			case <-patience.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := d.send(time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Open sends rate messages a second for that long, whether or not answers come. Latency counts from the scheduled time, so that
// a stall is felt by every message it delayed.
func Open(ctx context.Context, t Target, rate int, long time.Duration) (Result, error) {
	total := int(long.Seconds() * float64(rate))
	return run(ctx, t, total, func(d *driver) error {
		began := time.Now()
		for i := range total {
			due := began.Add(time.Duration(float64(i) / float64(rate) * 1e9))
			if wait := time.Until(due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := d.send(due); err != nil {
				return err
			}
		}
		return nil
	})
}

// Publish sends total messages at QoS 1, message(0) and so on, at most inFlight unconfirmed at a time, and returns when the broker
// has confirmed them all. Nobody is expected to answer.
func Publish(ctx context.Context, broker string, message func(i int) event.Message, total, inFlight int) error {
	b := mqtt.Broker{Name: "load", URLs: []string{broker}, Window: inFlight}
	pub, err := mqtt.NewPublisher(b, "", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { _ = pub.Run(ctx) })
	defer ended.Wait()
	defer stop()
	credit := make(chan error, inFlight)
	for range inFlight {
		credit <- nil
	}
	for sent := 0; sent < total+inFlight; {
		select {
		case err := <-credit:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		for sent++; sent <= total; {
			m := message(sent - 1)
			err := pub.Publish(&m, confirmed(credit))
			if err == nil {
				break
			}
			if !errors.Is(err, mqtt.ErrDown) && !errors.Is(err, mqtt.ErrFull) {
				return err
			}
			select {
			case <-pub.Changes():
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

type confirmed chan<- error

func (c confirmed) Confirmed(err error) { c <- err }

// driver is one run.
type driver struct {
	target   Target
	pub      *mqtt.Publisher
	id       uint32 // of the run
	filling  []byte
	onAnswer func()

	mu        sync.Mutex
	seen      []bool
	sent      int
	answered  int
	twice     int
	latencies []time.Duration
	last      time.Time
	progress  chan struct{}
}

func run(ctx context.Context, t Target, total int, send func(*driver) error) (Result, error) {
	if t.Size < headLen {
		return Result{}, fmt.Errorf("size %d: wanted at least %d bytes", t.Size, headLen)
	}
	ctx, stop := context.WithCancel(ctx)
	d := &driver{
		target: t, id: rand.Uint32(), filling: slices.Repeat([]byte{'x'}, t.Size-headLen), seen: make([]bool, total),
		latencies: make([]time.Duration, 0, total), progress: make(chan struct{}, 1),
	}
	ended, err := d.connect(ctx)
	defer ended.Wait()
	defer stop()
	if err != nil {
		return Result{}, err
	}
	if err := d.probe(ctx); err != nil {
		return Result{}, err
	}
	before, err := cpuOf(t.PID)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	if err := send(d); err != nil {
		return Result{}, err
	}
	d.await(total)
	after, err := cpuOf(t.PID)
	return d.result(began, after-before), err
}

// connect brings publisher and subscriber up.
func (d *driver) connect(ctx context.Context) (ended *sync.WaitGroup, err error) {
	ended = new(sync.WaitGroup)
	quiet := slog.New(slog.DiscardHandler)
	b := mqtt.Broker{Name: "load", URLs: []string{d.target.Broker}, Window: 16384, MaxPayload: 64 << 20}
	if d.pub, err = mqtt.NewPublisher(b, "", quiet); err != nil {
		return ended, err
	}
	c := mqtt.Subscription{Cluster: "bench", Session: "load", Topics: []mqtt.Topic{{Filter: d.target.Out, QoS: d.target.QoS}}, Volatile: d.target.QoS == 0}
	answers, err := mqtt.NewSession(b, c, forgetful{}, quiet)
	if err != nil {
		return ended, err
	}
	if err := answers.Purge(ctx); err != nil {
		return ended, err
	}
	ended.Go(func() { _ = d.pub.Run(ctx) })
	ended.Go(func() { _ = answers.Run(ctx, d) })
	patience := time.After(stalled)
	for !d.pub.Ready() || !answers.Status().Connected {
		select {
		case <-patience:
			return ended, errors.New("no connection to the broker at " + d.target.Broker)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return ended, nil
}

// probe sends a message that is not counted until one is answered.
func (d *driver) probe(ctx context.Context) error {
	deadline := time.After(readyWithin)
	for {
		m := d.message(uint64(len(d.seen)), time.Now())
		if err := d.pub.Publish(&m, ignored{}); err != nil {
			return err
		}
		select {
		case <-d.progress:
			return nil
		case <-time.After(probeEvery):
		case <-deadline:
			return fmt.Errorf("nothing answers %s on %s", d.target.In, d.target.Out)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *driver) message(number uint64, due time.Time) event.Message {
	payload := make([]byte, 0, d.target.Size)
	payload = fmt.Appendf(payload, "%08x%016x%016x", d.id, number, due.UnixNano())
	return event.Message{Topic: d.target.In, Data: append(payload, d.filling...), QoS: d.target.QoS}
}

func (d *driver) send(due time.Time) error {
	m := d.message(uint64(d.sent), due)
	for {
		err := d.pub.Publish(&m, ignored{})
		if !errors.Is(err, mqtt.ErrFull) {
			d.sent++
			return err
		}
		time.Sleep(100 * time.Microsecond) // the broker is behind; the schedule is not moved
	}
}

// Accept takes an answer.
func (d *driver) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	number, due, ok := d.parse(ev.Data)
	if !ok {
		return nil // left over from another run
	}
	if number == uint64(len(d.seen)) {
		d.progressed()
		return nil
	}
	d.mu.Lock()
	if d.seen[number] {
		d.twice++
		d.mu.Unlock()
		return nil
	}
	d.seen[number] = true
	d.answered++
	d.last = time.Now()
	d.latencies = append(d.latencies, d.last.Sub(due))
	d.mu.Unlock()
	if d.onAnswer != nil {
		d.onAnswer()
	}
	d.progressed()
	return nil
}

func (d *driver) progressed() {
	select {
	case d.progress <- struct{}{}:
	default:
	}
}

func (d *driver) parse(data []byte) (number uint64, due time.Time, ok bool) {
	if len(data) < headLen {
		return 0, due, false
	}
	run, err1 := strconv.ParseUint(string(data[:8]), 16, 32)
	number, err2 := strconv.ParseUint(string(data[8:24]), 16, 64)
	at, err3 := strconv.ParseInt(string(data[24:headLen]), 16, 64)
	ok = err1 == nil && err2 == nil && err3 == nil && uint32(run) == d.id && number <= uint64(len(d.seen))
	return number, time.Unix(0, at), ok
}

// await returns when every answer is there or nothing has come for a while.
func (d *driver) await(total int) {
	for {
		d.mu.Lock()
		done := d.answered == total
		d.mu.Unlock()
		if done {
			return
		}
		select {
		case <-d.progress:
		case <-time.After(stalled):
			return
		}
	}
}

func (d *driver) result(began time.Time, cpu time.Duration) Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := Result{Sent: d.sent, Answered: d.answered, Twice: d.twice, Lost: d.sent - d.answered, CPU: cpu}
	if r.Answered == 0 {
		return r
	}
	r.Elapsed = d.last.Sub(began)
	r.PerSecond = float64(r.Answered) / r.Elapsed.Seconds()
	r.CPUPerMessage = cpu / time.Duration(r.Answered)
	slices.Sort(d.latencies)
	at := func(q float64) time.Duration { return d.latencies[int(q*float64(len(d.latencies)-1))] }
	r.P50, r.P90, r.P99, r.Max = at(0.5), at(0.9), at(0.99), at(1)
	return r
}

type ignored struct{}

func (ignored) Confirmed(error) {}

type forgetful struct{}

func (forgetful) Subscribed(string) (map[string]uint32, error) { return nil, nil }
func (forgetful) Remember(string, map[string]uint32) error     { return nil }
