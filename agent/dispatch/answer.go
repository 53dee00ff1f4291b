package dispatch

import (
	"encoding/json"

	"mayfly/event"
	"mayfly/function"
)

// answer adds the reply to the publishes of a call that is done: it becomes true, and is confirmed, with them ([D13]).
func (w *worker) answer(t *task) {
	if t.route.Reply == nil {
		return
	}
	topic, _ := t.route.Reply(t.ev)
	if topic == "" {
		return
	}
	m := event.Message{Broker: t.ev.Broker, Topic: topic, QoS: 1}
	if r := w.res.Response; r != nil {
		m.Data = r.Data
	}
	w.res.Publishes = append(w.res.Publishes, m)
}

// failure is what a caller is told whose call is given up.
type failure struct {
	Class string `json:"class"`
	Kind  string `json:"kind"`
	Error string `json:"error"`
}

// notices returns what is published when t's event is given up: the dead letter and the caller's answer, as far as they are asked for.
func notices(f *function.Function, t *task, cause error) []event.Message {
	var all []event.Message
	if f != nil && f.Manifest.Retry.DeadLetter != "" {
		all = append(all, event.Message{Broker: t.ev.Broker, Topic: f.Manifest.Retry.DeadLetter, Data: t.ev.Data, QoS: 1})
	}
	if t.route.Reply == nil {
		return all
	}
	if _, topic := t.route.Reply(t.ev); topic != "" {
		text, err := json.Marshal(failure{function.ClassOf(cause).String(), function.KindOf(cause), cause.Error()})
		if err == nil { // three strings
			all = append(all, event.Message{Broker: t.ev.Broker, Topic: topic, Data: text, QoS: 1})
		}
	}
	return all
}
