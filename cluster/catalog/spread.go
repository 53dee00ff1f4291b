package catalog

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Spread is which members have a change.
type Spread struct {
	Have    []string
	Missing []string // they answered that they do not have it yet
	Silent  []string // nothing is known of them, and they did not answer
}

// Spread asks which of the members hold this version of a record or a newer one. Those that hold what this node holds are not asked; the
// others are, eight at a time, until ctx ends. This node must not be among members.
func (r *Replica) Spread(ctx context.Context, kind Kind, key string, ver uint64, members []string) Spread {
	const at = 8
	var (
		out  Spread
		mu   sync.Mutex
		wg   sync.WaitGroup
		room = make(chan struct{}, at)
	)
	put := func(list *[]string, node string) {
		mu.Lock()
		defer mu.Unlock()
		*list = append(*list, node)
	}
	for _, node := range members {
		if r.equals(node) {
			put(&out.Have, node)
			continue
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			switch has, err := r.has(ctx, node, ident{kind, key}, ver); {
			case err != nil:
				put(&out.Silent, node)
			case has:
				put(&out.Have, node)
			default:
				put(&out.Missing, node)
			}
		})
	}
	wg.Wait()
	for _, list := range [][]string{out.Have, out.Missing, out.Silent} {
		slices.Sort(list)
	}
	return out
}

// equals says whether a node said lately that it holds what this one holds.
func (r *Replica) equals(node string) bool {
	mine := r.catalog.Snapshot().Root()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[node]
	return p != nil && p.root == mine
}

func (r *Replica) has(ctx context.Context, node string, id ident, ver uint64) (bool, error) {
	in, _, err := r.ask(ctx, node, opVersions, encodeIdents([]ident{id}))
	if err != nil {
		return false, err
	}
	all := in.headers()
	if err := in.end(); err != nil {
		return false, err
	}
	return len(all) == 1 && all[0].ident == id && all[0].ver >= ver, nil
}

// Status is what a replica knows of the others.
type Status struct {
	Root    [16]byte
	Floor   time.Time // tombstones older than that may have been forgotten; zero = none was
	Peers   []PeerStatus
	Split   []Split
	Dropped int64 // announcements that had no room
}

// PeerStatus is what is known of another replica.
type PeerStatus struct {
	Node  string
	Equal bool          // it holds what this node holds
	Heard time.Duration // ago
	Stale bool          // it was away for so long that nothing is learned from it about deletions
	Pause time.Duration // until it is called again, after calls that failed or brought nothing
}

// Split is a part of the cluster that was apart for longer than deletions are remembered: it and this node hold records that the other takes for
// deleted. An operator decides: what is deployed again stays everywhere, what is removed goes everywhere.
type Split struct {
	Node      string
	OnlyHere  []string // "function/name"
	OnlyThere []string
}

// Status returns what is known now, sorted by node.
func (r *Replica) Status() Status {
	now := r.catalog.Snapshot()
	floor, _ := r.catalog.horizon.marks()
	s := Status{Root: now.Root()}
	if floor > 0 {
		s.Floor = timeOf(floor)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Dropped = r.dropped
	for node, p := range r.peers {
		s.Peers = append(s.Peers, PeerStatus{
			Node: node, Equal: p.root == s.Root, Heard: time.Since(p.heard), Stale: r.catalog.horizon.stale(node), Pause: p.pause,
		})
		if p.split.told {
			s.Split = append(s.Split, Split{node, names(p.split.here), names(p.split.there)})
		}
	}
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int { return cmp.Compare(a.Node, b.Node) })
	slices.SortFunc(s.Split, func(a, b Split) int { return cmp.Compare(a.Node, b.Node) })
	return s
}
