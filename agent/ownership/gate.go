package ownership

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"
)

// This file is the owner as its session sees it: it is asked before every connection, told how they fare, and remembers what is
// subscribed. The session calls it from its Run, one call at a time.

// Enter says whether the session may connect, and with which epoch. After a connection was lost nothing is done blindly: it may have
// been lost because another node has taken the session, and to connect would take it back. Nor is the board believed before it has been
// shown to hear: when the address of this device changes all its connections die, and that of the session may be found dead first.
func (o *Owner) Enter(ctx context.Context) (epoch uint64, ok bool) {
	o.mu.Lock()
	first := o.entering
	o.entering = false
	epoch = o.state.Epoch
	o.mu.Unlock()
	if first {
		return epoch, true
	}
	settle := o.Rules.SettleLo + rand.N(max(1, o.Rules.SettleHi-o.Rules.SettleLo))
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, false
	}
	if !o.listen(ctx) || o.Board.current(ctx) != nil || !o.listen(ctx) || o.decide(true).Do != Stay {
		return 0, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.Epoch, o.state.Phase == Owning
}

// Entered says that the session is connected and subscribed.
func (o *Owner) Entered() { o.changed(true) }

// Leaving says that the session hands nothing more over: what has not begun is given back, what runs is finished.
func (o *Owner) Leaving() {
	if o.Withdraw != nil {
		o.Withdraw(false)
	}
}

// Left says that its connection has ended.
func (o *Owner) Left() { o.changed(false) }

func (o *Owner) changed(up bool) {
	o.mu.Lock()
	o.connected = up
	o.mu.Unlock()
	o.nudge()
}

func (o *Owner) up() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.connected
}

func (o *Owner) nudge() {
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// Subscribed returns the filters that the session is subscribed to: what its last owner said in its claim, whoever that was. That the
// broker has the session would not prove it: who connected may have died before it subscribed.
func (o *Owner) Subscribed(string) (map[string]uint32, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.filters != nil {
		return maps.Clone(o.filters), nil
	}
	known, _ := o.Board.known(o.Session)
	return maps.Clone(known.Filters), nil
}

// Remember takes note of the filters, for the next claim; nil takes the session's claim off the board.
func (o *Owner) Remember(_ string, filters map[string]uint32) error {
	o.mu.Lock()
	o.filters = maps.Clone(filters)
	o.mu.Unlock()
	if filters != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), confirmWithin)
	defer cancel()
	return o.Board.clear(ctx, o.Session)
}

// purge makes the broker forget a session that is this node's alone.
func (o *Owner) purge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmWithin)
	defer cancel()
	if err := o.session.Purge(ctx); err != nil {
		o.Log.Warn("the broker may keep messages for a session that nobody needs", "err", err)
	}
}

func done(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
