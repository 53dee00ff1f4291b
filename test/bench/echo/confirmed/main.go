// Command confirmed is a baseline: an ordinary Go program that acknowledges a message only when the broker has accepted its
// answer, the least that loses nothing when the program is killed. At QoS 0 there is nothing to wait for.
//
// Options as in plain, with a session that the broker keeps, and acknowledgement by hand.
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

	client := paho.NewClient(paho.NewClientOptions().AddBroker(*broker).SetClientID("echo-confirmed").
		SetOrderMatters(false).SetCleanSession(false).SetAutoAckDisabled(true))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		log.Fatalln("connect:", token.Error())
	}
	echo := func(c paho.Client, m paho.Message) {
		if token := c.Publish(*out, byte(*qos), false, m.Payload()); token.Wait() && token.Error() == nil {
			m.Ack()
		}
	}
	if token := client.Subscribe(*in, byte(*qos), echo); token.Wait() && token.Error() != nil {
		log.Fatalln("subscribe:", token.Error())
	}
	log.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	client.Disconnect(250)
}
