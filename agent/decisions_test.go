package agent

import (
	"fmt"
	"testing"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/agent/placement"
	"mayfly/event"
)

func TestDecisionsKeepsTheLatest(t *testing.T) {
	t.Parallel()
	var d decisions
	for i := range keepDecisions + 500 {
		d.add(placement.Decision{Event: fmt.Sprint(i), Function: []string{"even", "odd"}[i%2]})
	}
	got := d.last(3, func(p *placement.Decision) bool { return p.Function == "even" })
	if len(got) != 3 || got[0].Event != "1498" || got[1].Event != "1496" || got[2].Event != "1494" {
		t.Errorf("got %+v", got)
	}
	everything := d.last(2*keepDecisions, func(*placement.Decision) bool { return true })
	if len(everything) != keepDecisions || everything[keepDecisions-1].Event != "500" {
		t.Errorf("%d are kept, the oldest is %+v", len(everything), everything[len(everything)-1])
	}
}

// What ran here is sampled, and one that went elsewhere is kept in full whatever the rate.
func TestDecisionsOfPlacement(t *testing.T) {
	t.Parallel()
	s := newStories("a")
	ev := &event.Event{ID: "1", Type: event.TypeMQTT}
	for range 100 {
		s.Observed(&dispatch.Record{Time: time.Now(), Event: ev, Function: "f", Node: "a", Reason: string(placement.ReasonLocal), Outcome: "done"})
	}
	for i := range 10 {
		s.Placed(&placement.Decision{Event: fmt.Sprint("far-", i), Function: "f", Node: "b", Reason: placement.ReasonPeer})
	}
	far, near := 0, 0
	for _, p := range s.decisions.last(keepDecisions, func(*placement.Decision) bool { return true }) {
		if p.Here {
			near++
		} else {
			far++
		}
	}
	if far != 10 || near == 0 || near > 50 {
		t.Errorf("%d of 10 that went away, %d of 100 that ran here", far, near)
	}
}
