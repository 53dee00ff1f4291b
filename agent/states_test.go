package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/agent/changelog"
	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/mosquitto"
	"mayfly/store"
	"mayfly/triggers/mqtt"
)

// teller is a node with everything that state needs: a real store, outbox, dispatcher and subscriptions. Its function is a bank.
type teller struct {
	id       string
	cable    *cable
	store    *store.Store
	outbox   *outbox.Outbox
	dispatch *dispatch.Dispatcher
	subs     *subscriptions
	stories  *stories
	stop     func()
}

// banks are some tellers at a real broker.
type banks struct {
	t      *testing.T
	broker *mosquitto.Broker
	gossip *gossip
	fn     *function.Function
	all    map[string]*teller
	dirs   map[string]string
	lines  *lines // between the nodes; nil: they cannot call each other
}

// bank moves one from an account to another, counts, and remembers the number of the transfer: {n, from, to} in the payload. What it is told
// twice it would do twice.
func bank(call *function.Call, res *function.Result) error {
	var n, from, to int
	if _, err := fmt.Sscan(string(call.Event.Data), &n, &from, &to); err != nil {
		return err
	}
	add := func(key string, by int64) error {
		value, version, err := call.State.Get([]byte(key))
		if err != nil {
			return err
		}
		now := int64(0)
		if version != 0 {
			now = int64(binary.BigEndian.Uint64(value))
		}
		res.Writes = append(res.Writes, function.StateWrite{
			Key: []byte(key), Value: binary.BigEndian.AppendUint64(nil, uint64(now+by)), Checked: true, Expect: version,
		})
		return nil
	}
	keys := []string{"count", fmt.Sprint("done/", n)}
	if from != to {
		keys = append(keys, fmt.Sprint("account/", from), fmt.Sprint("account/", to))
	}
	if call.Trigger == "invoke" {
		res.Response = &function.Response{Status: 200, Data: fmt.Append(nil, "made by ", call.Node)}
	}
	for i, key := range keys {
		by := int64(1)
		if i == 2 {
			by = -1
		}
		if err := add(key, by); err != nil {
			return err
		}
	}
	return nil
}

// invoker is a sandbox made of a Go function.
type invoker func(call *function.Call, res *function.Result) error

func (i invoker) Invoke(_ context.Context, call *function.Call, res *function.Result) error {
	return i(call, res)
}

func newBanks(t *testing.T, o mosquitto.Options, ids ...string) *banks {
	t.Helper()
	b := foundedBanks(t, o, ids...)
	for _, id := range ids {
		b.start(id)
	}
	return b
}

// foundedBanks are banks that have not opened.
func foundedBanks(t *testing.T, o mosquitto.Options, ids ...string) *banks {
	t.Helper()
	o.MaxQueued = -1
	b := &banks{t: t, broker: mosquitto.Run(t, o), gossip: &gossip{changed: make(chan struct{})}, fn: on(t, "bank", "in/+"), all: map[string]*teller{}, dirs: map[string]string{}}
	b.fn.Manifest.State.Scope = function.ScopeCluster
	b.fn.Manifest.Limits.Concurrency, b.fn.Manifest.Limits.Timeout = 1, 5*time.Second // one count for all: they would only conflict
	b.fn.Manifest.Retry = function.RetryPolicy{MaxAttempts: 1000, BackoffMin: time.Millisecond, BackoffMax: 50 * time.Millisecond}
	b.gossip.set(everybody(ids...))
	for _, id := range ids {
		b.dirs[id] = t.TempDir()
	}
	return b
}

