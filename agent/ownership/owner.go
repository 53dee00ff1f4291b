package ownership

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"mayfly/triggers"
)

// Session is the connection an owner has. Its Run asks Owner.Enter before every connection and ends when that says no; it can be
// called again. What it had handed over and was not settled when ctx ended stays at the broker.
type Session interface {
	triggers.Source
	Purge(ctx context.Context) error
}

// Config is what an owner knows.
type Config struct {
	Self     string                 // this node
	Session  string                 // the session's client id: its name on the board
	Board    *Board                 // of the session's broker
	Nodes    func() []Node          // live nodes as candidates for this session, Self among them
	Changed  func() <-chan struct{} // closed when Nodes changes next
	Revoked  func(node string) bool // that is shut out: what it claims is nobody's; nil = nobody is
	Floor    func() uint64          // the highest epoch that is stored here; nil = none
	Withdraw func(all bool)         // gives back what has not begun to run; all: the connection is lost, nothing can be acknowledged; nil = nothing is
	Bound    bool                   // the session is this node's alone: it cannot be taken over, and is purged when another node owns
	Rules    Rules
	Log      *slog.Logger
}

// Owner runs one trigger's session as long as it is this node's: a triggers.Source. Run may be called once; the other methods at any
// time.
type Owner struct {
	Config
	session Session
	poke    chan struct{} // the connection changed

	mu        sync.Mutex
	state     State
	filters   map[string]uint32 // what this node has subscribed; nil = what the latest claim says
	decided   *Step             // serve is to end with it
	entering  bool              // the next connection is the one that was decided on
	connected bool
	retired   bool
	had       bool
}

// NewOwner returns an owner that does nothing yet. Bind must be called before Run.
func NewOwner(c Config) *Owner {
	c.Rules = c.Rules.WithDefaults()
	return &Owner{Config: c, poke: make(chan struct{}, 1)}
}

// Bind tells the owner its session, which was made with the owner as its gate.
func (o *Owner) Bind(s Session) { o.session = s }

// Phase returns what this node is to the session now.
func (o *Owner) Phase() Phase {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.Phase
}

// Retire says that the trigger is no more: when Run ends, the session is nobody's to take over.
func (o *Owner) Retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = true
}

// Had says whether this node had the session when Run ended.
func (o *Owner) Had() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.had
}

// Run has the session whenever it should, until ctx ends; then it hands over. It always returns nil: what fails is tried again.
func (o *Owner) Run(ctx context.Context, to triggers.Sink) error {
	if o.Bound {
		o.purge(ctx) // what it missed while it did not own was handled by others
	}
	for o.listen(ctx) {
		nodes, claims := o.Changed(), o.claims()
		step := o.decide(false)
		if step.Do == Connect {
			step = o.serve(ctx, to)
		}
		switch step.Do {
		case Publish:
			o.claim(ctx, step.Claim)
		case Leave:
			o.release(step.Claim)
		case Wait:
			o.wait(ctx, step.Until, nodes, claims)
		case Connect, Stay: // decided by serve
		}
	}
	if o.Phase() == Claiming {
		o.release(o.leave()) // others wait for who has claimed
	}
	return nil
}

func (o *Owner) claims() <-chan struct{} {
	_, changed := o.Board.known(o.Session)
	return changed
}

// listen waits until the claims that the broker kept are known. It reports false when ctx ended.
func (o *Owner) listen(ctx context.Context) bool {
	for {
		wait, ok, changed := o.Board.ready()
		switch {
		case ctx.Err() != nil:
			return false
		case ok && wait == 0:
			return true
		case !ok:
			wait = time.Hour
		}
		o.wait(ctx, time.Now().Add(wait), changed)
	}
}

