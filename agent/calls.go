package agent

import (
	"slices"

	"mayfly/event"
	"mayfly/function"
)

// address is by which names callers over MQTT address this node and its cluster.
type address struct {
	cluster string // the node's id when it is alone
	node    string
	name    string // of the node, for people
}

func (a *Agent) address() address {
	at := address{cluster: a.node.ID, node: a.node.ID, name: a.cfg.Node.Name}
	if a.member != nil {
		at.cluster = a.member.Cluster()
	}
	return at
}

// meant says whether a call that came by topic is for us: {cluster} and {node} in the topic of a trigger with reply stand for this cluster and
// for this node, by id or name. Several clusters may share a broker, and every node gets the calls of a trigger with scope "node".
func (at address) meant(t *function.MQTTTrigger, topic string) bool {
	if who, ok := t.Topic.Capture(function.CaptureCluster, topic); ok && who != at.cluster {
		return false
	}
	who, ok := t.Topic.Capture(function.CaptureNode, topic)
	return !ok || who == at.node || who == at.name
}

// replies returns where the answers to t's events go; nil when nobody waits for one.
func (at address) replies(t *function.MQTTTrigger) func(*event.Event) (result, failure string) {
	if !t.Reply {
		return nil
	}
	return func(ev *event.Event) (result, failure string) {
		if !at.meant(t, ev.Topic) {
			return "", ""
		}
		return t.ReplyTopics(ev.Topic)
	}
}

// only narrows what a trigger with reply wants down to the calls that are for us. A nil condition wants everything.
func (at address) only(t *function.MQTTTrigger, when func(*event.Event) (bool, error)) func(*event.Event) (bool, error) {
	names := t.Topic.Names()
	if !t.Reply || !slices.Contains(names, function.CaptureCluster) && !slices.Contains(names, function.CaptureNode) {
		return when
	}
	return func(ev *event.Event) (bool, error) {
		if !at.meant(t, ev.Topic) {
			return false, nil
		}
		if when == nil {
			return true, nil
		}
		return when(ev)
	}
}
