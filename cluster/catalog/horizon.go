package catalog

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mayfly/store"
)

// horizon is how far back this node knows what was deleted. Time here is running time: how long this node has been on since it has a
// catalog. A drawer, a clock at 1970 or one at 2038 do not make it pass [C5]. Safe for concurrent use.
type horizon struct {
	limit time.Duration // how long a tombstone is kept

	mu    sync.Mutex
	state state
	began time.Time        // monotonic: when state.Running was true
	told  map[string]marks // what members say of themselves, in calls
}

// marks are how far a node knows what was deleted, as versions.
type marks struct {
	floor  uint64 // the newest tombstone that may have been collected
	synced uint64 // everything deleted up to here is deleted there
}

// state is the horizon as it is kept on disk.
type state struct {
	Running int64             `json:"running"` // milliseconds
	Floor   uint64            `json:"floor"`
	Synced  uint64            `json:"synced"`
	Unsure  int64             `json:"unsure,omitempty"` // running time at which a comparison found Synced to be long ago; 0 = it is not
	Seen    map[string]seenAt `json:"seen"`             // by node: when it was heard, in running time
}

type seenAt struct {
	First     int64 `json:"first"` // since when without a gap of more than the horizon
	Last      int64 `json:"last"`
	Estranged bool  `json:"estranged,omitempty"` // there was such a gap, and we have not been equal since
}

func (h *horizon) load(b []byte, log *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := json.Unmarshal(b, &h.state); err != nil {
		log.Error("what this node knew of deletions is damaged; it counts as one that was away for long", "error", err)
		h.state = state{}
	}
	h.start()
}

// start begins to count. The caller holds mu.
func (h *horizon) start() {
	if h.began.IsZero() {
		h.began = time.Now()
	}
}

// running is this node's running time in milliseconds.
func (h *horizon) running() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runningLocked()
}

func (h *horizon) runningLocked() int64 {
	h.start()
	return h.state.Running + time.Since(h.began).Milliseconds()
}

func (h *horizon) marks() (floor, synced uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.Floor, h.state.Synced
}

// saw notes that a node is there.
func (h *horizon) saw(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.runningLocked()
	if h.state.Seen == nil {
		h.state.Seen = map[string]seenAt{}
	}
	at, known := h.state.Seen[node]
	if !known && len(h.state.Seen) >= maxPeers {
		return
	}
	if gap := now - at.Last; !known || gap > h.limit.Milliseconds() {
		at = seenAt{First: now, Estranged: known}
	}
	at.Last = now
	h.state.Seen[node] = at
}

// tells notes what a node says of itself, known by its certificate.
func (h *horizon) tells(node string, m marks) {
	h.saw(node)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.told == nil {
		h.told = map[string]marks{}
	}
	if _, known := h.told[node]; known || len(h.told) < maxPeers {
		h.told[node] = m
	}
}

// equal notes that a node holds what we hold.
func (h *horizon) equal(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.state.Seen[node]; ok && at.Estranged {
		at.Estranged = false
		h.state.Seen[node] = at
	}
}

// stale says whether nothing is learned from a node about deletions, because it was away for longer than they are remembered.
func (h *horizon) stale(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[node].synced < h.state.Floor || h.state.Seen[node].Estranged
}

// estranged says whether a node was not seen for longer than deletions are remembered, and has not held what we hold since.
func (h *horizon) estranged(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state.Seen[node].Estranged
}

// contact is for how long a node has been there, without a gap longer than the horizon.
func (h *horizon) contact(node string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.state.Seen[node]
	if !ok {
		return 0
	}
	return time.Duration(h.runningLocked()-at.First) * time.Millisecond
}

// sure says whether this node may conclude from its own clock that it knows of a peer's deletions: it has known the peer for an hour, and was not away
// itself. Who was away knows nothing that another who was away could not have missed as well: two that come back and meet each other first
// wait for somebody who was there, who says so. If nobody comes for a whole horizon of running time, they are the site, or a split part of it.
func (h *horizon) sure(node string, now time.Time) bool {
	together := h.contact(node)
	h.mu.Lock()
	defer h.mu.Unlock()
	running := h.runningLocked()
	if now.Sub(timeOf(h.state.Synced)) <= h.limit/awayShare {
		h.state.Unsure = 0
		return together >= contactFirst
	}
	if h.state.Unsure == 0 {
		h.state.Unsure = max(running, 1)
	}
	alone := time.Duration(running-h.state.Unsure) * time.Millisecond
	return min(together, alone) >= h.limit
}

// awayShare is the part of the horizon after which a node that heard from nobody in good standing has been away: three days of thirty. It must
// be a small part: two that are away together, but for moments at which they meet each other, lose that much each time.
const awayShare = 10

// saved returns the op that writes the state down with new marks, and what makes them true afterwards. Nodes not seen for twice the horizon are
// forgotten.
func (h *horizon) saved(m marks) (store.Op, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.runningLocked()
	next := h.state
	next.Running, next.Floor, next.Synced = now, max(next.Floor, m.floor), max(next.Synced, m.synced)
	maps.DeleteFunc(h.state.Seen, func(_ string, at seenAt) bool { return now-at.Last > 2*h.limit.Milliseconds() })
	b, err := json.Marshal(next)
	op := store.Op{Key: store.Catalog.Key("", []byte(stateKey)), Value: b}
	return op, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.state.Floor, h.state.Synced = max(h.state.Floor, next.Floor), max(h.state.Synced, next.Synced)
	}, err
}

// collectable returns the tombstones that are older than the horizon, as many as go in one step. Who may not know of everything that was deleted
// up to then forgets none: floor is never above synced.
func (c *Catalog) collectable(now *Snapshot, keep func(Record) bool) (ids []ident, floor uint64) {
	running := c.horizon.running()
	_, synced := c.horizon.marks()
	now.all(func(e *entry) bool {
		if e.Deleted && e.Ver <= synced && running-e.held > c.options.Horizon.Milliseconds() && !keep(e.Record) {
			ids = append(ids, e.ident())
			floor = max(floor, e.Ver)
		}
		return len(ids) < maxStep
	})
	return slices.Clip(ids), floor
}

// maxStep bounds how many records change in one step: with the conflicts that may come of it they fit into one batch of the smallest store.
const maxStep = 16
