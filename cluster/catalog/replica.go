package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Peers are the other nodes, as calls reach them: authenticated, which gossip is not.
type Peers interface {
	// Pull brings request to the replica of node and its answer back.
	Pull(ctx context.Context, node string, request []byte) ([]byte, error)
}

// Exchange is how a replica meets the others. What is marked optional may be left zero.
type Exchange struct {
	Cluster  string // name of the pool: replicas of others are not listened to
	Peers    Peers
	Announce func(b []byte) error // tells all members something by gossip; must not block
	// Keep holds back a tombstone from being collected while something is left to be cleaned up for it. Optional.
	Keep func(Record) bool
	Log  *slog.Logger
}

// Replica keeps a catalog equal to those of the other members. It is a state of the cluster's gossip (MarshalBinary, Merge, Heard),
// answers the calls of other replicas (Serve), and calls them itself while it runs. Safe for concurrent use.
type Replica struct {
	catalog *Catalog
	options Exchange
	cluster [8]byte
	serving chan struct{}
	said    chan []byte
	inline  chan Record

	mu      sync.Mutex
	peers   map[string]*peer
	swept   time.Time // when peers were last forgotten
	wanted  int       // over all peers
	recent  recent
	wake    chan struct{} // closed and replaced when there is something to do
	met1st  time.Time     // since when there is contact with others by calls, gaps of some hours left out
	metLast time.Time
	dropped int64 // announcements that had no room
}

// peer is what is known of another member. All of it may be lost.
type peer struct {
	root      [hashSize]byte // of what it holds, by its own word
	heard     time.Time
	busy      bool
	compare   bool // it holds something else than we do
	urgent    bool // whatever its root was
	wants     map[ident]want
	due       time.Time         // when to call it next, if there is a reason
	fruitless [2][hashSize]byte // our root and its root, when comparing brought nothing
	called    time.Time
	failed    bool          // the last call did
	pause     time.Duration // after calls that failed or brought nothing
	split     split
}

type want struct {
	header header
	tries  int
}

const (
	workers     = 4
	maxWants    = 1024
	saidQueue   = 256
	spreadCalls = time.Second // over which calls are spread that many nodes have a reason for at once
	firstPause  = 2 * time.Second
	lastPause   = 10 * time.Minute
	callTime    = 20 * time.Second
)

// NewReplica makes the replica of a catalog. It starts nothing; call it before anything changes the catalog.
func NewReplica(c *Catalog, o Exchange) *Replica {
	r := &Replica{
		catalog: c, options: o, cluster: clusterID(o.Cluster),
		serving: make(chan struct{}, 8), said: make(chan []byte, saidQueue), inline: make(chan Record, saidQueue),
		peers: map[string]*peer{}, wake: make(chan struct{}),
	}
	if r.options.Keep == nil {
		r.options.Keep = func(Record) bool { return false }
	}
	c.written = r.changedHere
	return r
}

// changedHere tells the others of a change that was made on this node.
func (r *Replica) changedHere(record Record) {
	r.say(announcement(newEntry(record), r.catalog.options.Verify != nil))
}

// say queues an announcement. One that has no room is made up for by digests.
func (r *Replica) say(b []byte) {
	select {
	case r.said <- b:
	default:
		r.mu.Lock()
		r.dropped++
		r.mu.Unlock()
	}
}

// MarshalBinary returns what is exchanged by gossip: 33 bytes. The 256 parts of the catalog that tell where two of them differ travel by
// call, when they do.
func (r *Replica) MarshalBinary() ([]byte, error) {
	g := r.greeting()
	root := r.catalog.Snapshot().Root()
	b := append([]byte{wireVersion}, g.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(max(0, g.clock.UnixMilli())))
	return append(b, root[:]...), nil
}

func (r *Replica) greeting() greeting {
	floor, synced := r.catalog.horizon.marks()
	return greeting{r.cluster, marks{floor, synced}, r.catalog.options.Now()}
}

// Merge takes the digest of a member. It only notes that there is something to do.
func (r *Replica) Merge(from string, b []byte) error {
	in := &reader{b: b}
	version := in.byte()
	var cluster [8]byte
	copy(cluster[:], in.take(8))
	clock := time.UnixMilli(int64(min(in.uint64(), 1<<48)))
	root := in.hash()
	if err := in.end(); err != nil || version != wireVersion {
		r.catalog.counts.add(RefusedMalformed)
		return fmt.Errorf("catalog: digest of %s: %w", from, errWire)
	}
	if cluster != r.cluster {
		return fmt.Errorf("catalog: digest of %s: %w", from, errors.New("it is of another cluster"))
	}
	r.catalog.clocks.heard(from, clock, r.catalog.options.Now())
	r.catalog.horizon.saw(from)
	r.holds(from, root, spreadCalls)
	return nil
}

// holds notes what a peer holds by its own word.
func (r *Replica) holds(node string, root [hashSize]byte, jitter time.Duration) {
	mine := r.catalog.Snapshot().Root()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peer(node)
	if p == nil {
		return
	}
	p.root, p.heard = root, time.Now()
	p.compare = root != mine
	if p.compare && p.fruitless != [2][hashSize]byte{mine, root} {
		p.schedule(jitter)
		r.signal()
	}
}

