package ownership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/triggers"
)

const (
	inFlight = 20 // of one session, as mosquitto has it
	hop      = time.Millisecond
	work     = 3 * time.Millisecond // of one event
)

var errDown = errors.New("the broker is down")

// broker is a small real one: persistent sessions with an in-flight window, takeover, retained claims.
type broker struct {
	mu       sync.Mutex
	down     bool
	sessions map[string]*kept
	retained map[string][]byte
	watchers map[*board]chan event.Event
	kicks    map[string]int
	sent     int
	ran      map[string]map[int][]string // by session and message, who ran it
	early    int                         // messages that ran for the first time after a later one had
	last     map[string]int
	deaf     *board // its connection is dead, and it does not know
	mute     bool   // claims vanish: nobody may publish them
}

// board is a node's place to hear claims.
type board struct{ *Board }

type kept struct {
	subscribed bool
	waiting    []int // not acknowledged, in order
	sending    int   // of them in flight
	conn       *conn
}

type conn struct {
	id    string
	in    chan int
	ended chan struct{}
}

func newBroker() *broker {
	return &broker{
		sessions: map[string]*kept{}, retained: map[string][]byte{}, watchers: map[*board]chan event.Event{}, kicks: map[string]int{},
		ran: map[string]map[int][]string{}, last: map[string]int{},
	}
}

// silence makes claims vanish, or no longer.
func (b *broker) silence(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute = on
}

func (b *broker) connect(id string) (c *conn, present bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, false, errDown
	}
	k := b.sessions[id]
	present = k != nil
	if k == nil {
		k = &kept{}
		b.sessions[id] = k
	}
	if k.conn != nil {
		b.kicks[id]++
		close(k.conn.ended)
	}
	k.conn = &conn{id, make(chan int, inFlight), make(chan struct{})}
	k.sending = 0
	b.pump(k)
	return k.conn, present, nil
}

func (b *broker) pump(k *kept) {
	for k.conn != nil && k.sending < len(k.waiting) && k.sending < inFlight {
		k.conn.in <- k.waiting[k.sending]
		k.sending++
	}
}

func (b *broker) subscribe(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.sessions[id]; k != nil {
		k.subscribed = true
	}
}

// ack takes the oldest message off a session if c still has it.
func (b *broker) ack(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.sessions[c.id]; k != nil && k.conn == c && len(k.waiting) > 0 {
		k.waiting = k.waiting[1:]
		k.sending--
		b.pump(k)
	}
}

func (b *broker) disconnect(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.sessions[c.id]; k != nil && k.conn == c {
		k.conn = nil
		close(c.ended)
	}
}

// message is an event for every session that is subscribed.
func (b *broker) message() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return
	}
	for _, k := range b.sessions {
		if k.subscribed {
			k.waiting = append(k.waiting, b.sent)
			b.pump(k)
		}
	}
	b.sent++
}

// restart forgets everything, as a broker without persistence does.
func (b *broker) restart(away time.Duration) {
	b.mu.Lock()
	b.down = true
	for _, k := range b.sessions {
		if k.conn != nil {
			close(k.conn.ended)
		}
	}
	b.sessions, b.retained = map[string]*kept{}, map[string][]byte{}
	for w := range b.watchers {
		w.Left()
	}
	b.mu.Unlock()
	wait(context.Background(), away)
	b.mu.Lock()
	b.down = false
	for w := range b.watchers {
		w.Entered()
	}
	b.mu.Unlock()
}

// deafen makes a node hear nothing of what is claimed; nil: who did not hear finds that out, and listens anew.
func (b *broker) deafen(w *board) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.deaf
	b.deaf = w
	if w != nil {
		return
	}
	was.Left()
	for topic, data := range b.retained {
		b.watchers[was] <- event.Event{Topic: topic, Data: data, Retained: true}
	}
	was.Entered()
}

func (b *broker) executed(session string, n int, node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ran[session] == nil {
		b.ran[session] = map[int][]string{}
	}
	if len(b.ran[session][n]) == 0 {
		if n < b.last[session] {
			b.early++
		}
		b.last[session] = max(n, b.last[session])
	}
	b.ran[session][n] = append(b.ran[session][n], node)
}

