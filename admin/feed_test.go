package admin

import (
	"context"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestFeedKeepsNotableThroughAFlood(t *testing.T) {
	f := NewFeed(3, func(n *int) bool { return *n < 0 })
	f.Add(-1)
	for i := range 100 {
		f.Add(i)
	}
	var got []int
	all := Selection[int]{Match: func(*int) bool { return true }}
	if err := f.Watch(t.Context(), all, func() {}, func(n int) { got = append(got, n) }); err != nil {
		t.Fatal(err)
	}
	if want := []int{-1, 97, 98, 99}; !slices.Equal(got, want) {
		t.Fatalf("kept %v, want %v", got, want)
	}
}

// The kept records are the newest of each kind, in the order added, whatever the order of kinds.
func TestFeedHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.IntRange(0, 5).Draw(t, "keep")
		limit := rapid.IntRange(0, 6).Draw(t, "limit")
		in := rapid.SliceOfN(rapid.IntRange(-9, 9), 0, 30).Draw(t, "records")
		f := NewFeed(keep, func(n *int) bool { return *n < 0 })
		for _, n := range in {
			f.Add(n)
		}
		var want []int
		left := map[bool]int{true: keep, false: keep}
		for _, n := range slices.Backward(in) {
			if left[n < 0] > 0 && (limit == 0 || len(want) < limit) {
				left[n < 0]--
				want = append(want, n)
			}
		}
		slices.Reverse(want)
		var got []int
		sel := Selection[int]{Match: func(*int) bool { return true }, Limit: limit}
		if err := f.Watch(context.Background(), sel, func() {}, func(n int) { got = append(got, n) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// A follower that comes while records are added sees each exactly once, in order, without a gap between past and present.
func TestFeedFollowHasNoGap(t *testing.T) {
	const records = 500
	f := NewFeed(records, func(*int) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	var adding sync.WaitGroup
	adding.Go(func() {
		for i := range records {
			f.Add(i)
		}
	})
	var got []int
	done := make(chan struct{})
	emit := func(n int) {
		if got = append(got, n); n == records-1 {
			cancel()
		}
	}
	go func() {
		defer close(done)
		sel := Selection[int]{Match: func(*int) bool { return true }, Follow: true}
		if err := f.Watch(ctx, sel, func() {}, emit); err != nil {
			t.Error(err)
		}
	}()
	adding.Wait()
	<-done
	if f.Live() {
		t.Error("the feed still has a follower")
	}
	for i, n := range got {
		if n != i {
			t.Fatalf("record %d is %d", i, n)
		}
	}
	if len(got) != records {
		t.Fatalf("saw %d of %d", len(got), records)
	}
}
