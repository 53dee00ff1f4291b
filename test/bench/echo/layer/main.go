// Command layer is the agent's MQTT layer alone, with nothing between arrival and publish: what it costs to keep the delivery
// promise, and so how much is left for the rest of the agent beside the baselines.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"mayfly/event"
	"mayfly/triggers"
	"mayfly/triggers/mqtt"
)

func main() {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "address of the broker")
	in := flag.String("in", "bench/in", "topic filter to subscribe to")
	out := flag.String("out", "bench/out", "topic to answer on")
	qos := flag.Uint("qos", 1, "QoS of both")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	b := mqtt.Broker{Name: "bench", URLs: []string{*broker}, Window: 4096}
	pub, err := mqtt.NewPublisher(b, "", slog.Default())
	if err != nil {
		log.Fatalln(err)
	}
	c := mqtt.Subscription{Cluster: "bench", Session: "layer", Topics: []mqtt.Topic{{Filter: *in, QoS: byte(*qos)}}, Volatile: *qos == 0}
	session, err := mqtt.NewSession(b, c, forgetful{}, slog.Default())
	if err != nil {
		log.Fatalln(err)
	}
	var both sync.WaitGroup
	both.Go(func() { _ = pub.Run(ctx) })
	both.Go(func() { _ = session.Run(ctx, &echo{pub, *out, byte(*qos)}) })
	both.Wait()
}

// echo answers on the goroutine that reads.
type echo struct {
	pub *mqtt.Publisher
	out string
	qos byte
}

func (e *echo) Accept(_ context.Context, ev *event.Event, r triggers.Receipt) error {
	err := e.pub.Publish(&event.Message{Topic: e.out, Data: ev.Data, QoS: e.qos}, confirmation{r})
	if err != nil && r != nil {
		r.Settle(triggers.Settlement{Err: err})
	}
	return err
}

type confirmation struct{ r triggers.Receipt }

func (c confirmation) Confirmed(err error) {
	if c.r != nil {
		c.r.Settle(triggers.Settlement{Err: err})
	}
}

type forgetful struct{}

func (forgetful) Subscribed(string) (map[string]uint32, error) { return nil, nil }
func (forgetful) Remember(string, map[string]uint32) error     { return nil }
