package agent

import (
	"sync/atomic"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
)

// stories turns what the dispatcher saw into what operators read. When nobody follows, ordinary events are kept at a bounded
// rate only: a full speed stream of them would cost more than the events themselves.
type stories struct {
	admin.Feeds
	decisions decisions
	node      string
	last      atomic.Int64 // when the last ordinary event was kept, Unix nanoseconds
}

const ordinaryEvery = 20 * time.Millisecond

func newStories(node string) *stories {
	return &stories{Feeds: admin.NewFeeds(admin.MaxKeep, admin.MaxKeep), node: node}
}

// Placed implements dispatch.Observer.
func (s *stories) Placed(p *placement.Decision) { s.decisions.add(*p) }

// Observed implements dispatch.Observer.
func (s *stories) Observed(r *dispatch.Record) {
	if r.Error == "" && !s.Stories.Live() {
		now := time.Now().UnixNano()
		if last := s.last.Load(); now-last < int64(ordinaryEvery) || !s.last.CompareAndSwap(last, now) {
			return
		}
	}
	if why := placement.Reason(r.Reason); why == placement.ReasonLocal || why == placement.ReasonState {
		s.decisions.add(placement.Decision{
			Time: r.Time, Event: r.Event.ID, Function: r.Function, Trigger: r.Trigger, Node: r.Node, Here: true, Reason: why, Waited: r.Wait, Took: r.Run,
		})
	}
	rec := admin.EventRecord{
		Time: r.Time, ID: r.Event.ID, Source: r.Event.Source, Type: r.Event.Type, Broker: r.Event.Broker, Topic: r.Event.Topic,
		QoS: r.Event.QoS, Retained: r.Event.Retained, Dup: r.Event.Dup, Bytes: int64(len(r.Event.Data)),
		Function: r.Function, Trigger: r.Trigger, Attempt: r.Attempt, Node: r.Node, Why: r.Reason, Outcome: r.Outcome,
		WaitUS: r.Wait.Microseconds(), TotalUS: time.Since(r.Time).Microseconds(), Writes: r.Writes,
		Usage: admin.Usage{
			WallUS: r.Run.Microseconds(), CPUUS: r.CPU.Microseconds(), Memory: r.Memory, Cold: r.Cold,
			BytesIn: int64(len(r.Event.Data)),
		},
		Settled: settled(r),
	}
	switch r.Outcome {
	case "filtered", "expired", "duplicate", "coalesced":
		rec.Skipped, rec.Outcome = r.Outcome, ""
	}
	for i := range r.Published {
		m := &r.Published[i]
		rec.Published = append(rec.Published, admin.Sent{Broker: m.Broker, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Bytes: int64(len(m.Data))})
		rec.Usage.BytesOut += int64(len(m.Data))
	}
	if r.Error != "" {
		rec.Error = &admin.Error{Op: "invoke", Subject: r.Function, Kind: r.Kind, Message: r.Error}
	}
	s.Stories.Add(rec)
}

func settled(r *dispatch.Record) string {
	switch r.Outcome {
	case "retry":
		return admin.SettledJournaled
	case "dead-letter":
		return admin.SettledDeadLetter
	case "shed":
		return admin.SettledShed
	case "failed":
		return admin.SettledHeld
	}
	if r.Event.QoS == 0 && r.Event.Type == event.TypeMQTT {
		return admin.SettledNobody
	}
	return admin.SettledAcked
}

// Logged implements dispatch.Observer.
func (s *stories) Logged(f *function.Function, ev *event.Event, lines []function.LogLine, dropped int) {
	for i := range lines {
		l := &lines[i]
		s.LogLines.Add(admin.LogRecord{
			Time: l.Time, Function: f.Name(), Event: ev.ID, Node: s.node, Level: l.Level.String(), Text: l.Text,
		})
	}
	if dropped > 0 {
		s.LogLines.Add(admin.LogRecord{
			Time: time.Now(), Function: f.Name(), Event: ev.ID, Node: s.node, Level: function.LevelWarn.String(),
			Text: "more was logged than limits.log allows; the rest of this event's lines was dropped",
		})
	}
}
