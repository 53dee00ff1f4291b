package triggers

import (
	"cmp"
	"slices"

	"mayfly/event"
)

// Subscription is one MQTT trigger's claim on a topic filter.
type Subscription struct {
	Function string
	Trigger  string // "mqtt[0]"
	Broker   string
	Filter   string
	QoS      byte
	Alone    bool // shares no session: its events may keep the ones behind them waiting
	Stores   bool // every event of it needs the disk: shares no session with those that go on when the disk is slow or full
}

// Group is a set of subscriptions that share one broker session. No two filters in it overlap, nor are equal: a broker may
// send a message once per overlapping subscription of one session ([MQTT-3.3.5-1]), and the copies could not be told from
// equal readings; and of two equal filters the broker keeps one, so that the retained messages for a new trigger would be sent
// to the old one again. Number and members are stable: a subscription keeps its group for as long as it exists.
type Group struct {
	Broker  string
	Number  int
	Members []Subscription
}

// roomy is how many groups at a broker are opened for functions of their own. An event is acknowledged in its turn, so what one
// function of a group is slow about fills the window of all; a group costs a connection and some 70 KiB.
const roomy = 4

// Plan sorts wanted into groups: a function has one of its own while there are fewer than roomy at its broker, and shares the
// first that fits from then on. before says in which group a subscription is already; one whose filter changed must not be in it.
func Plan(wanted []Subscription, before func(Subscription) (group int, ok bool)) []Group {
	wanted = slices.Clone(wanted)
	slices.SortFunc(wanted, func(a, b Subscription) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Trigger, b.Trigger))
	})
	var groups []Group
	var later []Subscription
	for _, s := range wanted {
		if n, ok := before(s); ok {
			groups = join(groups, s, n)
		} else {
			later = append(later, s)
		}
	}
	for _, s := range later {
		groups = join(groups, s, place(groups, s))
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Number, b.Number))
	})
	return groups
}

// place chooses the group of a new subscription: one that its function is in, a new one, or the first.
func place(groups []Group, s Subscription) int {
	taken, known := map[int]bool{}, -1
	for _, g := range groups {
		if g.Broker != s.Broker {
			continue
		}
		taken[g.Number] = true
		own := slices.ContainsFunc(g.Members, func(m Subscription) bool { return m.Function == s.Function })
		if own && known < 0 && fits(groups, s, g.Number) {
			known = g.Number
		}
	}
	if known >= 0 {
		return known
	}
	n := 0
	for len(taken) < roomy && taken[n] || !fits(groups, s, n) {
		n++
	}
	return n
}

func join(groups []Group, s Subscription, number int) []Group {
	for i := range groups {
		if groups[i].Broker == s.Broker && groups[i].Number == number {
			groups[i].Members = append(groups[i].Members, s)
			return groups
		}
	}
	return append(groups, Group{s.Broker, number, []Subscription{s}})
}

func fits(groups []Group, s Subscription, number int) bool {
	for i := range groups {
		if groups[i].Broker != s.Broker || groups[i].Number != number {
			continue
		}
		for _, m := range groups[i].Members {
			if m.Alone || s.Alone || m.Stores != s.Stores || event.Overlaps(m.Filter, s.Filter) {
				return false
			}
		}
	}
	return true
}
