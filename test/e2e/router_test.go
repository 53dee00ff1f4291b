package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"mayfly/internal/mosquitto"
)

// Each against the broker in the agent and against mosquitto: a trigger is the same at both.
func atEachBroker(t *testing.T, run func(t *testing.T, n *node, address string)) {
	t.Run("embedded", func(t *testing.T) {
		n := withBroker(t, "")
		run(t, n, n.broker)
	})
	t.Run("mosquitto", func(t *testing.T) {
		n, address := atMosquitto(t)
		run(t, n, address)
	})
}

// atMosquitto is an agent at a mosquitto that queues what comes, running.
func atMosquitto(t *testing.T) (n *node, address string) {
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	return atBroker(t, b.URL(), ""), b.Addr()
}

// answerer is a command that says what it read, takes half a second for what begins with "slow" and rejects "bad".
const answerer = `#define _DEFAULT_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
  char text[256];
  size_t n = fread(text, 1, sizeof text - 1, stdin);
  text[n] = 0;
  if (!strncmp(text, "slow", 4)) usleep(500000);
  if (!strcmp(text, "bad")) { fputs("that is bad", stderr); return 65; }
  printf("got %s", text);
  return 0;
}
`

func TestCallsOverMQTT(t *testing.T) {
	atEachBroker(t, func(t *testing.T, n *node, address string) {
		n.deploy("ask", "[[trigger.mqtt]]\ntopic = \"mayfly/{cluster}/call/ask/{id}\"\nreply = true\n"+
			"[[trigger.mqtt]]\ntopic = \"device/{node}/call/ask/{id}\"\nscope = \"node\"\nreply = true\n", n.program("ask", answerer))
		caller := connect(t, address, "caller")
		for _, kind := range []string{"result", "error"} {
			caller.subscribe(t, "+/+/"+kind+"/ask/#")
		}
		id := n.status().Node.ID
		caller.say(t, "mayfly/"+id+"/call/ask/1", "hello")
		caller.say(t, "device/e2e/call/ask/2", "you")
		caller.say(t, "mayfly/another/call/ask/3", "not for us")
		caller.say(t, "mayfly/"+id+"/call/ask/4", "bad")
		caller.hears(t, "mayfly/"+id+"/result/ask/1", "got hello")
		caller.hears(t, "device/e2e/result/ask/2", "got you")
		topic := "mayfly/" + id + "/error/ask/4"
		until(t, "the failure is told", func() (bool, string) { return len(caller.heard(topic)) > 0, fmt.Sprint(caller.heard("")) })
		var told struct{ Class, Kind, Error string }
		if err := json.Unmarshal([]byte(caller.heard(topic)[0]), &told); err != nil || told.Class != "reject" || told.Kind == "" || told.Error == "" {
			t.Errorf("the caller was told %q (%v)", caller.heard(topic), err)
		}
		n.must("fn", "show", "ask").want(t, 0, "1 filtered out")
		if all := caller.heard(""); len(all) != 3 {
			t.Errorf("answers %q, want three: a call for another cluster is not answered", all)
		}
	})
}

func TestCallSurvivesAPowerCut(t *testing.T) {
	n, address := atMosquitto(t)
	n.deploy("ask", "[[trigger.mqtt]]\ntopic = \"mayfly/{cluster}/call/ask/{id}\"\nreply = true\n", n.program("ask", answerer))
	caller := connect(t, address, "caller")
	caller.subscribe(t, "mayfly/+/result/#")
	id := n.status().Node.ID
	for i := range 8 {
		caller.say(t, fmt.Sprintf("mayfly/%s/call/ask/%d", id, i), fmt.Sprint("slow", i))
	}
	n.kill()
	n.start()
	for i := range 8 {
		caller.hears(t, fmt.Sprintf("mayfly/%s/result/ask/%d", id, i), fmt.Sprint("got slow", i))
	}
}

func TestCoalesceLatest(t *testing.T) {
	atEachBroker(t, func(t *testing.T, n *node, address string) {
		n.deploy("show", "[output]\ntopic = \"shown/{key}\"\n[[trigger.mqtt]]\ntopic = \"in/{key}\"\ncoalesce = \"latest\"\n", n.program("show", answerer))
		d := connect(t, address, "device")
		d.subscribe(t, "shown/#")
		const last = 300
		for i := 1; i <= last; i++ {
			if err := d.publish("in/a", "slow"+number(i)); err != nil {
				t.Fatal(err)
			}
		}
		d.hears(t, "shown/a", "got slow"+number(last))
		d.settled(t)
		shown := d.heard("shown/a")
		if !slices.IsSorted(shown) || len(shown) > last/4 {
			t.Errorf("%d of %d ran: %q", len(shown), last, shown)
		}
		c := n.function("show").Counters
		if c.Coalesced == 0 || c.Received != last || c.Coalesced+c.Done != last {
			t.Errorf("%d received, %d coalesced, %d done", c.Received, c.Coalesced, c.Done)
		}
		if lost := n.status().Losses; len(lost) != 0 {
			t.Errorf("a decision was counted as a loss: %+v", lost)
		}
	})
}

func TestRateOfATrigger(t *testing.T) {
	atEachBroker(t, func(t *testing.T, n *node, address string) {
		n.teller("1", "rate = \"50/s\"\nburst = 5\n")
		d := connect(t, address, "device")
		d.subscribe(t, "told/#")
		const last = 150
		began := time.Now()
		for i := 1; i <= last; i++ {
			if err := d.publish("ask/a", number(i)); err != nil {
				t.Fatal(err)
			}
		}
		twice := told(t, d, "a", last)
		if took, least := time.Since(began), (last-5)*time.Second/50; took < least {
			t.Errorf("%d events ran within %v, the rate allows that in %v", last, took, least)
		}
		if twice != 0 {
			t.Errorf("%d came twice", twice)
		}
	})
}

// What waits for its turn outlives the process, in order.
func TestRateSurvivesAPowerCut(t *testing.T) {
	n, address := atMosquitto(t)
	n.teller("1", "rate = \"20/s\"\n")
	d := connect(t, address, "device")
	d.subscribe(t, "told/#")
	const last = 150
	for i := 1; i <= last; i++ {
		if err := d.publish("ask/a", number(i)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "some are told", func() (bool, string) { return len(d.heard("told/a")) >= 20, "" })
	n.kill()
	n.start()
	told(t, d, "a", last)
}

func TestRateShedsVolatile(t *testing.T) {
	n := withBroker(t, "")
	n.deploy("few", "[[trigger.mqtt]]\ntopic = \"in\"\nrate = \"1/m\"\n", handler(t, "i32.const 0"))
	d := connect(t, n.broker, "device")
	for range 10 {
		if err := d.send(0x30, append(text("in"), 'x')); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the others are shed", func() (bool, string) {
		lost := n.status().Losses
		return len(lost) == 1 && lost[0].Reason == "rate" && lost[0].Count == 9, fmt.Sprint(lost)
	})
	n.must("status").want(t, 0, "rate")
}
