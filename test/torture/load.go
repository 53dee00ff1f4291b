package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/test/torture/history"
	"mayfly/test/torture/sender"
)

// load publishes events of random streams, as fast as the agent acknowledges them and at most so many a second.
type load struct {
	t       *trial
	streams []string
	next    map[string]uint32
	rate    atomic.Int64  // events a second
	most    atomic.Int64  // sent and not acknowledged by the agent; beyond it nothing is sent
	gate    chan struct{} // full while an event is being sent, or while nothing may be
	halt    chan struct{}
	ended   chan struct{}
	once    sync.Once
}

const keysPerFunction = 4

func newLoad(t *trial, guests []deploy) *load {
	l := &load{t: t, next: map[string]uint32{}, gate: make(chan struct{}, 1), halt: make(chan struct{}), ended: make(chan struct{})}
	l.rate.Store(500)
	l.most.Store(300)
	for _, g := range guests {
		if !g.silent {
			for k := range keysPerFunction {
				l.streams = append(l.streams, fmt.Sprintf("%s/%d", g.name, k+1))
			}
		}
	}
	return l
}

func (l *load) run(ctx context.Context) {
	defer close(l.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.halt:
			cancel()
		case <-ctx.Done():
		}
	}()
	rng := rand.New(rand.NewPCG(l.t.seed, 7))
	due := time.Now()
	for ctx.Err() == nil {
		sent, _ := l.t.log.Count(history.Sent)
		acked, _ := l.t.log.Count(history.Acked)
		if wait := time.Until(due); wait > 0 || int64(sent-acked) >= l.most.Load() {
			select {
			case <-time.After(max(wait, time.Millisecond)):
			case <-ctx.Done():
			}
			continue
		}
		if due = due.Add(time.Second / time.Duration(l.rate.Load())); time.Since(due) > 50*time.Millisecond {
			due = time.Now() // what could not be sent in time is not made up for
		}
		l.one(ctx, l.streams[rng.IntN(len(l.streams))])
	}
}

// one sends the next event of a stream, as soon as anything may be sent.
func (l *load) one(ctx context.Context, name string) {
	select {
	case l.gate <- struct{}{}:
		defer func() { <-l.gate }()
	case <-ctx.Done():
		return
	}
	l.next[name]++
	_, key, _ := strings.Cut(name, "/")
	if l.t.sender.Send(ctx, history.Event{Stream: name, Seq: l.next[name]}, sender.Payload(key, l.next[name])) != nil {
		l.next[name]-- // it was not sent, and nothing will be any more
	}
}

// hold lets nothing be sent any more, from its return on until resume is called.
func (l *load) hold() { l.gate <- struct{}{} }

// resume ends a hold.
func (l *load) resume() { <-l.gate }

// stop ends the load; what was sent goes on.
func (l *load) stop() {
	l.once.Do(func() { close(l.halt) })
	<-l.ended
}
