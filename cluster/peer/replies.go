package peer

import (
	"context"
	"sync"
	"time"
)

// Bounds of what is remembered of calls that ran here.
const (
	keepReplies   = 5 * time.Minute
	maxReplies    = 4096
	maxReplyBytes = 16 << 20
	linger        = 500 * time.Millisecond // how long a run goes on that nobody waits for: the one who lost the connection comes back
)

// callKey is what makes two requests the same: they come from one node and mean one attempt at one event by one version of a
// function, on behalf of one owner of its trigger.
type callKey struct {
	from, function, trigger, source, event string
	version, epoch                         uint64
	attempt                                int
	dryRun                                 bool
}

func keyOf(from string, r *ExecRequest) callKey {
	return callKey{
		from: from, function: r.Function, trigger: r.Trigger, source: r.Event.Source, event: r.Event.ID,
		version: r.Version, epoch: r.Epoch, attempt: r.Attempt, dryRun: r.DryRun,
	}
}

func (k *callKey) size() int64 {
	return int64(len(k.from)+len(k.function)+len(k.trigger)+len(k.source)+len(k.event)) + 256
}

// answer is what is said to a call. It is immutable.
type answer struct {
	status int
	body   []byte
	ran    bool // it came of a run that ended by itself: asking again must not run it again
}

// replies remembers what calls came to, so that whoever lost a reply and asks again gets it and runs nothing twice [N2], and makes
// requests for a call that is running wait for it.
type replies struct {
	mu    sync.Mutex
	by    map[callKey]*reply
	order []*reply // remembered ones, oldest first
	bytes int64
}

type reply struct {
	key     callKey
	done    chan struct{}
	answer  answer // when done
	at      time.Time
	waiting int
	cancel  context.CancelFunc
}

func newReplies() *replies { return &replies{by: map[callKey]*reply{}} }

// do returns what the call of k came to, running it if that is not known. repeated says that it did not run it. It returns false
// when ctx ended first. A run that nobody waits for any more is cancelled after a moment, and at the deadline in any case.
func (c *replies) do(ctx context.Context, k callKey, deadline time.Time, run func(context.Context) answer) (a answer, repeated, ok bool) {
	c.mu.Lock()
	e := c.by[k]
	if e != nil && e.cancel == nil && time.Since(e.at) >= keepReplies {
		c.expire(time.Now())
		e = nil
	}
	if e != nil {
		e.waiting++
		c.mu.Unlock()
		select {
		case <-e.done:
			return e.answer, true, e.answer.status != 0
		case <-ctx.Done():
			c.leave(e)
			return answer{}, true, false
		}
	}
	wanted, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	e = &reply{key: k, done: make(chan struct{}), waiting: 1, cancel: cancel}
	c.by[k] = e
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.leave(e) })
	defer stop()
	defer c.settle(e) // also when run panics
	e.answer = run(wanted)
	return e.answer, false, true
}

// leave takes note that one who waited is gone.
func (c *replies) leave(e *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.waiting--; e.waiting > 0 || e.cancel == nil {
		return
	}
	time.AfterFunc(linger, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.waiting == 0 && e.cancel != nil {
			e.cancel()
		}
	})
}

// settle remembers the answer of a run, or forgets the run.
func (c *replies) settle(e *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.cancel, e.at = nil, time.Now()
	close(e.done)
	if size := e.size(); e.answer.ran && size <= maxReplyBytes/4 {
		c.order = append(c.order, e)
		c.bytes += size
		c.expire(e.at)
		return
	}
	delete(c.by, e.key)
}

func (e *reply) size() int64 { return e.key.size() + int64(len(e.answer.body)) }

// expire forgets what is too old, and the oldest of what is too much. The lock is held.
func (c *replies) expire(now time.Time) {
	n := 0
	for _, e := range c.order {
		if len(c.order)-n <= maxReplies && c.bytes <= maxReplyBytes && now.Sub(e.at) < keepReplies {
			break
		}
		c.bytes -= e.size()
		delete(c.by, e.key)
		c.order[n] = nil
		n++
	}
	c.order = c.order[n:]
	if len(c.order) == 0 {
		c.order = nil
	}
}

// sweep forgets what is too old.
func (c *replies) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(time.Now())
}

// cancelAll gives up every run.
func (c *replies) cancelAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.by {
		if e.cancel != nil {
			e.cancel()
		}
	}
}
