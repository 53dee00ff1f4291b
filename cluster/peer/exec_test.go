package peer

import (
	"context"
	"errors"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

func TestExec(t *testing.T) {
	s := newSite(t)
	s.serve(t, "b", Doors{Exec: exec(echo), Load: func() Load { return Load{3, 1, 16} }}, Limits{})
	p := s.peers(t, "a")
	res, err := invoke(t, p, "b", callOf("1"))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Publishes) != 1 || res.Publishes[0].Topic != "from/a" || string(res.Publishes[0].Data) != "payload of 1" ||
		len(res.Log) != 1 || res.Log[0].Text != "mqtt[0]" || res.Usage.CPU != time.Millisecond {
		t.Errorf("%+v", res)
	}
	st, ok := p.Load("b")
	if !ok || st.Load != (Load{3, 1, 16}) || st.RTT <= 0 || st.Age > 5*time.Second {
		t.Errorf("load %+v %t", st, ok)
	}
	if st, err := p.Probe(context.Background(), "b"); err != nil || st.Load.Slots != 16 {
		t.Errorf("probe %+v %v", st, err)
	}
	if _, ok := p.Load("c"); ok {
		t.Error("load of a node never asked")
	}
}

// What the executor says crosses the wire: class, kind, message, hint, delay; what ran is told from what did not.
func TestErrorsCrossTheWire(t *testing.T) {
	s := newSite(t)
	var next error
	s.serve(t, "b", Doors{Exec: exec(func(context.Context, string, *ExecRequest) (*function.Result, error) {
		return &function.Result{Log: []function.LogLine{{Text: "said before"}}}, next
	})}, Limits{})
	p := s.peers(t, "a")
	for i, c := range []struct {
		class function.Class
		kind  string
		want  function.Class
		ran   bool
	}{
		{function.ClassRetry, "timeout", function.ClassRetry, true},
		{function.ClassReject, "trap", function.ClassReject, true},
		{function.ClassConflict, "conflict", function.ClassConflict, true},
		{function.ClassOverload, "busy", function.ClassOverload, false},
		{function.ClassOverload, KindDraining, function.ClassOverload, false},
		{function.ClassNotHere, KindNotDeployed, function.ClassNotHere, false},
		{function.ClassNotHere, "absent", function.ClassNotHere, false},
		{function.ClassNotHere, KindFenced, function.ClassNotHere, false},
		{function.ClassFatal, "disk", function.ClassNotHere, false},
	} {
		next = &function.Error{Op: "invoke", Subject: "f", Class: c.class, Kind: c.kind, Err: errors.New("why"), Hint: "do this", After: time.Second}
		res, err := invoke(t, p, "b", callOf(string(rune('a'+i))))
		wantClass(t, err, c.want, c.kind)
		e, ok := errors.AsType[*function.Error](err)
		if !ok || e.Hint != "do this" || e.After != time.Second || e.Err.Error() != "why" {
			t.Errorf("%s: %+v", c.kind, e)
		}
		if (len(res.Log) == 1) != c.ran {
			t.Errorf("%s: log %v", c.kind, res.Log)
		}
	}
	next = errors.New("plain")
	_, err := invoke(t, p, "b", callOf("plain"))
	if function.ClassOf(err) != function.ClassRetry || err == nil {
		t.Errorf("plain error: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	s := newSite(t)
	_, stop := s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{})
	stop()
	p := s.peers(t, "a")
	for range 2 { // the second by the back-off
		_, err := invoke(t, p, "b", callOf("1"))
		wantClass(t, err, function.ClassNotHere, KindUnreachable)
	}
	if err := p.Exec(context.Background(), "nobody", requestOf(callOf("1")), &function.Result{}); function.KindOf(err) != KindUnreachable {
		t.Errorf("no address: %v", err)
	}
	// It is back, elsewhere: no back-off holds up the new address.
	s.serve(t, "b", Doors{Exec: exec(echo)}, Limits{})
	if _, err := invoke(t, p, "b", callOf("1")); err != nil {
		t.Errorf("after it is back: %v", err)
	}
}

func TestCallWithStateStays(t *testing.T) {
	s := newSite(t)
	s.at("b", "127.0.0.1:1")
	c := callOf("1")
	c.State = noState{}
	_, err := invoke(t, s.peers(t, "a"), "b", c)
	wantClass(t, err, function.ClassNotHere, KindState)
}

type noState struct{ function.State }

func TestDeadlineTravelsAsTimeLeft(t *testing.T) {
	s := newSite(t)
	left := make(chan time.Duration, 1)
	s.serve(t, "b", Doors{Exec: exec(func(ctx context.Context, _ string, r *ExecRequest) (*function.Result, error) {
		d, _ := ctx.Deadline()
		if !d.Equal(r.Deadline) {
			t.Errorf("the context ends at %v, the call at %v", d, r.Deadline)
		}
		left <- time.Until(r.Deadline)
		<-ctx.Done()
		return nil, &function.Error{Op: "invoke", Subject: "f", Class: function.ClassRetry, Kind: "timeout"}
	})}, Limits{})
	c := callOf("1")
	c.Deadline = time.Now().Add(100 * time.Millisecond)
	_, err := invoke(t, s.peers(t, "a"), "b", c)
	wantClass(t, err, function.ClassRetry, "timeout")
	if l := <-left; l > 100*time.Millisecond || l < 0 {
		t.Errorf("%v left", l)
	}
}

// A call is run on the node that knows the function by the same version, with the captures of its own trigger.
func TestRequestToCall(t *testing.T) {
	p, err := event.ParsePattern("plant/{line}/temp")
	if err != nil {
		t.Fatal(err)
	}
	f := &function.Function{Manifest: function.Manifest{Name: "f", MQTT: []function.MQTTTrigger{{Topic: p}}}, Version: 3}
	in := &function.Call{Function: f, Event: &event.Event{ID: "1", Topic: "plant/7/temp"}, Trigger: "mqtt[0]", Attempt: 2, Epoch: 9}
	got, err := requestOf(in).Call(f, "b")
	if err != nil {
		t.Fatal(err)
	}
	if line, ok := got.Attr("topic.line"); !ok || line != "7" || got.Node != "b" || got.Attempt != 2 || got.Epoch != 9 {
		t.Errorf("%+v", got)
	}
	for _, other := range []*function.Function{nil, {Version: 4}, {Version: 3, Module: function.DigestOf(nil)}} {
		_, err := requestOf(in).Call(other, "b")
		wantClass(t, err, function.ClassNotHere, KindNotDeployed)
	}
	for trigger, ok := range map[string]bool{"mqtt[1]": true, "mqtt[-1]": false, "mqtt[": false, "http[0]": false, "invoke": false, "mqtt[x]": false} {
		if _, got := triggerIndex(trigger, "mqtt"); got != ok {
			t.Errorf("%s: %t", trigger, got)
		}
		r := requestOf(in)
		r.Trigger = trigger
		if c, err := r.Call(f, "b"); err != nil || c.Pattern.String() != "" {
			t.Errorf("%s: %v %v", trigger, c, err)
		}
	}
}
