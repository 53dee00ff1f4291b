package dispatch

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Nodes refuse, fail, forget, lose answers, drain and get new versions one after the other, while events of ordered keys arrive at one
// of them: each is settled as safe, its effect becomes true once, here, and in the order of its key ([D1], [D5], [P2]).
func TestNothingIsLostOrTwiceWhilePeersFail(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			window := []int{1000, 20}[seed%2] // with the small one, much passes through the journal
			w := newTownOfWindow(t, window, 4, jumpy(seed), func(m *function.Manifest, _ *Route) {
				m.Retry.MaxAttempts = 1 << 20
				m.Retry.BackoffMax = 200 * time.Millisecond
			})
			a := w.houses["a"]
			const keys, events = 12, 400
			for i := range events {
				a.send(fmt.Sprintf("in/%02d", i%keys), fmt.Sprintf("%04d", i))
				if rng.IntN(4) == 0 {
					w.disturb(rng)
				}
				time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
			}
			w.heal()
			for range 100 {
				if pass(time.Second); a.d.Idle() {
					break
				}
			}
			for i := range events {
				if s, ok := a.done.of(fmt.Sprintf("%04d", i)); !ok || s.Err != nil {
					t.Fatalf("seed %d: event %d: settled %v with %v", seed, i, ok, s.Err)
				}
			}
			w.check(seed, keys, events)
			if window == 20 && a.d.spilled.Load() == 0 {
				t.Errorf("seed %d: nothing was journaled, so that was not shown", seed)
			}
		})
	}
}

// jumpy is a function that takes its time and says what it was given.
func jumpy(seed uint64) guest {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 2))
	return func(call *function.Call, res *function.Result) error {
		mu.Lock()
		wait := time.Duration(rng.IntN(40)) * time.Millisecond
		mu.Unlock()
		time.Sleep(wait)
		res.Publishes = append(res.Publishes, event.Message{Topic: "out/" + call.Event.Topic + "/" + call.Event.ID, QoS: 1})
		return nil
	}
}

// disturb does something bad.
func (w *town) disturb(rng *rand.Rand) {
	name := w.order[rng.IntN(len(w.order))]
	switch rng.IntN(40) {
	case 0: // a new version, and the others get it when they get it
		f := *w.fn
		f.Version++
		w.fn = &f
		w.deploy(name)
		return
	case 1, 2, 3, 4, 5, 6, 7, 8:
		w.deploy(name)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch rng.IntN(6) {
	case 0:
		w.cut[name] = classed(function.ClassOverload)
	case 1:
		w.cut[name] = classed(function.ClassNotHere)
	case 2:
		w.cut[name] = classed(function.ClassFatal)
	case 3:
		w.lost[name] = true
	case 4:
		w.draining[name] = true
		w.epoch++
	default:
		delete(w.cut, name)
		delete(w.lost, name)
		delete(w.draining, name)
		w.epoch++
	}
}

// deploy brings the latest version to a node.
func (w *town) deploy(name string) {
	w.houses[name].d.Deploy([]*function.Function{w.fn}, []*Route{w.route})
}

func (w *town) heal() {
	for _, name := range w.order {
		w.deploy(name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
	clear(w.lost)
	clear(w.draining)
	w.epoch++
}

// check looks at what was published: all here, each once, each key in order.
func (w *town) check(seed uint64, keys, events int) {
	last, seen := map[string]string{}, 0
	for _, topic := range w.houses["a"].outbox.topics() {
		key, id := topic[:strings.LastIndex(topic, "/")], topic[strings.LastIndex(topic, "/")+1:]
		if id <= last[key] {
			w.t.Errorf("seed %d: %s of %s came after %s", seed, id, key, last[key])
		}
		last[key] = id
		seen++
	}
	away := 0
	for _, name := range w.order[1:] {
		away += w.houses[name].runs()
		if n := len(w.houses[name].outbox.topics()); n != 0 {
			w.t.Errorf("seed %d: %s published %d itself", seed, name, n)
		}
	}
	if seen != events || len(last) != keys {
		w.t.Errorf("seed %d: %d effects of %d keys, want %d of %d", seed, seen, len(last), events, keys)
	}
	if away == 0 {
		w.t.Errorf("seed %d: nothing ran on peers, so nothing was shown", seed)
	}
	if sent := len(w.houses["a"].d.away.sent); sent != 0 {
		w.t.Errorf("seed %d: %d peers are still taken to have calls of ours", seed, sent)
	}
}