func (b *banks) start(id string) {
	b.t.Helper()
	t, log := b.t, slog.New(slog.DiscardHandler)
	s, closeStore := opened(t, b.dirs[id])
	p := &teller{id: id, cable: newCable(t, b.broker.Addr()), store: s, stories: newStories(id)}
	all, err := sites(&Config{Brokers: map[string]BrokerConfig{"site": {URLs: []string{"tcp://" + p.cable.listener.Addr().String()}}}}, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if p.outbox, err = outbox.Open(outbox.Config{Default: "site"}, map[string]outbox.Publisher{"site": all["site"]}, s, log); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{Quota: 1 << 20, DeadQuota: 1 << 20}, s, log)
	if err != nil {
		t.Fatal(err)
	}
	p.dispatch = dispatch.New(dispatch.Config{Node: id, Workers: 4}, dispatch.Deps{
		Local: invoker(bank), Store: s, Journal: j, Loader: j, Graves: j, Outbox: p.outbox, Observer: p.stories, Log: log,
		Peers: b.lines.from(id), Owner: func(f *function.Function) string { return p.subs.stateOwner(f) },
		Changelog: func(f *function.Function) *changelog.Log { return p.subs.changelog(f) },
		View:      newViewer(nil, placement.Node{ID: id, Name: id, Slots: 4, Speed: 1}),
	})
	p.subs = newSubscriptions(id, all, "site", s, log)
	p.subs.join(&team{
		cluster: "c", self: id, members: seenBy{b.gossip, id}, events: p.dispatch, rules: quickly(), box: p.outbox, moved: p.dispatch.Moved, room: p.dispatch.Room,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = all["site"].Run(ctx) })
	running.Go(func() { _ = p.outbox.Run(ctx) })
	running.Go(func() { _ = p.dispatch.Run(ctx) })
	p.stop = sync.OnceFunc(func() { p.subs.close(); cancel(); running.Wait(); closeStore() })
	t.Cleanup(p.stop)
	b.all[id] = p
	b.deploy(p, b.fn)
}

func (b *banks) deploy(p *teller, functions ...*function.Function) {
	b.t.Helper()
	p.subs.everywhere(functions)
	groups, claims := p.subs.plan(functions)
	var routes []*dispatch.Route
	for _, g := range groups {
		for _, m := range g.Members {
			spec := claims[triggerID(m.Function, m.Trigger)].spec
			routes = append(routes, &dispatch.Route{Function: m.Function, Trigger: m.Trigger, Source: source(g), Pattern: spec.Topic})
		}
	}
	p.dispatch.Deploy(functions, routes)
	if err := p.subs.apply(groups, claims, p.dispatch.Sink); err != nil {
		b.t.Fatal(err)
	}
}

// owner is who has the state.
func (b *banks) owner() string {
	for id, p := range b.all {
		if p.subs.changelog(b.fn).Claim() != 0 {
			return id
		}
	}
	return ""
}

func (b *banks) until(what string, ok func() bool) {
	b.t.Helper()
	b.within(30*time.Second, what, ok)
}

func (b *banks) within(patience time.Duration, what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			for id, p := range b.all {
				b.t.Logf("%s: state: %v, connected: %q", id, p.subs.changelog(b.fn).Status(), p.subs.waiting(""))
			}
			b.t.Fatal("not reached: ", what)
		}
	}
}

// keeper waits until another node than one, or any node, has the state, and returns its name: a moment later it may be nobody.
func (b *banks) keeper(besides string) (id string) {
	b.t.Helper()
	b.until("somebody has the state", func() bool { id = b.owner(); return id != "" && id != besides })
	return id
}

func (p *teller) number(key string) int64 {
	value, version, err := p.store.Get(store.State.Key("bank", []byte(key)))
	if err != nil || version == 0 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value))
}

// customers publish transfers until they are told to stop, and return how many the broker has taken.
func (b *banks) customers(every time.Duration) (stop func() int) {
	b.t.Helper()
	p, err := mqtt.NewPublisher(mqtt.Broker{Name: "site", URLs: []string{b.broker.URL()}}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	b.until("publisher is up", p.Ready)
	quiet, sent := make(chan struct{}), make(chan int, 1)
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		n := 0
		told := make(confirmation, 1)
		for {
			select {
			case <-quiet:
				sent <- n
				return
			case <-tick.C:
			}
			m := event.Message{Topic: fmt.Sprintf("in/%d", n%10), Data: fmt.Appendf(nil, "%d %d %d", n, n%7, n%5), QoS: 1}
			if p.Publish(&m, told) == nil && <-told == nil {
				n++
			}
		}
	})
	return func() int {
		close(quiet)
		n := <-sent
		cancel()
		running.Wait()
		return n
	}
}