func (o *Owner) wait(ctx context.Context, until time.Time, changes ...<-chan struct{}) {
	limit := time.Hour
	if !until.IsZero() {
		limit = time.Until(until)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var change [3]<-chan struct{} // a nil one never comes
	copy(change[:], changes)
	select {
	case <-timer.C:
	case <-change[0]:
	case <-change[1]:
	case <-change[2]:
	case <-ctx.Done():
	}
}

// decide decides with what is known now. While the session runs, the first decision that ends it stands.
func (o *Owner) decide(lost bool) Step {
	in := o.input()
	in.Lost = lost
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.decided != nil {
		return *o.decided
	}
	was := o.state.Phase
	var step Step
	o.state, step = o.state.Next(o.Rules, in)
	if o.filters != nil {
		step.Claim.Filters = o.filters
	}
	if was == Owning && o.state.Phase != Owning {
		o.decided = &step
	}
	if o.state.Phase != was {
		o.Log.Info("ownership", "was", was, "is", o.state.Phase, "epoch", o.state.Epoch, "claim_of", in.Known.Node, "claimed", in.Known.Epoch)
	}
	return step
}

func (o *Owner) input() Input {
	known, _ := o.Board.known(o.Session)
	if o.Revoked != nil && known.Node != o.Self && o.Revoked(known.Node) {
		known.Released, known.Let = true, max(known.Let, known.Epoch)
	}
	in := Input{
		Now: time.Now(), Self: o.Self, Nodes: o.Nodes(), Known: known, Chance: rand.Float64(), Key: o.Session, Bound: o.Bound,
	}
	if o.Floor != nil {
		in.Floor = o.Floor()
	}
	return in
}

// claim makes a claim. Without the broker's word that it has it there is no ground to connect on: then everything is decided again.
func (o *Owner) claim(ctx context.Context, c Claim) {
	if o.tell(ctx, c, true) {
		return
	}
	o.mu.Lock()
	o.state.Phase = Watching
	o.mu.Unlock()
	o.wait(ctx, time.Now().Add(again))
}

// tell publishes a claim and reports whether the broker confirmed it.
func (o *Owner) tell(ctx context.Context, c Claim, retain bool) bool {
	ctx, cancel := context.WithTimeout(ctx, confirmWithin)
	defer cancel()
	err := o.Board.publish(ctx, o.Session, c, retain)
	if err != nil {
		o.Log.Debug("a claim is not confirmed", "epoch", c.Epoch, "err", err)
	}
	return err == nil
}

const (
	confirmWithin = 5 * time.Second
	again         = 200 * time.Millisecond // until something is published again that could not be
)

// leave forgets that the session is this node's, and returns the claim that it had on it.
func (o *Owner) leave() Claim {
	in := o.input()
	o.mu.Lock()
	defer o.mu.Unlock()
	c := in.mine()
	c.Epoch = o.state.Epoch
	if o.filters != nil {
		c.Filters = o.filters
	}
	o.state = o.state.watch()
	return c
}

// release says that this node has let go. The retained claim is somebody else's by now, unless nobody has claimed the session yet.
func (o *Owner) release(c Claim) {
	known, _ := o.Board.known(o.Session)
	c.Released, c.Turn = true, known.Turn+1
	o.tell(context.Background(), c, known.Node == o.Self)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.filters = nil
}

// serve runs the session until it is not this node's any more or ctx ends, and returns what is left to be done then.
func (o *Owner) serve(ctx context.Context, to triggers.Sink) Step {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	o.mu.Lock()
	o.entering, o.decided = true, nil
	o.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer o.nudge()
		defer close(ended)
		if err := o.session.Run(inner, to); err != nil {
			o.Log.Error("session ended", "err", err)
		}
	}()
	step := o.attend(ctx, ended)
	if o.Bound && step.Do == Leave {
		o.wait(ctx, time.Now().Add(o.Rules.Grace), ended)
	}
	cancel()
	o.finish(ended)
	if o.Bound {
		o.purge(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connected, o.decided, o.had = false, nil, ctx.Err() != nil
	if o.retired {
		step.Do = Wait
	}
	return step
}

// finish waits until the session has ended. As soon as it has no connection, nothing can be acknowledged any more: then what has not begun
// is given back.
func (o *Owner) finish(ended <-chan struct{}) {
	for over := false; !over; {
		if over = done(ended); o.Withdraw != nil && (over || !o.up()) {
			o.Withdraw(true)
		}
		if !over {
			select {
			case <-ended:
			case <-o.poke:
			}
		}
	}
}

// attend watches over the running session, gives signs of life while it is connected, and returns with what ends it.
func (o *Owner) attend(ctx context.Context, ended <-chan struct{}) Step {
	var told time.Time // the last sign of life; zero: it is due
	for {
		nodes, claims := o.Changed(), o.claims()
		connected := o.up()
		step := o.decide(!connected)
		raise := step.Do == Publish && o.Phase() == Owning
		switch {
		case ctx.Err() != nil:
			return Step{Do: Leave, Claim: o.leave()}
		case step.Do != Stay && !raise:
			return step
		case done(ended):
			o.leave()
			return Step{Do: Wait, Until: time.Now().Add(again)}
		case !connected:
			told = time.Time{}
		case raise || time.Since(told) >= o.Rules.Refresh:
			told = time.Now()
			if !o.tell(ctx, step.Claim, true) {
				told = told.Add(again - o.Rules.Refresh)
			}
		}
		due := time.Time{}
		if connected {
			due = told.Add(o.Rules.Refresh)
		}
		o.wait(ctx, due, nodes, claims, o.poke)
	}
}
