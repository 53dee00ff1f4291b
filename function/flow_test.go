package function

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/event"
)

const flowManifest = `manifest = 1
name = "ask"
[module]
path = "a.wasm"
[[trigger.mqtt]]
topic = "plant/{line}/temp"
rate = "600/m"
burst = 20
coalesce = "latest"
[[trigger.mqtt]]
topic = "mayfly/{cluster}/call/ask/{id...}"
reply = true
[retry]
dead_letter = "dlq/ask"
[permissions]
publish = ["plant/+/alarm"]
`

func TestFlowOfATrigger(t *testing.T) {
	m, err := ParseManifest("function.toml", []byte(flowManifest))
	if err != nil {
		t.Fatal(err)
	}
	paced, call := &m.MQTT[0], &m.MQTT[1]
	if paced.Rate != (Rate{600, time.Minute}) || paced.Burst != 20 || paced.Coalesce != CoalesceLatest || paced.Reply {
		t.Errorf("read %+v", paced)
	}
	if call.Rate != (Rate{}) || call.Burst != 0 || call.Coalesce != "" || !call.Reply {
		t.Errorf("read %+v", call)
	}
	want := []string{"plant/+/alarm", "mayfly/+/result/ask/#", "mayfly/+/error/ask/#", "dlq/ask"}
	if got := m.MayPublish(); !slices.Equal(got, want) {
		t.Errorf("may publish %v, want %v", got, want)
	}
	if len(m.Permissions.Publish) != 1 {
		t.Errorf("the function itself may publish %v: answers are not its own words", m.Permissions.Publish)
	}
	roundTrip(t, m)
}

func TestReplyTopics(t *testing.T) {
	pattern, err := event.ParsePattern("mayfly/{cluster}/call/ask/{id...}")
	if err != nil {
		t.Fatal(err)
	}
	call := MQTTTrigger{Topic: pattern, Reply: true}
	long := "mayfly/c1/call/ask/" + strings.Repeat("x", event.MaxTopic-19)
	for _, c := range []struct {
		trigger                MQTTTrigger
		topic, result, failure string
	}{
		{call, "mayfly/c1/call/ask/7", "mayfly/c1/result/ask/7", "mayfly/c1/error/ask/7"},
		{call, "mayfly/call/call/ask/call/7", "mayfly/call/result/ask/call/7", "mayfly/call/error/ask/call/7"}, // by place, not by word
		{call, "mayfly/c1/call/ask", "mayfly/c1/result/ask", "mayfly/c1/error/ask"},
		{call, "mayfly/c1/call/other/7", "", ""}, // asked for by hand, with a topic of its own
		{call, long, "", ""},                     // the answer's topic would be longer than a topic can be
		{MQTTTrigger{Topic: pattern}, "mayfly/c1/call/ask/7", "", ""},
	} {
		result, failure := c.trigger.ReplyTopics(c.topic)
		if result != c.result || failure != c.failure {
			t.Errorf("%.60s: %q and %q", c.topic, result, failure)
		}
		for _, topic := range []string{result, failure} {
			if topic != "" && (event.CheckTopic(topic) != nil || call.Topic.Match(topic)) {
				t.Errorf("%q is no topic, or comes back", topic)
			}
		}
	}
}
