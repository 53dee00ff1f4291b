package agent

import (
	"errors"
	"testing"

	"mayfly/event"
	"mayfly/function"
	"mayfly/triggers"
)

func TestCallsAreForWhomTheyName(t *testing.T) {
	at := address{cluster: "c1", node: "id1", name: "hall"}
	for _, c := range []struct {
		topic, call string
		meant       bool
	}{
		{"mayfly/{cluster}/call/f/{id}", "mayfly/c1/call/f/7", true},
		{"mayfly/{cluster}/call/f/{id}", "mayfly/c2/call/f/7", false},
		{"mayfly/{cluster}/call/f/{id}", "mayfly/hall/call/f/7", false},
		{"mayfly/{node}/call/f/{id}", "mayfly/id1/call/f/7", true},
		{"mayfly/{node}/call/f/{id}", "mayfly/hall/call/f/7", true},
		{"mayfly/{node}/call/f/{id}", "mayfly/c1/call/f/7", false},
		{"{cluster}/{node}/call/f", "c1/hall/call/f", true},
		{"{cluster}/{node}/call/f", "c2/hall/call/f", false},
		{"plant/{line}/call/f/{id}", "plant/c2/call/f/7", true},
	} {
		pattern, err := event.ParsePattern(c.topic)
		if err != nil {
			t.Fatal(err)
		}
		spec := &function.MQTTTrigger{Topic: pattern, Order: function.OrderTopic, Reply: true}
		r, err := at.route(triggers.Subscription{Function: "f", Trigger: "mqtt[0]"}, "s", spec)
		if err != nil {
			t.Fatal(err)
		}
		ev := &event.Event{Topic: c.call}
		wanted := true
		if r.When != nil {
			if wanted, err = r.When(ev); err != nil {
				t.Fatal(err)
			}
		}
		result, failure := r.Reply(ev)
		if wanted != c.meant || (result != "") != c.meant || (failure != "") != c.meant {
			t.Errorf("%s by %s: wanted %v, answered at %q and %q; want %v", c.topic, c.call, wanted, result, failure, c.meant)
		}
	}
}

func TestCallsKeepTheConditionOfTheirTrigger(t *testing.T) {
	at, broken := address{cluster: "c1"}, errors.New("no JSON")
	pattern, err := event.ParsePattern("m/{cluster}/call/f")
	if err != nil {
		t.Fatal(err)
	}
	when := at.only(&function.MQTTTrigger{Topic: pattern, Reply: true}, func(*event.Event) (bool, error) { return false, broken })
	if _, err := when(&event.Event{Topic: "m/c1/call/f"}); !errors.Is(err, broken) {
		t.Errorf("the condition was not asked: %v", err)
	}
	if wanted, err := when(&event.Event{Topic: "m/c2/call/f"}); wanted || err != nil {
		t.Errorf("a call for another cluster: %v, %v", wanted, err)
	}
	plain := &function.MQTTTrigger{Topic: pattern}
	if at.only(plain, nil) != nil || at.replies(plain) != nil {
		t.Error("a trigger without reply is changed")
	}
}
