package agent

import (
	"context"
	"errors"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
	"mayfly/event"
	"mayfly/function"
)

// graves shows operators the dead letters.
type graves struct {
	journal  *journal.Journal
	dispatch *dispatch.Dispatcher
	find     func(name string) (*function.Function, error)
}

func query(q admin.DeadLetterQuery) journal.Query {
	return journal.Query{IDs: q.IDs, Function: q.Function}
}

// List implements admin.DeadLetters.
func (g *graves) List(_ context.Context, q admin.DeadLetterQuery) ([]admin.DeadLetter, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	all := []admin.DeadLetter{}
	next := query(q)
	for len(all) < limit {
		next.Limit = min(limit-len(all), 1000)
		page, after, err := g.journal.Letters(next)
		if err != nil {
			return nil, err
		}
		for i := range page {
			all = append(all, letter(&page[i]))
		}
		if next.After = after; after == 0 {
			break
		}
	}
	return all, nil
}

// Get implements admin.DeadLetters.
func (g *graves) Get(_ context.Context, id string) (admin.DeadLetter, error) {
	l, err := g.journal.Letter(id)
	if errors.Is(err, journal.ErrGone) {
		return admin.DeadLetter{}, &function.Error{
			Op: "find", Subject: "dead letter " + id, Class: function.ClassReject, Kind: admin.KindNotFound,
			Err: errors.New("there is none of this id"), Hint: "mayfly dlq ls",
		}
	}
	if err != nil {
		return admin.DeadLetter{}, err
	}
	out := letter(&l)
	body := admin.NewBody(l.Event.Data)
	out.Body = &body
	for _, name := range [...]string{"source", "type", "time", "subject", "datacontenttype", "qos", "retained", "dup", "traceparent"} {
		if v, ok := l.Event.Attr(name); ok {
			out.Attrs = append(out.Attrs, admin.Attr{Name: name, Value: v})
		}
	}
	for _, c := range l.Event.Captures {
		out.Attrs = append(out.Attrs, admin.Attr{Name: "topic." + c.Name, Value: c.Value})
	}
	for _, u := range l.Event.User {
		out.Attrs = append(out.Attrs, admin.Attr{Name: u.Shown(), Value: u.Value})
	}
	return out, nil
}

func letter(l *journal.Letter) admin.DeadLetter {
	ev := l.Event
	if ev == nil {
		ev = &event.Event{}
	}
	return admin.DeadLetter{
		ID: l.ID, Function: l.Function, Trigger: l.Trigger, Event: ev.ID, Topic: ev.Topic, Received: l.Received, Died: l.Died,
		Attempts: l.Attempt, Bytes: l.Bytes, Error: &admin.Error{Op: "invoke", Subject: l.Function, Kind: l.Kind, Message: l.LastError},
	}
}

// Replay implements admin.DeadLetters.
func (g *graves) Replay(_ context.Context, q admin.DeadLetterQuery) (int, error) {
	moved, err := g.journal.Replay(query(q), func(name string) error {
		_, err := g.find(name)
		return err
	})
	g.dispatch.Restore(moved)
	return len(moved), err
}

// Drop implements admin.DeadLetters.
func (g *graves) Drop(_ context.Context, q admin.DeadLetterQuery) (int, error) {
	return g.journal.Drop(query(q))
}
