package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/function"
)

// slow is a guest that takes a second and remembers what ran.
func slow(ran *[]string) guest {
	return func(call *function.Call, _ *function.Result) error {
		time.Sleep(time.Second)
		*ran = append(*ran, call.Event.ID)
		return nil
	}
}

func coalescing(m *function.Manifest, r *Route) { r.Coalesce, m.Limits.Concurrency = true, 1 }

// volatile sends an event that nobody holds.
func (b *bench) volatile(topic, id string) {
	ev := &event.Event{ID: id, Topic: topic, Data: []byte(id), Time: time.Now()}
	if err := b.d.Sink("s").Accept(b.t.Context(), ev, nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wantCoalesced(n int64) {
	b.t.Helper()
	if got := b.counters().Coalesced.Load(); got != n {
		b.t.Errorf("%d coalesced, want %d", got, n)
	}
}

func (b *bench) counters() *Counters {
	functions, _ := b.d.Stats()
	return functions[0].Counters
}

// written says whether anything went to the disk.
func (b *bench) written() bool {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.store.batches > 0
}

func (b *bench) lost() map[string]int64 {
	_, lost := b.d.Stats()
	return lost
}

func TestCoalesceRunsTheLatestOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, slow(&ran), coalescing)
		for i := range 4 {
			b.send("in/a", fmt.Sprint("a", i))
			if i == 0 {
				synctest.Wait()
			}
			b.send("in/b", fmt.Sprint("b", i))
		}
		b.wait(5 * time.Second)
		if slices.Sort(ran); !slices.Equal(ran, []string{"a0", "a3", "b3"}) {
			t.Errorf("ran %v, want the first and the last of a, the last of b [D12]", ran)
		}
		for i := range 4 {
			b.wantSafe(fmt.Sprint("a", i), false)
			b.wantSafe(fmt.Sprint("b", i), false)
		}
		b.wantCoalesced(5)
	})
}

func (b *bench) wait(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func TestCoalesceKeepsOneOfAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, slow(&ran), coalescing)
		for i := range 50_000 { // five times what may wait
			b.volatile("in/a", fmt.Sprint(i))
			if i == 0 {
				synctest.Wait()
			}
		}
		b.d.mu.Lock()
		live := b.d.live
		b.d.mu.Unlock()
		if live != 2 {
			t.Errorf("%d events wait or run, want 2 [D9]", live)
		}
		b.wait(5 * time.Second)
		if want := []string{"0", "49999"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v [D12]", ran, want)
		}
		b.wantCoalesced(49_998)
		if lost := b.lost(); len(lost) != 0 {
			t.Errorf("a decision was counted as a loss: %v", lost)
		}
	})
}

// Only what will run, and is no easier lost, stands for another.
func TestCoalesceLetsOnlyAnEqualStandForAnother(t *testing.T) {
	wanted := func(ev *event.Event) (bool, error) { return ev.ID != "unwanted", nil }
	for _, c := range []struct {
		name   string
		change func(*Route)
		send   func(*bench)
		want   []string
	}{
		{"not wanted", func(r *Route) { r.When = wanted }, func(b *bench) { b.send("in/a", "1"); b.send("in/a", "unwanted") }, []string{"0", "1"}},
		{"wanted behind it", func(r *Route) { r.When = wanted }, func(b *bench) { b.send("in/a", "1"); b.send("in/a", "unwanted"); b.send("in/a", "2") }, []string{"0", "2"}},
		{"nobody holds it", nil, func(b *bench) { b.send("in/a", "1"); b.volatile("in/a", "2") }, []string{"0", "1", "2"}},
		{"somebody holds it", nil, func(b *bench) { b.volatile("in/a", "1"); b.send("in/a", "2") }, []string{"0", "2"}},
		{"keys that share a lane", func(r *Route) {
			r.Order = func(ev *event.Event) (string, bool) { return ev.ID, true }
		}, func(b *bench) { b.send("in/a", "1"); b.send("in/a", "2") }, []string{"0", "1", "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran []string
				b := newBench(t, slow(&ran), func(m *function.Manifest, r *Route) {
					coalescing(m, r)
					if c.change != nil {
						c.change(r)
					}
				})
				b.send("in/a", "0")
				synctest.Wait()
				c.send(b)
				b.wait(5 * time.Second)
				if !slices.Equal(ran, c.want) {
					t.Errorf("ran %v, want %v [D12]", ran, c.want)
				}
			})
		})
	}
}

