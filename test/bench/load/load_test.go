package load

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every message but each nth (0: none is left out).
type echo struct {
	pub  *mqtt.Publisher
	skip int64
	seen atomic.Int64
}

func (e *echo) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	if r != nil {
		r.Settle(triggers.Settlement{})
	}
	if n := e.seen.Add(1); e.skip > 0 && n%e.skip == 0 {
		return nil
	}
	return e.pub.Publish(&event.Message{Topic: "out", Data: ev.Data, QoS: ev.QoS}, ignored{})
}

// answering starts an echo and returns the target that it is.
func answering(t *testing.T, qos byte, skip int64) Target {
	t.Helper()
	url := mosquitto.Run(t, mosquitto.Options{MaxInflight: 1000, MaxQueued: -1, NoDelay: true}).URL()
	b := mqtt.Broker{Name: "echo", URLs: []string{url}}
	quiet := slog.New(slog.DiscardHandler)
	pub, err := mqtt.NewPublisher(b, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	c := mqtt.Subscription{Cluster: "test", Session: "echo", Topics: []mqtt.Topic{{Filter: "in", QoS: qos}}}
	session, err := mqtt.NewSession(b, c, forgetful{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { _ = pub.Run(ctx) })
	both.Go(func() { _ = session.Run(ctx, &echo{pub: pub, skip: skip}) })
	t.Cleanup(func() { cancel(); both.Wait() })
	return Target{Broker: url, In: "in", Out: "out", QoS: qos, Size: 200, PID: os.Getpid()}
}

func TestClosedCountsEveryAnswer(t *testing.T) {
	for qos := range byte(2) {
		r, err := Closed(t.Context(), answering(t, qos, 0), 16, 2000)
		if err != nil || r.Sent != 2000 || r.Answered != 2000 || r.Lost != 0 || r.Twice != 0 {
			t.Fatalf("QoS %d: %+v, %v", qos, r, err)
		}
		if r.CPU <= 0 || r.PerSecond <= 0 || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max {
			t.Errorf("QoS %d: %+v", qos, r)
		}
	}
}

func TestOpenKeepsItsSchedule(t *testing.T) {
	r, err := Open(t.Context(), answering(t, 1, 0), 400, 500*time.Millisecond)
	if err != nil || r.Sent != 200 || r.Lost != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Elapsed < 450*time.Millisecond {
		t.Errorf("200 messages at 400 a second took %v", r.Elapsed)
	}
}

func TestLostAnswersAreCounted(t *testing.T) {
	r, err := Open(t.Context(), answering(t, 1, 10), 1000, 100*time.Millisecond)
	if err != nil || r.Lost < 9 || r.Lost > 11 || r.Answered+r.Lost != 100 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPayloadMustHoldTheHead(t *testing.T) {
	if _, err := Closed(t.Context(), Target{Size: headLen - 1}, 1, 1); err == nil {
		t.Error("accepted")
	}
}

func TestPublishReturnsWhenAllIsConfirmed(t *testing.T) {
	url := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1}).URL()
	retained := func(i int) event.Message {
		return event.Message{Topic: fmt.Sprintf("all/%d", i), Data: []byte("x"), QoS: 1, Retain: true}
	}
	if err := Publish(t.Context(), url, retained, 500, 16); err != nil {
		t.Fatal(err)
	}
	b := mqtt.Broker{Name: "count", URLs: []string{url}}
	all := mqtt.Subscription{
		Cluster: "test", Session: "count", Topics: []mqtt.Topic{{Filter: "all/#", QoS: 1, Retained: function.RetainedAlways}}, Volatile: true,
	}
	session, err := mqtt.NewSession(b, all, forgetful{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	counted := counter{want: 500, done: cancel}
	if err := session.Run(ctx, &counted); err != nil || counted.n.Load() != 500 {
		t.Errorf("the broker has %d of 500 messages, %v", counted.n.Load(), err)
	}
}

// counter calls done with the message that it wants last.
type counter struct {
	want int64
	done func()
	n    atomic.Int64
}

func (c *counter) Accept(_ context.Context, _ *event.Event, r triggers.Receipt) error {
	r.Settle(triggers.Settlement{})
	if c.n.Add(1) == c.want {
		c.done()
	}
	return nil
}
