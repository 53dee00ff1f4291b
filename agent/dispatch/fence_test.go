package dispatch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/store"
)

// owned is an event of a trigger whose owner has that epoch.
func owned(id string, epoch uint64) *event.Event {
	return &event.Event{
		ID: id, Topic: "in/" + id, Data: []byte(id), QoS: 1,
		Delivery: event.Delivery{Session: "mf", Epoch: 1, Fence: epoch, PacketID: uint16(len(id))},
	}
}

func counting(m *function.Manifest, _ *Route) { m.State.Scope = function.ScopeNode }

// put writes the event's id below its epoch's name.
func put(call *function.Call, res *function.Result) error {
	res.Writes = append(res.Writes, function.StateWrite{Key: fmt.Append(nil, call.Epoch), Value: call.Event.Data})
	return nil
}

// [U2] State is not changed under an epoch that is over, also after a restart; who does not write is not asked.
func TestLowerEpochIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, put, counting)
		sink := b.d.Sink("s")
		for _, c := range []struct {
			id    string
			epoch uint64
			safe  bool
		}{{"1", 5, true}, {"22", 7, true}, {"333", 5, false}, {"4444", 7, true}, {"55555", 6, false}, {"666666", 0, true}} {
			if err := sink.Accept(t.Context(), owned(c.id, c.epoch), receipt{b.done, c.id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, ok := b.done.of(c.id); !ok || (got.Err == nil) != c.safe {
				t.Errorf("event %s of epoch %d: settled %t with %v, want safe %t", c.id, c.epoch, ok, got.Err, c.safe)
			}
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(put)
		sink = b.d.Sink("s")
		if got := b.d.Fence("f", "mqtt[0]"); got != 7 {
			t.Errorf("after a restart the highest epoch is %d, want 7", got)
		}
		if err := sink.Accept(t.Context(), owned("7777777", 6), receipt{b.done, "7777777"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, _ := b.done.of("7777777"); got.Err == nil {
			t.Error("after a restart an epoch that is over may write")
		}
		if v, _, _ := b.store.Get(store.State.Key("f", []byte("6"))); v != nil {
			t.Errorf("epoch 6 wrote %q", v)
		}
	})
}

// A new epoch costs one write with the first commit, the next commits nothing more, and a function without state nothing at all.
func TestFenceCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, put, counting)
		sink := b.d.Sink("s")
		for _, id := range []string{"1", "22", "333"} {
			if err := sink.Accept(t.Context(), owned(id, 5), receipt{b.done, id}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		b.store.mu.Lock()
		if n := b.store.version[string(fenceKey("f", "mqtt[0]"))]; n != 1 {
			t.Errorf("the epoch was written %d times", n)
		}
		b.store.mu.Unlock()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(*function.Call, *function.Result) error { return nil }, nil)
		if err := b.d.Sink("s").Accept(t.Context(), owned("1", 5), receipt{b.done, "1"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b.store.batches != 0 {
			t.Errorf("%d batches for a function without state", b.store.batches)
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// What another node may have dealt with meanwhile is not taken for handled because the packet id and the reading are the same.
func TestDoneMarkEndsWithItsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []uint64
		b := newBench(t, func(call *function.Call, res *function.Result) error {
			ran = append(ran, call.Epoch)
			return put(call, res)
		}, counting)
		for _, epoch := range []uint64{5, 5, 7} {
			ev := owned("1", epoch)
			ev.Dup = len(ran) > 0
			if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, fmt.Sprint(len(ran), epoch)}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if !slices.Equal(ran, []uint64{5, 7}) {
			t.Errorf("ran in epochs %v, want 5 and 7", ran)
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// Withdrawn events go back to their sender unless one behind them has begun; with all, nothing that has not begun stays.
func TestWithdraw(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint(all), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran []string
				var mu sync.Mutex
				b := newBench(t, func(call *function.Call, _ *function.Result) error {
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					ran = append(ran, string(call.Event.Data))
					return nil
				}, func(m *function.Manifest, _ *Route) { m.Limits.Concurrency = 2 })
				for i, id := range []string{"a1", "a2", "b1", "b2", "c1"} { // lanes a, b, c; two at a time
					ev := &event.Event{ID: id, Topic: "in/" + id[:1], Data: []byte(id), QoS: 1, Delivery: event.Delivery{Session: "mf", Fence: 1, PacketID: uint16(i + 1)}}
					if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, id}); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait() // a1 and b1 run
				want, given := []string{"a1", "a2", "b1"}, 2
				if all {
					want, given = []string{"a1", "b1"}, 3
				}
				if n := b.d.Withdraw("s", all); n != given {
					t.Errorf("%d given back, want %d", n, given)
				}
				if n := b.d.Withdraw("s", all) + b.d.Withdraw("other", true); n != 0 {
					t.Errorf("%d more the second time", n)
				}
				time.Sleep(time.Minute)
				mu.Lock()
				defer mu.Unlock()
				slices.Sort(ran)
				if !slices.Equal(ran, want) {
					t.Errorf("%v have run, want %v", ran, want)
				}
				for _, id := range []string{"a1", "a2", "b1", "b2", "c1"} {
					if got, ok := b.done.of(id); !ok || (got.Err == nil) != slices.Contains(want, id) {
						t.Errorf("%s: settled %t with %v", id, ok, got.Err)
					}
				}
				if !b.d.Idle() {
					t.Error("something is left")
				}
				if err := b.stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
