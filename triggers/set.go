package triggers

import (
	"context"
	"log/slog"
	"sync"
)

// Running is a source with the sink it brings its events to.
type Running struct {
	Source Source
	Sink   Sink
}

// Set keeps the running sources equal to what is wanted. Safe for concurrent use; Apply calls are carried out one after the
// other.
type Set struct {
	log *slog.Logger

	apply   sync.Mutex
	mu      sync.Mutex
	sources map[string]*running
	closed  bool
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// NewSet returns an empty set.
func NewSet(log *slog.Logger) *Set { return &Set{log: log, sources: map[string]*running{}} }

// Apply stops the sources whose key is not in want, waits until they have given back what they held, and starts the new
// ones. A source whose key is already running is left alone: start is not called for it.
func (s *Set) Apply(want map[string]func() Running) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var ending []*running
	for key, r := range s.sources {
		if want[key] == nil {
			r.cancel()
			ending = append(ending, r)
			delete(s.sources, key)
		}
	}
	s.mu.Unlock()
	for _, r := range ending {
		<-r.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, start := range want {
		if s.sources[key] == nil && !s.closed {
			s.sources[key] = s.start(key, start())
		}
	}
}

func (s *Set) start(key string, what Running) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel, make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := what.Source.Run(ctx, what.Sink); err != nil && ctx.Err() == nil {
			s.log.Error("source ended", "source", key, "err", err)
		}
	}()
	return r
}

// Close stops all sources and waits for them; nothing can be started afterwards.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Apply(nil)
}