// audit compares the books of the node that has the state with what was sent: every transfer made, and how many more than once.
func (b *banks) audit(sent int) (lost, twice int) {
	b.t.Helper()
	var missing []int
	defer func() {
		if len(missing) > 0 {
			p := b.all[b.owner()]
			if p == nil {
				return
			}
			done := int64(0)
			for n := range sent {
				done += p.number(fmt.Sprint("done/", n))
			}
			b.t.Logf("of %d transfers %d are not made, such as %v; %d counted, %d on the books", sent, len(missing), missing[:min(20, len(missing))],
				p.number("count"), done)
		}
	}()
	b.within(2*time.Minute, "all transfers are made", func() bool {
		p := b.all[b.owner()]
		if p == nil {
			return false
		}
		missing = nil
		for n := range sent {
			if p.number(fmt.Sprint("done/", n)) == 0 {
				missing = append(missing, n)
			}
		}
		return len(missing) == 0
	})
	p := b.all[b.keeper("")]
	sum, count := int64(0), int64(0)
	for i := range 7 {
		sum += p.number(fmt.Sprint("account/", i))
	}
	for n := range sent {
		done := p.number(fmt.Sprint("done/", n))
		count += done
		switch {
		case done == 0:
			lost++
		case done > 1:
			twice += int(done) - 1
		}
	}
	if sum != 0 || count != p.number("count") {
		b.t.Errorf("the accounts add up to %d; %d transfers were made, and %d counted", sum, count, p.number("count"))
	}
	return lost, twice
}

// [U4] [D4] Forty times the node with the state dies in the middle of everything, another one goes on with it, and the first comes back. The
// broker sends again all that it has sent and nobody has acknowledged, which after a takeover is whatever waited: no transfer is lost or made
// twice.
func TestStateFollowsFortyTakeovers(t *testing.T) {
	b := newBanks(t, mosquitto.Options{}, "a", "b", "c")
	b.until("somebody has the state", func() bool { return b.owner() != "" })
	stop := b.customers(5 * time.Millisecond)
	var took []time.Duration
	last := int64(0)
	for range 40 {
		old := b.keeper("")
		p := b.all[old]
		worked := p.number("count") + rand.Int64N(20) // it dies at any moment of its work
		b.until("it works", func() bool { return p.number("count") >= worked })
		at := time.Now()
		p.cable.plug(false)
		b.gossip.set(without(old, "a", "b", "c"))
		next := b.all[b.keeper(old)]
		took = append(took, time.Since(at))
		b.until("it goes on", func() bool { return next.number("count") > last })
		last = next.number("count")
		p.stop()
		b.start(old)
	}
	sent := stop()
	lost, twice := b.audit(sent)
	p50, longest := median(took)
	t.Logf("40 takeovers, %d transfers: %d lost, %d made twice; state open after %v (p50), %v (longest)", sent, lost, twice, p50, longest)
	if lost != 0 || twice != 0 {
		t.Errorf("%d lost, %d twice", lost, twice)
	}
}

// [U4] The same when nodes drain.
func TestStateFollowsHandOvers(t *testing.T) {
	b := newBanks(t, mosquitto.Options{}, "a", "b")
	b.until("somebody has the state", func() bool { return b.owner() != "" })
	stop := b.customers(time.Millisecond)
	for range 10 {
		old := b.keeper("")
		b.gossip.set(without(old, "a", "b"))
		now := b.all[b.keeper(old)].number("count")
		b.until("it goes on", func() bool { o := b.owner(); return o != "" && b.all[o].number("count") > now+20 })
	}
	sent := stop()
	lost, twice := b.audit(sent)
	t.Logf("10 hand-overs, %d transfers: %d lost, %d made twice", sent, lost, twice)
	if lost != 0 || twice != 0 {
		t.Errorf("%d lost, %d twice", lost, twice)
	}
}

// [U4] The broker forgets everything while the owner is there: the owner says it again, and the next one goes on from there.
func TestStateSurvivesABrokerThatForgets(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		t.Run(fmt.Sprint("persistence ", keeps), func(t *testing.T) {
			b := newBanks(t, mosquitto.Options{Persistence: keeps}, "a", "b")
			b.until("somebody has the state", func() bool { return b.owner() != "" })
			stop := b.customers(time.Millisecond)
			owner := b.keeper("")
			b.until("some transfers", func() bool { return b.all[owner].number("count") > 100 })
			sent := stop()
			b.audit(sent)
			if err := b.broker.Restart(); err != nil {
				t.Fatal(err)
			}
			b.until("it has lost it", func() bool { return b.all[owner].subs.changelog(b.fn).Claim() == 0 })
			b.until("it has it again", func() bool { return b.owner() != "" })
			old := b.keeper("")
			b.gossip.set(without(old, "a", "b"))
			b.until("the other one has it", func() bool { o := b.owner(); return o != "" && o != old })
			if lost, twice := b.audit(sent); lost != 0 || twice != 0 {
				t.Errorf("of %d transfers %d are lost, %d made twice", sent, lost, twice)
			}
		})
	}
}