// A node that dies before its acknowledgements arrive gets all of them again: what was coalesced must not run behind what stood for it.
func TestCoalescedIsKnownWhenItComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		remember := func(call *function.Call, res *function.Result) error {
			res.Writes = append(res.Writes, function.StateWrite{Key: []byte("n"), Value: call.Event.Data})
			return slow(&ran)(call, res)
		}
		b := newBench(t, remember, func(m *function.Manifest, r *Route) {
			coalescing(m, r)
			m.State.Scope = function.ScopeNode
		})
		deliver := func(dup bool) {
			for i := range 5 {
				ev := &event.Event{
					ID: fmt.Sprint(i), Topic: "in/a", Data: []byte{byte(i)}, Time: time.Now(), Dup: dup, QoS: 1,
					Delivery: event.Delivery{Session: "s", Epoch: 1, PacketID: uint16(i + 1)},
				}
				if err := b.d.Sink("s").Accept(t.Context(), ev, receipt{b.done, fmt.Sprint(i, dup)}); err != nil {
					t.Fatal(err)
				}
				if i == 0 || dup { // the second time one by one
					synctest.Wait()
				}
			}
			b.wait(10 * time.Second)
		}
		deliver(false)
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start(remember)
		deliver(true)
		if want := []string{"0", "4"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v: the state went back [D4] [D12]", ran, want)
		}
	})
}

func TestCoalesceEndsAWaitingRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			ran = append(ran, call.Event.ID)
			if call.Event.ID == "0" {
				return classed(function.ClassRetry)
			}
			return nil
		}, func(m *function.Manifest, r *Route) {
			coalescing(m, r)
			m.Retry.BackoffMin, m.Retry.BackoffMax = time.Second, time.Second
		})
		b.send("in/a", "0")
		synctest.Wait()
		b.send("in/a", "1")
		b.wait(10 * time.Second)
		if want := []string{"0", "1"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
		if n := b.journal.len(); n != 0 {
			t.Errorf("%d events left in the journal", n)
		}
	})
}

// A full window of what a later event stands for does not go to the disk, nor stay in memory.
func TestCoalesceThinsAFullWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			time.Sleep(30 * time.Second)
			ran = append(ran, call.Event.ID)
			return nil
		}, func(m *function.Manifest, r *Route) {
			coalescing(m, r)
			m.Limits.Timeout = time.Minute
		})
		for i := range 290 {
			b.send("in/a", fmt.Sprint(i))
			b.wait(100 * time.Millisecond)
		}
		if n := b.journal.len(); n > 3 {
			t.Errorf("%d events in the journal, want what runs and hardly more", n)
		}
		b.d.mu.Lock()
		waiting := 0
		b.d.eachLane(func(l *lane) bool {
			for t := l.head; t != nil; t = t.next {
				waiting++
			}
			return true
		})
		b.d.mu.Unlock()
		if waiting > 20 {
			t.Errorf("%d events are kept, want no more than about the window", waiting)
		}
		b.wait(2 * time.Minute)
		if want := []string{"0", "289"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v [D3] [D12]", ran, want)
		}
		if b.done.count() != 290 {
			t.Errorf("%d settled", b.done.count())
		}
	})
}

