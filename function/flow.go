package function

import (
	"slices"
	"strings"

	"mayfly/event"
)

// flow checks how many of a trigger's events run.
func (c checker) flow(t *MQTTTrigger, path string) {
	if t.Burst != 0 && t.Rate.Count == 0 && !c.Faulty(path+".rate") {
		c.Fault(path+".burst", "there is no rate to exceed", `say rate = "10/s" too`)
	}
	if t.Coalesce == "" {
		return
	}
	if t.Order == OrderNone {
		c.Fault(path+".coalesce", "without an order no event follows another", `say by what they belong together: order = "topic", or "json.NAME"`)
	}
	if t.Reply {
		c.Fault(path+".coalesce", "every caller waits for an answer of his own", "keep one of coalesce and reply")
	}
}

// The levels by which calls and their answers are told apart.
const (
	levelCall   = "call"
	levelResult = "result"
	levelError  = "error"
)

// Captures that address a call: in a trigger with reply they stand for this cluster and this node only.
const (
	CaptureCluster = "cluster"
	CaptureNode    = "node"
)

// reply checks a trigger whose caller gets an answer.
func (c checker) reply(t *MQTTTrigger, path string) {
	if !t.Reply {
		return
	}
	if t.callLevel() < 0 {
		c.Fault(path+".reply", `the topic has no level "call", or several: where the answer goes is not known`,
			`name it like "mayfly/{cluster}/call/`+c.file.Name+`/{id}"; the answer goes to mayfly/.../result/`+c.file.Name+`/...`)
	}
	if slices.Contains(t.Topic.Names(), CaptureNode) && t.Scope != ScopeNode {
		c.Fault(path+".scope", "one node would get the calls for {"+CaptureNode+"} of all of them, and answer its own", `say scope = "node"`)
	}
}

// callLevel returns which level of the topic is the word "call", -1 when none is or several are.
func (t *MQTTTrigger) callLevel() int {
	levels := strings.Split(t.Topic.Filter(), "/")
	i := slices.Index(levels, levelCall)
	if i < 0 || slices.Contains(levels[i+1:], levelCall) {
		return -1
	}
	return i
}

// ReplyTopics returns where the answer to a call that came by topic goes, and where the failure does. Both are empty when nobody is to be
// answered: the trigger has no reply, or the topic is not one of its own.
func (t *MQTTTrigger) ReplyTopics(topic string) (result, failure string) {
	if !t.Reply || !t.Topic.Match(topic) || len(topic)+len(levelResult) > event.MaxTopic {
		return "", ""
	}
	return t.instead(topic, levelResult), t.instead(topic, levelError)
}

// ReplyFilters returns the filters of all topics that ReplyTopics may return.
func (t *MQTTTrigger) ReplyFilters() []string {
	if !t.Reply || t.callLevel() < 0 {
		return nil
	}
	return []string{t.instead(t.Topic.Filter(), levelResult), t.instead(t.Topic.Filter(), levelError)}
}

func (t *MQTTTrigger) instead(topic, word string) string {
	levels := strings.Split(topic, "/")
	levels[t.callLevel()] = word
	return strings.Join(levels, "/")
}

// MayPublish returns the filters of everything that may be published because of m's events: what the function may say, the answers to its
// callers, and dead letters.
func (m *Manifest) MayPublish() []string {
	may := slices.Clip(m.Permissions.Publish)
	for i := range m.MQTT {
		may = append(may, m.MQTT[i].ReplyFilters()...)
	}
	if m.Retry.DeadLetter != "" {
		may = append(may, m.Retry.DeadLetter)
	}
	return may
}
