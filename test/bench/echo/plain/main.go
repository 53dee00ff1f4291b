// Command plain is a baseline: the least an ordinary Go program does to answer every message of one topic on another.
// It promises nothing: a message is acknowledged when the handler returns, whether or not its answer ever left.
//
// Options as the client library's own documentation advises: handlers run in goroutines of their own (SetOrderMatters(false)),
// because a handler that publishes must not run on the goroutine that reads; everything else is left at its default.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	paho "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "address of the broker")
	in := flag.String("in", "bench/in", "topic filter to subscribe to")
	out := flag.String("out", "bench/out", "topic to answer on")
	qos := flag.Uint("qos", 1, "QoS of both")
	flag.Parse()

	client := paho.NewClient(paho.NewClientOptions().AddBroker(*broker).SetClientID("echo-plain").SetOrderMatters(false))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		log.Fatalln("connect:", token.Error())
	}
	echo := func(c paho.Client, m paho.Message) { c.Publish(*out, byte(*qos), false, m.Payload()) }
	if token := client.Subscribe(*in, byte(*qos), echo); token.Wait() && token.Error() != nil {
		log.Fatalln("subscribe:", token.Error())
	}
	log.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	client.Disconnect(250)
}
