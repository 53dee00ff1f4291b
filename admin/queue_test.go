package admin

import (
	"context"
	"errors"
	"testing"
)

func TestQueueDropsAndCounts(t *testing.T) {
	q := newQueue(func(int *int) int { return 1 })
	for i := range queueRecords + 7 {
		q.push(i)
	}
	recs, dropped, _ := q.take()
	if len(recs) != queueRecords || dropped != 7 {
		t.Fatalf("%d records and %d dropped, want %d and 7", len(recs), dropped, queueRecords)
	}
	if _, dropped, _ = q.take(); dropped != 0 {
		t.Fatalf("%d dropped are told twice", dropped)
	}
}

func TestQueueBoundsBytes(t *testing.T) {
	q := newQueue(func(n *int) int { return *n })
	q.push(10 * queueBytes) // a single one always passes, or it would never be seen
	q.push(1)
	if recs, dropped, _ := q.take(); len(recs) != 1 || dropped != 1 {
		t.Fatalf("%d records, %d dropped", len(recs), dropped)
	}
}

// While the reader is stuck the source goes on; when it comes back it gets what fits, then the count of what did not.
func TestPumpWithStuckReader(t *testing.T) {
	q := newQueue(func(*int) int { return 1 })
	unstick := make(chan struct{})
	var seen, dropped uint64
	write := func(f Frame[int]) error {
		<-unstick
		if f.Record != nil {
			seen++
		}
		dropped += f.Dropped
		return nil
	}
	const pushed = 3 * queueRecords
	source := func(context.Context) error {
		for i := range pushed { // would hang here if a reader could hold it up
			q.push(i)
		}
		close(unstick)
		return errors.New("end of source")
	}
	if err := q.pump(t.Context(), source, write); err == nil || err.Error() != "end of source" {
		t.Fatalf("pump: %v", err)
	}
	if seen+dropped != pushed || dropped == 0 {
		t.Fatalf("%d seen + %d dropped, want %d together", seen, dropped, pushed)
	}
}

func TestPumpEndsSourceWhenReaderGoes(t *testing.T) {
	q := newQueue(func(*int) int { return 1 })
	source := func(ctx context.Context) error {
		q.push(1)
		<-ctx.Done() // hangs unless pump cancels
		return nil
	}
	if err := q.pump(t.Context(), source, func(Frame[int]) error { return errors.New("gone") }); err != nil {
		t.Fatalf("a reader that went away is no error: %v", err)
	}
}