// A state of ten thousand keys moves; how long that takes is printed. The broker keeps its default queue.
func TestTenThousandKeysMove(t *testing.T) {
	b := newBanks(t, mosquitto.Options{}, "a", "b")
	b.until("somebody has the state", func() bool { return b.owner() != "" })
	old := b.keeper("")
	log := b.all[old].subs.changelog(b.fn)
	for i := range 100 {
		c := changelog.Change{Generation: log.Generation(), Synced: func(error) {}}
		for j := range 100 {
			w := function.StateWrite{Key: fmt.Appendf(nil, "key/%d/%d", i, j), Value: make([]byte, 100)}
			c.Writes = append(c.Writes, w)
			c.Ops = append(c.Ops, store.Op{Key: store.State.Key("bank", w.Key), Value: w.Value})
		}
		told := make(chan error, 1)
		c.Done = func(err error) { told <- err }
		if err := log.Commit(c); err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	b.gossip.set(without(old, "a", "b"))
	b.until("the other one has it", func() bool { o := b.owner(); return o != "" && o != old })
	took := time.Since(at)
	count := 0
	err := b.all[b.keeper("")].store.Scan(store.State.Prefix("bank"), nil, func(_, _ []byte, _ uint64) bool { count++; return true })
	t.Logf("%d keys of 100 bytes: hand-over and restore took %v", count, took.Round(time.Millisecond))
	if err != nil || count != 10_000 {
		t.Errorf("%d keys, %v", count, err)
	}
}

// [U4] Elsewhere than where the state is nothing runs, and the error says so; a function that is removed leaves nothing at the broker.
func TestStateIsOnOneNode(t *testing.T) {
	b := newBanks(t, mosquitto.Options{}, "a", "b")
	b.until("somebody has the state", func() bool { return b.owner() != "" })
	owner := b.keeper("")
	for id, p := range b.all {
		wait := make(answer, 1)
		call := func() error {
			return p.dispatch.Invoke(t.Context(), dispatch.Request{Function: "bank", Event: &event.Event{ID: "1", Data: []byte("1 1 2")}}, wait)
		}
		if id == owner {
			b.until("calls run at the owner", func() bool { return call() == nil })
			if s := <-wait; s.Err != nil {
				t.Errorf("at its owner: %v", s.Err)
			}
		} else if err := call(); function.ClassOf(err) != function.ClassNotHere || !strings.Contains(err.Error(), "its state is where its trigger is") {
			t.Errorf("elsewhere: %v", err)
		}
	}
	for _, p := range b.all {
		b.deploy(p)
	}
	b.until("nothing is left", func() bool { return len(b.kept()) == 0 })
}

// kept is what the broker retains below the agents' topics.
func (b *banks) kept() (topics []string) {
	b.t.Helper()
	all, err := sites(&Config{Brokers: map[string]BrokerConfig{"site": {URLs: []string{b.broker.URL()}}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	source, stands, err := all["site"].watch("mayfly/#", 1, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 300*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	_ = source.Run(ctx, &emitter{emit: func(ev *event.Event) {
		mu.Lock()
		defer mu.Unlock()
		topics = append(topics, ev.Topic)
	}})
	_ = stands()
	return topics
}

// What cannot follow a trigger is refused with the reason.
func TestStateThatCannotFollow(t *testing.T) {
	s, _ := opened(t, t.TempDir())
	all, err := sites(&Config{
		Brokers: map[string]BrokerConfig{"site": {URLs: []string{"tcp://127.0.0.1:1"}}, "bound": {URLs: []string{"tcp://127.0.0.1:1"}, BindClientID: true}},
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	subs := newSubscriptions("a", all, "site", s, slog.New(slog.DiscardHandler))
	t.Cleanup(subs.close)
	clustered := func(topics ...string) *function.Function {
		f := on(t, "f", topics...)
		f.Manifest.State.Scope = function.ScopeCluster
		return f
	}
	if why := subs.unfit(clustered()); why != "" || subs.changelog(clustered("in")) != nil {
		t.Errorf("a node that is alone has a cluster's state: %q", why)
	}
	subs.join(&team{cluster: "c", self: "a", box: &outbox.Outbox{}, moved: func(string) {}, room: func(string) {}})
	bound, shared := clustered("in"), clustered("in")
	bound.Manifest.MQTT[0].Broker, shared.Manifest.MQTT[0].Shared = "bound", "group"
	for want, f := range map[string]*function.Function{
		"": clustered("in"), "it needs exactly one, and has 0": clustered(), "it needs exactly one, and has 2": clustered("in", "on"),
		"bind_client_id": bound, "a shared one has many": shared,
	} {
		if got := subs.unfit(f); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
