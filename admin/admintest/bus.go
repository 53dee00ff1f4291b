package admintest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mayfly/admin"
	"mayfly/event"
	"mayfly/function"
)

// Publish implements admin.Bus.
func (a *Agent) Publish(_ context.Context, m event.Message) error {
	if m.Broker != "" {
		return &function.Error{
			Op: "publish", Subject: m.Topic, Class: function.ClassReject, Kind: admin.KindNotFound,
			Err: fmt.Errorf("there is no broker %q", m.Broker), Hint: "mayfly status lists the brokers",
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.published = append(a.published, m)
	if m.Retain {
		a.retained[m.Topic] = m
	}
	for s := range a.subs {
		if event.MatchFilter(s.filter, m.Topic) {
			s.emit(a.received(m, false))
		}
	}
	return nil
}

func (a *Agent) received(m event.Message, retained bool) admin.Received {
	return admin.Received{Time: a.Now(), Topic: m.Topic, QoS: m.QoS, Retained: retained, Body: admin.NewBody(m.Data)}
}

// Published returns what was published so far.
func (a *Agent) Published() []event.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.published)
}

// Subscribe implements admin.Bus.
func (a *Agent) Subscribe(ctx context.Context, q admin.SubscribeQuery, ready func(), emit func(admin.Received)) error {
	s := &subscriber{q.Filter, emit}
	a.mu.Lock()
	a.subs[s] = struct{}{}
	for _, topic := range slices.Sorted(maps.Keys(a.retained)) {
		if event.MatchFilter(q.Filter, topic) {
			emit(a.received(a.retained[topic], true))
		}
	}
	a.mu.Unlock()
	ready()
	<-ctx.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.subs, s)
	return nil
}

// Letters are an agent's dead letters.
type Letters struct{ agent *Agent }

// AddLetter gives up on ev.
func (a *Agent) AddLetter(name string, ev *event.Event, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body := admin.NewBody(ev.Data)
	a.letters = append(a.letters, admin.DeadLetter{
		ID: fmt.Sprintf("%s-%d", name, len(a.letters)+1), Function: name, Trigger: "mqtt[0]", Event: ev.ID, Topic: ev.Topic,
		Received: ev.Time, Died: a.Now(), Attempts: 5, Bytes: int64(len(ev.Data)), Error: admin.NewError("run", name, cause), Body: &body,
	})
}

func matches(q admin.DeadLetterQuery, d *admin.DeadLetter) bool {
	if len(q.IDs) > 0 {
		return slices.Contains(q.IDs, d.ID)
	}
	return q.Function == "" || q.Function == d.Function
}

// List implements admin.DeadLetters.
func (l Letters) List(_ context.Context, q admin.DeadLetterQuery) ([]admin.DeadLetter, error) {
	l.agent.mu.Lock()
	defer l.agent.mu.Unlock()
	var out []admin.DeadLetter
	for _, d := range l.agent.letters {
		if matches(q, &d) && len(out) < q.Limit {
			d.Body = nil
			out = append(out, d)
		}
	}
	return out, nil
}

// Get implements admin.DeadLetters.
func (l Letters) Get(_ context.Context, id string) (admin.DeadLetter, error) {
	l.agent.mu.Lock()
	defer l.agent.mu.Unlock()
	for _, d := range l.agent.letters {
		if d.ID == id {
			return d, nil
		}
	}
	return admin.DeadLetter{}, notFound("show", "dead letter", id)
}

// Replay implements admin.DeadLetters: the function must still be there.
func (l Letters) Replay(ctx context.Context, q admin.DeadLetterQuery) (int, error) {
	list, err := l.List(ctx, admin.DeadLetterQuery{IDs: q.IDs, Function: q.Function, Limit: 1 << 30})
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		if _, err := l.agent.Get(ctx, d.Function); err != nil {
			return 0, &function.Error{
				Op: "replay", Subject: d.ID, Class: function.ClassReject, Kind: admin.KindConflict,
				Err: errors.New("function " + d.Function + " is gone"), Hint: "deploy it again, or: mayfly dlq drop " + d.ID,
			}
		}
	}
	return l.Drop(ctx, q)
}

// Drop implements admin.DeadLetters.
func (l Letters) Drop(_ context.Context, q admin.DeadLetterQuery) (int, error) {
	l.agent.mu.Lock()
	defer l.agent.mu.Unlock()
	before := len(l.agent.letters)
	l.agent.letters = slices.DeleteFunc(l.agent.letters, func(d admin.DeadLetter) bool { return matches(q, &d) })
	if n := before - len(l.agent.letters); n > 0 || len(q.IDs) == 0 {
		return n, nil
	}
	return 0, notFound("drop", "dead letter", q.IDs[0])
}