// peer returns what is known of a node; nil when too many are known. The caller holds mu.
func (r *Replica) peer(node string) *peer {
	p := r.peers[node]
	if p == nil && len(r.peers) >= maxPeers && time.Since(r.swept) > sweepEvery {
		r.swept = time.Now()
		for name, old := range r.peers {
			if time.Since(old.heard) > offsetLasts && !old.busy {
				r.wanted -= len(old.wants)
				delete(r.peers, name)
			}
		}
	}
	if p == nil && len(r.peers) < maxPeers {
		p = &peer{wants: map[ident]want{}, heard: time.Now()}
		r.peers[node] = p
	}
	return p
}

// schedule brings the next call forward to a moment within jitter; one that failed is not called before its pause is over, and one that
// had nothing for us not at once.
func (p *peer) schedule(jitter time.Duration) {
	at := time.Now().Add(rand.N(jitter + 1))
	earliest := p.called
	if p.failed {
		earliest = p.called.Add(p.pause)
	} else if p.pause > 0 {
		earliest = p.called.Add(firstPause)
	}
	if at.Before(earliest) {
		at = earliest
	}
	if p.due.IsZero() || at.Before(p.due) {
		p.due = at
	}
}

// rush is over which time members that were told of the same record spread their calls: two milliseconds each. The caller holds mu.
func (r *Replica) rush() time.Duration {
	return min(time.Duration(len(r.peers))*2*time.Millisecond, spreadCalls)
}

// patience is how long to wait for records that were announced: not long at first, for a lost packet costs a second, and asking again may not.
func (w want) patience() time.Duration {
	switch w.tries {
	case 0:
		return 700 * time.Millisecond
	case 1:
		return 1500 * time.Millisecond
	default:
		return callTime
	}
}

// signal wakes the workers. The caller holds mu.
func (r *Replica) signal() {
	close(r.wake)
	r.wake = make(chan struct{})
}

// Heard takes an announcement. Nothing is believed that comes this way but what carries a signature this node checks itself: the rest is a hint
// what to ask for, in a call [C6].
func (r *Replica) Heard(origin string, b []byte) (news bool, err error) {
	s, err := decodeSaid(b)
	if err != nil {
		r.catalog.counts.add(RefusedMalformed)
		return false, fmt.Errorf("catalog: announcement of %s: %w", origin, err)
	}
	if s.root != nil {
		root := [hashSize]byte(s.root)
		r.holds(origin, root, spreadCalls)
		return r.first(root), nil
	}
	if !r.newer(s.header) || !r.first(s.header.hash) {
		return false, nil
	}
	if s.record != nil && len(s.record.Sig) > 0 && r.catalog.options.Verify != nil {
		if reason := r.catalog.admit(*s.record, r.catalog.options.Now()); reason != "" {
			r.catalog.counts.add(reason)
			return false, nil
		}
		select {
		case r.inline <- *s.record:
		default: // digests bring it
		}
		return true, nil
	}
	r.wants(origin, want{header: s.header})
	return true, nil
}

// newer says whether somebody's copy of a record may be newer than ours, and one we may take over.
func (r *Replica) newer(h header) bool {
	if e := r.catalog.Snapshot().entry(h.ident); e != nil {
		return h.ver > e.Ver || h.ver == e.Ver && h.hash != e.hash
	}
	now := r.catalog.options.Now()
	floor, _ := r.catalog.horizon.marks()
	switch {
	case h.ver <= floor && h.kind != KindNode:
		r.catalog.counts.add(IgnoredZombie)
		return false
	case h.ver > versionAt(now.Add(maxFuture)) && r.catalog.clocks.trust(now).good():
		r.catalog.counts.add(RefusedFuture)
		return false
	}
	return true
}

func (r *Replica) first(hash [hashSize]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recent.add(hash)
}

// wants notes that node has a record that we lack.
func (r *Replica) wants(node string, w want) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peer(node)
	if p == nil {
		return
	}
	if _, asked := p.wants[w.header.ident]; !asked {
		if r.wanted >= maxWants {
			return // digests bring it
		}
		r.wanted++
	}
	p.wants[w.header.ident], p.heard = w, time.Now()
	p.schedule(r.rush())
	r.signal()
}

// recent remembers the last few thousand announcements, so that each is passed on once.
type recent struct {
	known map[[hashSize]byte]struct{}
	order [][hashSize]byte
	next  int
}

const maxRecent = 4096

// add says whether hash was not known.
func (c *recent) add(hash [hashSize]byte) bool {
	if _, known := c.known[hash]; known {
		return false
	}
	if c.known == nil {
		c.known = map[[hashSize]byte]struct{}{}
	}
	if len(c.order) < maxRecent {
		c.order = append(c.order, hash)
	} else {
		delete(c.known, c.order[c.next])
		c.order[c.next] = hash
		c.next = (c.next + 1) % maxRecent
	}
	c.known[hash] = struct{}{}
	return true
}
