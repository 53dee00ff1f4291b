// Command cmd drives whatever answers -in on -out and prints what it measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"mayfly/test/bench/load"
)

func main() {
	var t load.Target
	flag.StringVar(&t.Broker, "broker", "tcp://127.0.0.1:1883", "address of the broker")
	flag.StringVar(&t.In, "in", "bench/in", "topic to publish on")
	flag.StringVar(&t.Out, "out", "bench/out", "topic the answers come on")
	flag.IntVar(&t.Size, "size", 200, "bytes of payload")
	flag.IntVar(&t.PID, "pid", 0, "process whose CPU time is measured")
	qos := flag.Uint("qos", 1, "QoS of both directions")
	inFlight := flag.Int("inflight", 64, "closed loop: messages on their way at once")
	total := flag.Int("n", 50_000, "closed loop: messages in all")
	rate := flag.Int("rate", 0, "open loop: messages a second; 0 means closed loop")
	long := flag.Duration("for", 5*time.Second, "open loop: how long")
	flag.Parse()
	t.QoS = byte(*qos)

	var r load.Result
	var err error
	if *rate > 0 {
		r, err = load.Open(context.Background(), t, *rate, *long)
	} else {
		r, err = load.Closed(context.Background(), t, *inFlight, *total)
	}
	if err != nil {
		log.Fatalln(err)
	}
	fmt.Println(r)
}
