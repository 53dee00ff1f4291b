package placement

import (
	"cmp"
	"math"
	"slices"

	"mayfly/function"
)

// Here is the place of this node in a Ring.
const Here = -1

// Ring is the nodes one function belongs to: the K eligible ones of highest weight in its rendezvous, best first. It holds as long as
// the function and the Epoch of the view are the same.
type Ring struct {
	Members  []int   // places in View.Peers; Here for this node
	Eligible int     // how many nodes could run it
	Filtered []Count // how many could not, by the first rule they fail
	Epoch    uint64  // of the view
}

// Count is how many nodes failed a rule.
type Count struct {
	Rule  string `json:"rule"`
	Nodes int    `json:"nodes"`
}

// RingOf returns the ring of f: by weighted rendezvous hashing, so that all nodes with the same view agree, and a node that comes or
// goes moves only what it gains or loses. The weight is slots times speed. What satisfies more terms of placement.prefer comes first.
func RingOf(f *function.Function, v *View) Ring {
	r := Ring{Epoch: v.Epoch}
	var best [K]ranked
	n := 0
	for i := Here; i < len(v.Peers); i++ {
		node := &v.Self
		if i != Here {
			node = &v.Peers[i]
		}
		if rule := failed(f, node, i == Here); rule != "" {
			r.filter(rule)
			continue
		}
		r.Eligible++
		x := ranked{i, unmet(f, v, node), Weigh(f.Manifest.Name, node)}
		at, _ := slices.BinarySearchFunc(best[:n], x, ranked.compare)
		if at == K {
			continue
		}
		n = min(n+1, K)
		copy(best[at+1:n], best[at:])
		best[at] = x
	}
	r.Members = make([]int, n)
	for i := range n {
		r.Members[i] = best[i].place
	}
	return r
}

func (r *Ring) filter(rule string) {
	for i := range r.Filtered {
		if r.Filtered[i].Rule == rule {
			r.Filtered[i].Nodes++
			return
		}
	}
	r.Filtered = append(r.Filtered, Count{rule, 1})
}

type ranked struct {
	place, unmet int
	weight       float64
}

func (a ranked) compare(b ranked) int {
	return cmp.Or(cmp.Compare(a.unmet, b.unmet), cmp.Compare(b.weight, a.weight), cmp.Compare(a.place, b.place))
}

// Weigh is n's weight in the rendezvous of key: -w/ln(u) with u from the hash of both (Schindelhauer and Schomaker, "Weighted
// distributed hash tables"). Higher is better; all nodes compute the same.
func Weigh(key string, n *Node) float64 {
	w := float64(n.Slots)
	if n.Speed > 0 {
		w *= n.Speed
	}
	return -w / math.Log(unit(hash(key, n.ID)))
}

// unit maps a hash to the open interval from 0 to 1.
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// hash is FNV-1a over both, kept apart, and a finaliser (Steele, Lea and Flood, SplitMix64), because FNV mixes its last bytes badly.
func hash(a, b string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(a) {
		h = (h ^ uint64(a[i])) * 1099511628211
	}
	h = (h ^ 0xff) * 1099511628211
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
