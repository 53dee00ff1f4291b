package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mayfly/admin"
	"mayfly/agent/placement"
	"mayfly/function"
)

// Drill implements admin.Explainer: where everything would land without some nodes. Nothing is touched, and nobody is asked.
func (e explainer) Drill(ctx context.Context, kill []string) (admin.Drill, error) {
	a := e.agent
	if a.pool == nil {
		return admin.Drill{}, admin.Alone("drill")
	}
	out := admin.Drill{Killed: []string{}, Fits: true, Moves: []admin.Move{}, Nodes: []admin.DrillNode{}}
	before := *a.viewer.now()
	view := before
	var last placement.Drilled
	for _, name := range kill {
		m, err := nodes{a}.find(ctx, name)
		if err != nil {
			return out, err
		}
		last = placement.Drill(&view, m.ID, e.demand(), e.ownerRule)
		if !last.Known {
			return out, &function.Error{
				Op: "drill", Subject: name, Class: function.ClassReject, Kind: admin.KindInvalid,
				Err: errors.New("this node is not alive, so killing it changes nothing"), Hint: "mayfly nodes ls",
			}
		}
		out.Killed = append(out.Killed, m.Name)
		out.Moves = append(out.Moves, e.moves(last)...)
		out.Fits = out.Fits && last.Fits
		view = withoutNode(view, m.ID)
	}
	out.Nodes = e.left(before, last)
	out.Caveats = []string{
		"rates are those this node has seen since it started; what other nodes' events cost is not in them",
		"memory of the nodes is not counted, only slots and speed",
	}
	return out, nil
}

func withoutNode(v placement.View, node string) placement.View {
	all := slices.DeleteFunc(append([]placement.Node{v.Self}, v.Peers...), func(n placement.Node) bool { return n.ID == node })
	if len(all) == 0 {
		return placement.View{}
	}
	return placement.View{Self: all[0], Peers: all[1:]}
}

// demand is what the functions ask for, as far as this node has seen it.
func (e explainer) demand() (all []placement.Demand) {
	counters := e.agent.counters()
	up := time.Since(e.agent.began).Seconds()
	for _, f := range e.agent.catalog.List() {
		d := placement.Demand{Function: f, Triggers: e.agent.subs.sharedTriggers(f)}
		if c := counters[f.Name()]; c != nil && up > 0 {
			d.Rate = float64(c.Counters.Received.Load()) / up
			d.Exec = time.Duration(c.Counters.Average.Load())
		}
		all = append(all, d)
	}
	return all
}

func (e explainer) moves(d placement.Drilled) (all []admin.Move) {
	for _, row := range d.Functions {
		for _, m := range row.Moves {
			move := admin.Move{Function: row.Function, Trigger: m.Trigger, From: e.agent.nameOf(m.From), Note: row.Note}
			if m.To != "" {
				move.To = e.agent.nameOf(m.To)
			} else {
				move.Failed = []string{"no node that is left may own it"}
			}
			all = append(all, move)
		}
		if len(row.After) == 0 && len(row.Before) > 0 {
			all = append(all, admin.Move{
				Function: row.Function, From: e.agent.nameOf(row.Before[0]), Failed: []string{"no node that is left may run it"}, Note: row.Note,
			})
		} else if !row.Fits {
			all = append(all, admin.Move{
				Function: row.Function, From: e.agent.nameOf(d.Dead),
				Note: fmt.Sprintf("it needs %.2f slots and there is room for %.2f", row.Demand, row.Room),
			})
		}
	}
	return all
}

// left are the nodes that would be left, and how full they would be.
func (e explainer) left(before placement.View, d placement.Drilled) []admin.DrillNode {
	now := map[string]float64{}
	for _, n := range append([]placement.Node{before.Self}, before.Peers...) {
		now[n.ID] = float64(n.Running)
	}
	all := make([]admin.DrillNode, 0, len(d.Nodes))
	for _, n := range d.Nodes {
		row := admin.DrillNode{
			Node: n.Node, Name: e.agent.nameOf(n.Node), Slots: int(n.Size), LoadBefore: now[n.Node], LoadAfter: n.Used, Fits: n.Used < n.Size,
		}
		if !row.Fits {
			row.Reason = "all its slots would be in use"
		}
		all = append(all, row)
	}
	return all
}