// However events come: the last of every key runs, what runs does so in order, and everything is settled once.
func TestCoalesceProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type arrival struct {
			Key      int
			Volatile bool
			Pause    int
		}
		arrivals := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) arrival {
			return arrival{rapid.IntRange(0, 2).Draw(rt, "key"), rapid.Bool().Draw(rt, "volatile"), rapid.SampledFrom([]int{0, 0, 0, 10, 300}).Draw(rt, "pause")}
		}), 1, 60).Draw(rt, "arrivals")
		stateful, rate := rapid.Bool().Draw(rt, "stateful"), rapid.SampledFrom([]int{0, 2}).Draw(rt, "rate")
		synctest.Test(t, func(t *testing.T) {
			ran := map[string][]int{}
			b := newBench(t, func(call *function.Call, _ *function.Result) error {
				time.Sleep(150 * time.Millisecond)
				n, err := strconv.Atoi(call.Event.ID)
				ran[call.Event.Topic] = append(ran[call.Event.Topic], n)
				return err
			}, func(m *function.Manifest, r *Route) {
				coalescing(m, r)
				if stateful {
					m.State.Scope = function.ScopeNode
				}
				if rate > 0 {
					r.Rate = function.Rate{Count: rate, Per: time.Second}
				}
			})
			last, held := map[string]int{}, 0
			for i, a := range arrivals {
				topic := fmt.Sprint("in/", a.Key)
				last[topic] = i
				if a.Volatile {
					b.volatile(topic, fmt.Sprint(i))
				} else {
					held++
					b.send(topic, fmt.Sprint(i))
				}
				b.wait(time.Duration(a.Pause) * time.Millisecond)
			}
			b.wait(10 * time.Minute)
			for topic, n := range last {
				got := ran[topic]
				if !slices.IsSorted(got) || len(got) == 0 || got[len(got)-1] != n {
					rt.Fatalf("%s: ran %v, the last is %d [D12] [D5]", topic, got, n)
				}
			}
			if b.done.count() != held || b.journal.len() != 0 || !b.d.Idle() {
				rt.Fatalf("%d of %d settled, %d in the journal", b.done.count(), held, b.journal.len())
			}
			if err := b.stop(); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// paced remembers when each event ran.
func paced(ran *[]time.Duration) guest {
	began := time.Now()
	return func(*function.Call, *function.Result) error {
		*ran = append(*ran, time.Since(began))
		return nil
	}
}

func TestRateHoldsBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		overflow function.Overflow
		burst    int
		order    bool
		journal  bool
	}{
		{"spill", function.OverflowSpill, 0, true, true},
		{"hold", function.OverflowHold, 0, true, false},
		{"burst", function.OverflowHold, 5, true, false},
		{"no order", function.OverflowSpill, 1, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran []time.Duration
				b := newBench(t, paced(&ran), func(m *function.Manifest, r *Route) {
					r.Rate, r.Burst, r.Overflow, m.Limits.Concurrency = function.Rate{Count: 10, Per: time.Second}, c.burst, c.overflow, 1
					if !c.order {
						r.Order = nil
					}
				})
				for i := range 30 {
					b.send("in/a", fmt.Sprint(i))
				}
				b.wait(time.Second)
				if b.written() != c.journal {
					t.Errorf("written to the disk: %v, the policy is %s [D3]", b.written(), c.overflow)
				}
				b.wait(10 * time.Second)
				if len(ran) != 30 || b.done.count() != 30 {
					t.Fatalf("%d ran, %d settled, want 30: nothing is lost [D11]", len(ran), b.done.count())
				}
				for i, at := range ran {
					if due := time.Duration(max(0, i-max(0, c.burst-1))) * 100 * time.Millisecond; at < due || at > due+50*time.Millisecond {
						t.Fatalf("event %d ran after %v, due %v [D11]", i, at, due)
					}
				}
			})
		})
	}
}

func TestRateShedsWhatNobodyHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []time.Duration
		b := newBench(t, paced(&ran), func(_ *function.Manifest, r *Route) { r.Rate = function.Rate{Count: 10, Per: time.Second} })
		for i := range 1000 {
			b.volatile("in/a", fmt.Sprint(i))
			b.wait(time.Millisecond)
		}
		if len(ran) != 10 || b.lost()["rate"] != 990 {
			t.Errorf("%d ran and %v were shed, want 10 and 990 [D8] [D11]", len(ran), b.lost())
		}
	})
}

func TestRateOfTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		b := newBench(t, func(call *function.Call, _ *function.Result) error {
			ran = append(ran, call.Event.ID)
			return nil
		}, func(m *function.Manifest, r *Route) {
			coalescing(m, r)
			r.Rate = function.Rate{Count: 1, Per: time.Second}
		})
		for i := range 350 {
			b.volatile("in/a", fmt.Sprint(i))
			b.wait(10 * time.Millisecond)
		}
		b.wait(5 * time.Second)
		if want := []string{"0", "99", "199", "299", "349"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
	})
}

func TestRateCountsEventsNotAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		b := newBench(t, func(*function.Call, *function.Result) error {
			attempts++
			if attempts < 3 {
				return classed(function.ClassRetry)
			}
			return nil
		}, func(_ *function.Manifest, r *Route) { r.Rate = function.Rate{Count: 1, Per: time.Hour} })
		b.send("in/a", "1")
		b.wait(10 * time.Second)
		if attempts != 3 || b.journal.len() != 0 {
			t.Errorf("%d attempts, %d in the journal", attempts, b.journal.len())
		}
	})
}

func TestPaceChangesWithTheManifest(t *testing.T) {
	now := time.Unix(1000, 0)
	u, r := &unit{}, &Route{Trigger: "mqtt[0]", Rate: function.Rate{Count: 1, Per: time.Hour}}
	u.pace(r).take(now)
	if wait := u.pace(r).wait(now); wait != time.Hour {
		t.Errorf("wait %v", wait)
	}
	faster := *r
	faster.Rate.Per = time.Second
	if wait := u.pace(&faster).wait(now); wait != 0 {
		t.Errorf("the old rate goes on: %v", wait)
	}
}

func answering(m *function.Manifest, r *Route) {
	m.Retry.DeadLetter = "dead"
	r.Reply = func(ev *event.Event) (string, string) { return "result/" + ev.ID, "error/" + ev.ID }
}

func TestReply(t *testing.T) {
	for _, scope := range []function.Scope{function.ScopeNone, function.ScopeNode} {
		t.Run(string(scope), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(call *function.Call, res *function.Result) error {
					switch call.Event.ID {
					case "answer":
						res.Response = &function.Response{Data: []byte("42")}
					case "never":
						res.Outcome, res.Failure = function.Reject, "not a number"
					case "broken":
						return classed(function.ClassRetry)
					}
					return nil
				}, func(m *function.Manifest, r *Route) {
					answering(m, r)
					m.State.Scope = scope
				})
				for _, id := range []string{"answer", "silent", "never", "broken"} {
					b.send("in/"+id, id)
				}
				b.wait(time.Minute)
				said := map[string]string{}
				for _, m := range b.outbox.sent {
					if m.QoS != 1 {
						t.Errorf("%s with QoS %d", m.Topic, m.QoS)
					}
					said[m.Topic] = string(m.Data)
				}
				if answer, ok := said["result/answer"]; !ok || answer != "42" {
					t.Errorf("said %v", said)
				}
				if answer, ok := said["result/silent"]; !ok || answer != "" {
					t.Errorf("a function without a response is not answered for: %v", said)
				}
				wantFailure(t, said["error/never"], failure{"reject", "rejected", "invoke f: not a number"})
				wantFailure(t, said["error/broken"], failure{"retry", "test", "3 attempts are used up: invoke test: on purpose"})
				if len(said) != 5 { // and the dead letters
					t.Errorf("said %v", said)
				}
			})
		})
	}
}

func wantFailure(t *testing.T, text string, want failure) {
	t.Helper()
	var got failure
	if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
		t.Errorf("told %q (%v), want %+v", text, err, want)
	}
}

// An answer is a publish like the function's own: the call is not acknowledged before it is confirmed.
func TestReplyIsConfirmedBeforeTheCallIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(*function.Call, *function.Result) error { return nil }, answering)
		b.outbox.hold = true
		b.send("in/a", "1")
		synctest.Wait()
		if _, early := b.done.of("1"); early || !slices.Equal(b.outbox.topics(), []string{"result/1"}) {
			t.Fatalf("settled %v, said %v [D13]", early, b.outbox.topics())
		}
		b.outbox.held[0](nil)
		synctest.Wait()
		b.wantSafe("1", false)
	})
}

func TestNoticesOfWhatHasNoCaller(t *testing.T) {
	none := &task{ev: &event.Event{ID: "1"}, route: &Route{Reply: func(*event.Event) (string, string) { return "", "" }}}
	if got := notices(nil, none, errors.New("gone")); len(got) != 0 {
		t.Errorf("told %v", got)
	}
}