// Publish implements Publisher: it takes a hop to the broker and another one to everybody who listens.
func (b *broker) Publish(m *event.Message, c interface{ Confirmed(error) }) error {
	b.mu.Lock()
	down := b.down
	b.mu.Unlock()
	if down {
		return errDown
	}
	ev := event.Event{Topic: m.Topic, Data: m.Data}
	retain := m.Retain
	time.AfterFunc(hop, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.mute {
			if retain {
				b.retained[ev.Topic] = ev.Data
			}
			for board, w := range b.watchers {
				if board != b.deaf {
					w <- ev
				}
			}
		}
		go c.Confirmed(nil)
	})
	return nil
}

// listen lets w hear what is retained and then everything that is said.
func (b *broker) listen(ctx context.Context, w *board) {
	in := make(chan event.Event, 1000)
	b.mu.Lock()
	b.watchers[w] = in
	for topic, data := range b.retained {
		in <- event.Event{Topic: topic, Data: data, Retained: true}
	}
	if !b.down {
		w.Entered()
	}
	b.mu.Unlock()
	for {
		select {
		case ev := <-in:
			_ = w.Accept(ctx, &ev, nil)
		case <-ctx.Done():
			b.mu.Lock()
			delete(b.watchers, w)
			b.mu.Unlock()
			return
		}
	}
}

// session is a connection to the broker that runs events one at a time and acknowledges them when they are done.
type session struct {
	b    *broker
	id   string
	node string
	gate *Owner
}

func (s *session) Purge(context.Context) error {
	s.b.mu.Lock()
	delete(s.b.sessions, s.id)
	s.b.mu.Unlock()
	return s.gate.Remember(s.id, nil)
}

func (s *session) Run(ctx context.Context, _ triggers.Sink) error {
	for tries := 0; ctx.Err() == nil; tries++ {
		if _, ok := s.gate.Enter(ctx); !ok {
			return nil
		}
		c, present, err := s.b.connect(s.id)
		if err != nil {
			wait(ctx, time.Duration(rand.IntN(1+min(tries, 5)*int(time.Second))))
			continue
		}
		wait(context.Background(), hop)
		known, _ := s.gate.Subscribed(s.id)
		if !present || len(known) == 0 {
			s.b.subscribe(s.id)
			_ = s.gate.Remember(s.id, map[string]uint32{"f": known["f"] + 1})
		}
		s.gate.Entered()
		s.serve(ctx, c)
		s.gate.Left()
	}
	return nil
}

func (s *session) serve(ctx context.Context, c *conn) {
	defer s.b.disconnect(c)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			return
		case n := <-c.in:
			if ctx.Err() != nil {
				return
			}
			wait(context.Background(), work)
			s.b.executed(s.id, n, s.node)
			s.b.ack(c)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// site is nodes around a broker, with a gossip that a test controls.
type site struct {
	t     *testing.T
	b     *broker
	nodes map[string]*node
	keys  []string

	mu    sync.Mutex
	views map[string]map[string]Node // what each sees
	shut  map[string]bool            // out of the cluster
	news  chan struct{}
}

type node struct {
	board  *board
	owners map[string]*Owner
	mouth  *mouth
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

func newSite(t *testing.T, keys int, ids ...string) *site {
	s := &site{t: t, b: newBroker(), nodes: map[string]*node{}, views: map[string]map[string]Node{}, news: make(chan struct{})}
	for i := range keys {
		s.keys = append(s.keys, fmt.Sprintf("mf%02d", i))
	}
	for _, id := range ids {
		s.views[id] = map[string]Node{}
		for _, other := range ids {
			s.views[id][other] = Node{ID: other, Eligible: true, BrokerUp: true}
		}
	}
	for _, id := range ids {
		s.start(id)
	}
	return s
}

func (s *site) start(id string) {
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{owners: map[string]*Owner{}, mouth: &mouth{broker: s.b}, cancel: cancel}
	w := &board{NewBoard("c", n.mouth, 20*hop, slog.New(slog.DiscardHandler))}
	n.board = w
	n.ended.Go(func() { s.b.listen(ctx, w) })
	for _, key := range s.keys {
		o := NewOwner(Config{
			Self: id, Session: key, Board: w.Board, Nodes: func() []Node { return s.view(id) }, Changed: s.changed, Revoked: s.revoked,
			Log: slog.New(slog.DiscardHandler),
		})
		o.Bind(&session{s.b, key, id, o})
		n.owners[key] = o
		n.ended.Go(func() { _ = o.Run(ctx, nil) })
	}
	s.nodes[id] = n
}

// stop lets a node leave in good order; who dies is killed instead.
func (s *site) stop(id string) {
	n := s.nodes[id]
	n.cancel()
	n.ended.Wait()
	delete(s.nodes, id)
}

// kill makes a node vanish without a word: its connections end, and nothing it says arrives any more.
func (s *site) kill(id string) {
	s.nodes[id].mouth.dead.Store(true)
	s.stop(id)
}

// mouth is how a node publishes until it is dead.
type mouth struct {
	*broker
	dead atomic.Bool
}

// Publish implements Publisher.
func (m *mouth) Publish(msg *event.Message, c interface{ Confirmed(error) }) error {
	if m.dead.Load() {
		return errDown
	}
	return m.broker.Publish(msg, c)
}

func (s *site) view(id string) []Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Node
	for n := range maps.Values(s.views[id]) {
		all = append(all, n)
	}
	return all
}

func (s *site) revoked(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut[id]
}

func (s *site) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news
}

