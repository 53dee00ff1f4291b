package ownership

import (
	"context"
	"errors"
	"strconv"
	"time"

	"mayfly/event"
)

// echo is how a board finds out whether it still hears: its subscription's connection may have been dead for as long as a keep-alive, and
// what it shows is then as old. This node says something that nobody else is subscribed to; when it comes back, everything has come that
// the broker passed on before.
type echo struct {
	name  string // of this board, made up by chance
	said  uint64
	heard uint64 // 0 = none ever came: perhaps this node may not publish or subscribe there
}

const (
	echoAgain   = time.Second
	echoMissed  = 5 * time.Second  // is waited for one where none has ever come
	echoOverdue = 45 * time.Second // is waited where they do come: a dead connection is found out before that
)

// Echoes is what the board's subscription has to subscribe to besides Filter.
func (b *Board) Echoes() string { return b.topic(b.echo.name) + "/echo" }

// shout says the next thing that is to come back.
func (b *Board) shout() (number uint64, err error) {
	b.mu.Lock()
	b.echo.said++
	number = b.echo.said
	b.mu.Unlock()
	return number, b.out.Publish(&event.Message{Topic: b.Echoes(), Data: strconv.AppendUint(nil, number, 10), QoS: 1}, make(confirmation, 1))
}

// firstEcho asks for one while none has come, so that it is known whether they do when one is needed.
func (b *Board) firstEcho() error {
	b.mu.Lock()
	came := b.echo.heard > 0
	b.mu.Unlock()
	if came {
		return nil
	}
	_, err := b.shout()
	return err
}

// echoed takes note of what has come back.
func (b *Board) echoed(data []byte) {
	number, err := strconv.ParseUint(string(data), 10, 64)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && number <= b.echo.said && number > b.echo.heard {
		b.echo.heard = number
		b.touch()
	}
}

// current returns when the board shows everything that the broker had passed on at the time of the call, or when it has become plain that
// no echo will say so. The error is that of ctx.
func (b *Board) current(ctx context.Context) error {
	began := time.Now()
	first, err := b.shout()
	for {
		b.mu.Lock()
		heard, changed := b.echo.heard, b.changed
		b.mu.Unlock()
		patience := echoOverdue
		if heard == 0 {
			patience = echoMissed
		}
		if heard >= first || time.Since(began) >= patience {
			return nil
		}
		again := time.NewTimer(echoAgain)
		select {
		case <-changed:
		case <-again.C:
			_, err = b.shout()
		case <-ctx.Done():
			again.Stop()
			return errors.Join(ctx.Err(), err)
		}
		again.Stop()
	}
}
