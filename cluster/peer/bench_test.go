package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"mayfly/function"
)

// What an exec costs beside the function's own time: two nodes call each other, 256 bytes in and 128 out, over loopback.
func BenchmarkExec(b *testing.B) {
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			s := newSite(b)
			door := exec(func(context.Context, string, *ExecRequest) (*function.Result, error) { return aResult(), nil })
			s.serve(b, "a", Doors{Exec: door}, Limits{})
			s.serve(b, "b", Doors{Exec: door}, Limits{})
			nodes := [2]*Node{}
			for i, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
				nodes[i], _ = s.peers(b, pair[0]).To(pair[1])
				if err := nodes[i].Invoke(context.Background(), callOf("first"), &function.Result{}); err != nil {
					b.Fatal(err)
				}
			}
			took := make([][]time.Duration, callers)
			var group sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for i := range callers {
				group.Go(func() {
					var res function.Result
					for j := range b.N/callers + 1 {
						c := callOf(fmt.Sprint(i, "-", j))
						c.Event.Data = make([]byte, 256)
						began := time.Now()
						if err := nodes[i%2].Invoke(context.Background(), c, &res); err != nil {
							b.Error(err)
						}
						took[i] = append(took[i], time.Since(began))
					}
				})
			}
			group.Wait()
			all := slices.Concat(took...)
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
			b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// Two nodes exchange ten thousand calls, each of which runs once and gets its own result; nothing is left behind.
func TestTenThousandCalls(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	ran := map[string]int{}
	door := exec(func(_ context.Context, from string, r *ExecRequest) (*function.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		ran[from+r.Event.ID]++
		return &function.Result{Failure: from + r.Event.ID}, nil
	})
	one, _ := s.serve(t, "a", Doors{Exec: door}, Limits{})
	two, _ := s.serve(t, "b", Doors{Exec: door}, Limits{})
	from := [2]string{"a", "b"}
	nodes := [2]*Node{}
	nodes[0], _ = s.peers(t, "a").To("b")
	nodes[1], _ = s.peers(t, "b").To("a")
	const callers, each = 400, 25 // more than streams of one connection
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			var res function.Result
			for j := range each {
				c := callOf(fmt.Sprint(i, "-", j))
				c.Deadline = time.Now().Add(10 * time.Minute)
				if err := nodes[i%2].Invoke(context.Background(), c, &res); err != nil || res.Failure != from[i%2]+c.Event.ID {
					t.Errorf("%v %q", err, res.Failure)
					return
				}
			}
		})
	}
	group.Wait()
	if len(ran) != callers*each || one.Counters().Calls.Load()+two.Counters().Calls.Load() != callers*each {
		t.Errorf("%d calls, %d and %d ran", len(ran), one.Counters().Calls.Load(), two.Counters().Calls.Load())
	}
	for id, n := range ran {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
}
