package catalog

import (
	"context"
	"encoding/json"
	"slices"
)

// Node is what a node says about itself to the whole cluster, in words; the numbers that change are in the gossip.
type Node struct {
	ID           string   `json:"-"`              // the record's key
	Name         string   `json:"name"`           // for people
	Zone         string   `json:"zone,omitempty"` // where calls are cheap
	Labels       []string `json:"labels,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	Version      string   `json:"version"` // of the agent
	Arch         string   `json:"arch,omitempty"`
	OS           string   `json:"os,omitempty"`

	Canaries []CanaryReport `json:"canaries,omitempty"` // what it says of versions on trial
}

// PutNode says what this node is, if that is not known already. Only the node itself writes its record, so neither the clock nor any other writer
// matters: a version follows the one before. n.ID is ignored.
func (c *Catalog) PutNode(ctx context.Context, n Node) error {
	n.Labels = slices.Sorted(slices.Values(n.Labels))
	b, err := json.Marshal(n)
	if err != nil {
		return failed("describe", c.options.Node, err)
	}
	_, err = c.Set(ctx, KindNode, c.options.Node, b)
	return err
}

// Nodes returns what nodes said about themselves, sorted by id. A record that cannot be read is left out.
func (s *Snapshot) Nodes() []Node {
	all := make([]Node, 0, len(s.kinds[KindNode]))
	for _, e := range s.kinds[KindNode] {
		n := Node{ID: e.Key}
		if !e.Deleted && json.Unmarshal(e.Body, &n) == nil {
			all = append(all, n)
		}
	}
	return all
}
