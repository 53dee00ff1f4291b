package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

var errAway = errors.New("away")

// wire is a Publisher whose broker does what the test says.
type wire struct {
	window  int
	changes chan struct{}

	mu    sync.Mutex
	up    bool
	sent  []event.Message // everything ever put on the wire
	asked []Confirmation  // of this connection, not confirmed
}

func newWire(window int) *wire { return &wire{window: window, changes: make(chan struct{}, 1)} }

func (w *wire) Changes() <-chan struct{} { return w.changes }

func (w *wire) Ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up
}

func (w *wire) Check(m *event.Message) error {
	if m.Topic == "never" {
		return &function.Error{Op: "publish", Subject: m.Topic, Class: function.ClassReject, Kind: "topic"}
	}
	return nil
}

func (w *wire) Publish(m *event.Message, c Confirmation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case m.Topic == "too-large-now":
		return &function.Error{Op: "publish", Subject: m.Topic, Class: function.ClassReject, Kind: "too-large"}
	case !w.up, len(w.asked) >= w.window:
		return errAway
	}
	w.sent = append(w.sent, *m)
	w.asked = append(w.asked, c)
	return nil
}

// confirm confirms the nth of those that wait.
func (w *wire) confirm(n int) bool {
	w.mu.Lock()
	if n >= len(w.asked) {
		w.mu.Unlock()
		return false
	}
	c := w.asked[n]
	w.asked = slices.Delete(w.asked, n, n+1)
	w.mu.Unlock()
	c.Confirmed(nil)
	return true
}

// set brings the connection up or cuts it.
func (w *wire) set(up bool) {
	w.mu.Lock()
	w.up = up
	lost := w.asked
	w.asked = nil
	w.mu.Unlock()
	for _, c := range lost {
		c.Confirmed(errAway)
	}
	signal(w.changes)
}

func (w *wire) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := make([]string, len(w.sent))
	for i, m := range w.sent {
		texts[i] = string(m.Data)
	}
	return texts
}

// disk is a Store in memory. What was submitted is visible at once and synced by sync.
type disk struct {
	mu     sync.Mutex
	manual bool // the test calls sync
	fail   error
	live   map[string][]byte
	synced map[string][]byte
	queue  []func()
}

func newDisk() *disk { return &disk{live: map[string][]byte{}, synced: map[string][]byte{}} }

func apply(to map[string][]byte, ops []store.Op) {
	for _, op := range ops {
		if op.Delete {
			delete(to, string(op.Key))
		} else {
			to[string(op.Key)] = op.Value
		}
	}
}

func (d *disk) Submit(ops []store.Op, done func(error)) error {
	d.mu.Lock()
	if d.fail != nil {
		d.mu.Unlock()
		return d.fail
	}
	apply(d.live, ops)
	d.queue = append(d.queue, func() {
		d.mu.Lock()
		apply(d.synced, ops)
		d.mu.Unlock()
		done(nil)
	})
	manual := d.manual
	d.mu.Unlock()
	if !manual {
		d.sync()
	}
	return nil
}

func (d *disk) sync() {
	d.mu.Lock()
	queue := d.queue
	d.queue = nil
	d.mu.Unlock()
	for _, f := range queue {
		f()
	}
}

func (d *disk) Scan(prefix, after []byte, yield func(key, value []byte, version uint64) bool) error {
	d.mu.Lock()
	var keys []string
	for k := range d.live {
		if bytes.HasPrefix([]byte(k), prefix) && k > string(after) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = d.live[k]
	}
	d.mu.Unlock()
	for i, k := range keys {
		if !yield([]byte(k), values[i], 1) {
			break
		}
	}
	return nil
}

func (d *disk) records() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.live)
}

func say(topic string, n int) event.Message {
	return event.Message{Topic: topic, Data: fmt.Append(nil, n), QoS: 1}
}

func open(t *testing.T, c Config, w *wire, d *disk) *Outbox {
	t.Helper()
	c.Default = "site"
	o, err := Open(c, map[string]Publisher{"site": w}, d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// commit makes messages durable as the dispatcher does: operations in a batch, release when it is synced.
func commit(t *testing.T, o *Outbox, d *disk, msgs ...event.Message) {
	t.Helper()
	ops, ticket, err := o.Ops("f", msgs)
	if err == nil {
		err = d.Submit(ops, func(error) { o.Release(ticket) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not reached: %s", what)
		}
	}
}