// gossip changes what the nodes see.
func (s *site) gossip(change func(views map[string]map[string]Node)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.views)
	close(s.news)
	s.news = make(chan struct{})
}

// sees makes viewers see each of the others, or not.
func (s *site) sees(ok bool, viewers []string, others ...string) {
	s.gossip(func(views map[string]map[string]Node) {
		for _, v := range viewers {
			for _, o := range others {
				if delete(views[v], o); ok || v == o {
					views[v][o] = Node{ID: o, Eligible: true, BrokerUp: true}
				}
			}
		}
	})
}

// sight makes two groups of nodes see each other, or not.
func (s *site) sight(ok bool, one, two []string) {
	s.sees(ok, one, two...)
	s.sees(ok, two, one...)
}

// lossless ends a flow that must not have lost anything.
func (s *site) lossless(stop func() (sent, lost, twice int)) {
	s.t.Helper()
	if sent, lost, _ := stop(); lost != 0 || sent == 0 {
		s.t.Errorf("%d sent, %d lost", sent, lost)
	}
}

func (s *site) ids() []string {
	var all []string
	for id := range s.nodes {
		all = append(all, id)
	}
	return all
}

// owner returns who is connected with a session, "" when nobody is.
func (s *site) owner(key string) string {
	var all []string
	for id, n := range s.nodes {
		if o := n.owners[key]; o.Phase() == Owning && o.up() {
			all = append(all, id)
		}
	}
	return strings.Join(all, "+")
}

// best is who should own.
func (s *site) best(key string, ids ...string) string {
	var nodes []Node
	for _, id := range ids {
		nodes = append(nodes, Node{ID: id, Eligible: true, BrokerUp: true})
	}
	top, _ := Top(key, nodes)
	return top.ID
}

// settled checks that every session is owned by who should among ids.
func (s *site) settled(when string, ids ...string) {
	s.t.Helper()
	for _, key := range s.keys {
		if got, want := s.owner(key), s.best(key, ids...); got != want {
			s.t.Errorf("%s: %s is owned by %q, want %q", when, key, got, want)
		}
	}
}

func (s *site) kicks() (sum int) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, n := range s.b.kicks {
		sum += n
	}
	return sum
}

// flow publishes a message every d until the returned function is called, which then checks the end.
func (s *site) flow(d time.Duration) (stop func() (sent, lost, twice int)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			s.b.message()
			wait(ctx, d)
		}
	}()
	return func() (sent, lost, twice int) {
		cancel()
		<-ended
		wait(context.Background(), 10*time.Second)
		s.b.mu.Lock()
		defer s.b.mu.Unlock()
		for _, key := range s.keys {
			for n := range s.b.sent {
				if ran := len(s.b.ran[key][n]); ran == 0 {
					lost++
				} else {
					twice += ran - 1
				}
			}
		}
		return s.b.sent, lost, twice
	}
}

// end stops every node that is left.
func (s *site) end() {
	for _, id := range s.ids() {
		s.stop(id)
	}
}
