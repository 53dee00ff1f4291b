package dispatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"mayfly/function"
	"mayfly/store"
	"mayfly/triggers"
)

// A trigger that another node can take over has an owner at a time, and every owner an epoch, which only grows. Who was cut off may
// not know it yet and still be running an event that the next owner runs too. So the highest epoch that ever changed a function's
// state is kept per trigger, and a commit with a lower one is refused ([U2]). Events that are in the journal are exempt: they were
// acknowledged, so nobody else has them.

var errFenced = errors.New("another node has taken the trigger over meanwhile, and this event with it")

// fence is the highest epoch of each trigger of one function. It is read from the store once, and written in the first commit of a new
// epoch: a commit costs nothing more. Safe for concurrent use; the zero fence knows nothing yet.
type fence struct {
	mu    sync.Mutex
	known map[string]uint64 // by trigger
}

func fenceKey(function, trigger string) []byte {
	return store.Trigger.Key(function, []byte("fence/"+trigger))
}

// epoch returns the epoch under which t may change state; 0 when there is no other node that could have it. The task is claimed.
func (t *task) epoch() uint64 {
	if t.seq != 0 {
		return 0
	}
	return t.ev.Delivery.Fence
}

// pass lets submit commit t's effects, with the operations it is given besides, unless they are of an epoch that is over.
func (f *fence) pass(st Store, t *task, submit func(besides []store.Op) error) error {
	epoch := t.epoch()
	if epoch == 0 {
		return submit(nil)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	highest, err := f.highest(st, t.route.Function, t.route.Trigger)
	switch {
	case err != nil:
		return err
	case epoch < highest:
		return &function.Error{
			Op: "commit", Subject: t.route.Function, Class: function.ClassNotHere, Kind: "fenced",
			Err: fmt.Errorf("epoch %d is over, %d has begun: %w", epoch, highest, errFenced),
		}
	case epoch == highest:
		return submit(nil)
	}
	op := store.Op{Key: fenceKey(t.route.Function, t.route.Trigger), Value: binary.BigEndian.AppendUint64(nil, epoch)}
	if err := submit([]store.Op{op}); err != nil {
		return err
	}
	f.known[t.route.Trigger] = epoch
	return nil
}

// highest is called with mu held.
func (f *fence) highest(st Store, name, trigger string) (uint64, error) {
	if epoch, ok := f.known[trigger]; ok {
		return epoch, nil
	}
	value, version, err := st.Get(fenceKey(name, trigger))
	if err != nil {
		return 0, err
	}
	epoch := uint64(0)
	if version != 0 && len(value) == 8 {
		epoch = binary.BigEndian.Uint64(value)
	}
	if f.known == nil {
		f.known = map[string]uint64{}
	}
	f.known[trigger] = epoch
	return epoch, nil
}

// Fence returns the highest epoch that has changed the state of a function through one of its triggers, here. A new owner's must
// be higher, whatever became of the claims at the broker.
func (d *Dispatcher) Fence(name, trigger string) uint64 {
	d.mu.Lock()
	u := d.unit(name)
	d.mu.Unlock()
	u.fence.mu.Lock()
	defer u.fence.mu.Unlock()
	epoch, err := u.fence.highest(d.dep.Store, name, trigger)
	if err != nil {
		d.dep.Log.Warn("the epoch of a trigger cannot be read", "function", name, "trigger", trigger, "err", err)
	}
	return epoch
}

// fenced says whether t, if it is not journaled, is of an epoch that is over.
func (d *Dispatcher) fenced(t *task) bool {
	epoch := t.ev.Delivery.Fence
	if epoch == 0 {
		return false
	}
	t.unit.fence.mu.Lock()
	defer t.unit.fence.mu.Unlock()
	return epoch < t.unit.fence.known[t.route.Trigger]
}

// expel ends a task that is another node's by now, before it runs for nothing. It reports false when it was journaled meanwhile.
func (d *Dispatcher) expel(w *worker, t *task) bool {
	d.claim(t)
	if t.seq != 0 {
		return false
	}
	w.rec.Outcome = "fenced"
	d.observe(w)
	d.over(t, triggers.Settlement{Err: errFenced})
	return true
}

// Withdraw gives back events of a source to their sender that have not begun to run, as not safe. With all, the source has lost its
// connection for good and every one of them is given back. Otherwise those that came before one which has begun still run: they are
// acknowledged in the order received ([D5]), so the one behind them would come a second time.
func (d *Dispatcher) Withdraw(source string, all bool) (given int) {
	d.mu.Lock()
	var left []*task
	if w := d.windows[source]; w != nil {
		begun := d.begun()
		waiting, from := w.tasks[w.head:], 0
		for i, t := range waiting {
			if !all && (begun[t] || t.ending || t.settled.Load() && !t.skip) {
				from = i + 1
			}
		}
		for _, t := range waiting[from:] {
			if !begun[t] && !t.ending && !t.skip && t.seq == 0 && t.spilling == nil && !t.settled.Load() {
				t.skip = true
				left = append(left, t)
			}
		}
	}
	d.mu.Unlock()
	for _, t := range left {
		d.over(t, triggers.Settlement{Err: errFenced})
	}
	return len(left)
}

// begun returns the tasks that run, here or on a peer. Called with mu held.
func (d *Dispatcher) begun() map[*task]bool {
	tasks := map[*task]bool{}
	for _, w := range d.crew {
		if w.lane != nil {
			tasks[w.lane.head] = true
		}
	}
	return tasks
}
