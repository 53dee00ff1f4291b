package admin

import (
	"context"
	"sync"
)

// Bounds of what one stream may have waiting for its reader.
const (
	queueRecords = 2*MaxKeep + 1000
	queueBytes   = 4 << 20
)

// queue stands between the data path and one slow reader: push never blocks, what does not fit is counted.
type queue[T any] struct {
	size func(*T) int
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	recs    []T
	bytes   int
	dropped uint64
	ready   bool // to be told once
}

func newQueue[T any](size func(*T) int) *queue[T] {
	return &queue[T]{size: size, wake: make(chan struct{}, 1)}
}

func (q *queue[T]) push(rec T) {
	n := q.size(&rec)
	q.mu.Lock()
	if len(q.recs) > 0 && (len(q.recs) >= queueRecords || q.bytes+n > queueBytes) {
		q.dropped++
	} else {
		q.recs, q.bytes = append(q.recs, rec), q.bytes+n
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue[T]) setReady() {
	q.mu.Lock()
	q.ready = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits: the records, then how many were dropped after them.
func (q *queue[T]) take() (recs []T, dropped uint64, ready bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	recs, dropped, ready = q.recs, q.dropped, q.ready
	q.recs, q.bytes, q.dropped, q.ready = nil, 0, 0, false
	return recs, dropped, ready
}

// pump writes what is pushed until source, run beside it, returns and the queue is empty, or write fails, or ctx ends.
// The returned error is source's own; a reader that went away is none.
func (q *queue[T]) pump(ctx context.Context, source func(ctx context.Context) error, write func(Frame[T]) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var result error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		result = source(ctx)
	}()
	for {
		select {
		case <-q.wake:
			if q.flush(write) != nil {
				cancel()
				<-ended // emit must not be used after the handler returned
				return nil
			}
		case <-ended:
			_ = q.flush(write) // the reader is gone if this fails, and there is nobody to tell
			return result
		}
	}
}

func (q *queue[T]) flush(write func(Frame[T]) error) error {
	recs, dropped, ready := q.take()
	for i := range recs {
		if err := write(Frame[T]{Record: &recs[i]}); err != nil {
			return err
		}
	}
	if dropped > 0 {
		if err := write(Frame[T]{Dropped: dropped}); err != nil {
			return err
		}
	}
	if ready {
		return write(Frame[T]{Ready: true})
	}
	return nil
}
