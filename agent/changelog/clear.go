package changelog

import (
	"context"
	"maps"
	"slices"

	"mayfly/event"
)

// Clear makes the broker forget the changelog of a function that is no more. The log must be closed. Clearing twice is harmless.
func (l *Log) Clear(ctx context.Context) error {
	r, err := newReader(l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		_ = r.sub.Run(ctx, r) // always nil: it ends with ctx
	}()
	defer func() { cancel(); <-listening }()
	seen, err := r.read(ctx)
	if err != nil {
		return err
	}
	topics := slices.Sorted(maps.Keys(seen))
	var msgs []event.Message
	for _, topic := range topics {
		msgs = append(msgs, l.message(topic, nil))
	}
	return l.deliver(ctx, msgs)
}
