package admin

import (
	"context"
	"sync"
	"sync/atomic"

	"mayfly/event"
	"mayfly/function"
)

// MaxKeep is the most records a Feed keeps of each kind; a stream's queue takes that many, so history is never dropped.
const MaxKeep = 1000

// Feed hands records to whoever follows and keeps the newest for whoever comes later. Notable records have a ring of their
// own, so that a flood of ordinary ones cannot push out the one that explains a failure. Safe for concurrent use.
type Feed[T any] struct {
	notable func(*T) bool
	live    atomic.Int32

	mu        sync.Mutex
	seq       uint64
	ordinary  ring[T]
	special   ring[T]
	followers map[*follower[T]]struct{}
}

type follower[T any] struct {
	match func(*T) bool
	emit  func(T)
}

// NewFeed returns a feed that keeps keep ordinary and keep notable records, at most MaxKeep.
func NewFeed[T any](keep int, notable func(*T) bool) *Feed[T] {
	keep = max(0, min(keep, MaxKeep))
	return &Feed[T]{
		notable: notable, ordinary: ring[T]{size: keep}, special: ring[T]{size: keep},
		followers: map[*follower[T]]struct{}{},
	}
}

// Live says whether anybody follows now: without followers an agent under load may leave out what would only be kept.
func (f *Feed[T]) Live() bool { return f.live.Load() > 0 }

// Add keeps rec and shows it to the followers it matches. It never waits for a reader.
func (f *Feed[T]) Add(rec T) {
	notable := f.notable(&rec)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	if notable {
		f.special.add(f.seq, rec)
	} else {
		f.ordinary.add(f.seq, rec)
	}
	for w := range f.followers {
		if w.match(&rec) {
			w.emit(rec)
		}
	}
}

// Selection says which records of a feed are wanted.
type Selection[T any] struct {
	Match  func(*T) bool
	Limit  int // newest of the past, 0 = all that are kept
	Follow bool
}

// Watch calls emit for the kept records that sel wants, oldest first, then ready, and then, if sel.Follow, for every new
// one until ctx ends. No record is missed or shown twice between the two. match and emit are called with the feed locked:
// they must neither block nor call it.
func (f *Feed[T]) Watch(ctx context.Context, sel Selection[T], ready func(), emit func(T)) error {
	w := &follower[T]{match: sel.Match, emit: emit}
	f.mu.Lock()
	for _, rec := range f.past(sel) {
		emit(rec)
	}
	if sel.Follow {
		f.followers[w] = struct{}{}
		f.live.Add(1)
	}
	f.mu.Unlock()
	ready()
	if !sel.Follow {
		return nil
	}
	<-ctx.Done()
	f.mu.Lock()
	delete(f.followers, w)
	f.mu.Unlock()
	f.live.Add(-1)
	return nil
}

// past merges both rings by sequence; the caller holds the lock.
func (f *Feed[T]) past(sel Selection[T]) []T {
	var out []T
	a, b := f.ordinary.all(), f.special.all()
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].seq < a[0].seq {
			from = &b
		}
		if rec := (*from)[0].rec; sel.Match(&rec) {
			out = append(out, rec)
		}
		*from = (*from)[1:]
	}
	if sel.Limit > 0 && len(out) > sel.Limit {
		out = out[len(out)-sel.Limit:]
	}
	return out
}

type kept[T any] struct {
	seq uint64
	rec T
}

// ring keeps the newest size records; it grows to that only as records come.
type ring[T any] struct {
	size  int
	start int
	recs  []kept[T]
}

func (r *ring[T]) add(seq uint64, rec T) {
	switch {
	case r.size == 0:
	case len(r.recs) < r.size:
		r.recs = append(r.recs, kept[T]{seq, rec})
	default:
		r.recs[r.start] = kept[T]{seq, rec}
		r.start = (r.start + 1) % r.size
	}
}

func (r *ring[T]) all() []kept[T] {
	return append(append(make([]kept[T], 0, len(r.recs)), r.recs[r.start:]...), r.recs[:r.start]...)
}

// Feeds is a Watcher over one feed of log lines and one of events.
type Feeds struct {
	LogLines *Feed[LogRecord]
	Stories  *Feed[EventRecord]
}

var _ Watcher = Feeds{}

// NewFeeds returns feeds that keep logs log lines and as many from level warn on, events events and as many that failed.
func NewFeeds(logs, events int) Feeds {
	return Feeds{
		LogLines: NewFeed(logs, func(r *LogRecord) bool { return levelOf(r.Level) >= function.LevelWarn }),
		Stories:  NewFeed(events, (*EventRecord).Failed),
	}
}

// Logs implements Watcher.
func (f Feeds) Logs(ctx context.Context, q LogQuery, ready func(), emit func(LogRecord)) error {
	return f.LogLines.Watch(ctx, Selection[LogRecord]{Match: q.Match, Limit: q.Limit, Follow: q.Follow}, ready, emit)
}

// Events implements Watcher.
func (f Feeds) Events(ctx context.Context, q EventQuery, ready func(), emit func(EventRecord)) error {
	return f.Stories.Watch(ctx, Selection[EventRecord]{Match: q.Match, Limit: q.Limit, Follow: q.Follow}, ready, emit)
}

// Match says whether r is wanted.
func (q *EventQuery) Match(r *EventRecord) bool {
	return (q.Function == "" || q.Function == r.Function) &&
		(q.Topic == "" || r.Topic != "" && event.MatchFilter(q.Topic, r.Topic)) &&
		(!q.Errors || r.Failed())
}

// Failed says whether the event did not simply run to its end.
func (r *EventRecord) Failed() bool {
	return r.Error != nil || r.Settled == SettledHeld || r.Settled == SettledShed || r.Settled == SettledDeadLetter ||
		r.Outcome != "" && r.Outcome != function.Done.String()
}
