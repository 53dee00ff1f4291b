package placement

import (
	"fmt"
	"slices"
	"strings"

	"mayfly/function"
)

// Rules a node can fail that are not terms of a manifest.
const (
	ruleDraining  = "the node is draining"
	ruleUntrusted = "the node's certificate is not valid"
	ruleBattery   = "the node's battery is low"
	ruleSlots     = "the node runs nothing"
	ruleMemory    = "limits.memory"
)

// failed returns the first rule of f that n does not satisfy, "" when it is eligible. It allocates nothing. here is for the node that
// decides: it does not ask for its own certificate, a low battery keeps away the work of others only, and what has its state there is
// finished there while it drains, for nobody else can.
func failed(f *function.Function, n *Node, here bool) string {
	switch {
	case n.Draining && !(here && stateful(f)):
		return ruleDraining
	case n.Untrusted && !here:
		return ruleUntrusted
	case n.Power == PowerLow && !here:
		return ruleBattery
	case n.Slots <= 0 && !here:
		return ruleSlots
	case n.Memory > 0 && f.Manifest.Limits.Memory > n.Memory:
		return ruleMemory
	}
	for _, term := range f.Manifest.Placement.Require {
		if !Satisfies(n, term) {
			return term
		}
	}
	return ""
}

// Failed returns every rule of f's manifest that n does not satisfy, in words, as n itself would judge.
func Failed(f *function.Function, n *Node) []string { return reasons(f, n, true) }

func reasons(f *function.Function, n *Node, here bool) []string {
	var all []string
	add := func(bad bool, reason string) {
		if bad {
			all = append(all, reason)
		}
	}
	add(n.Draining && !(here && stateful(f)), ruleDraining)
	add(n.Untrusted && !here, ruleUntrusted)
	add(n.Power == PowerLow && !here, ruleBattery)
	add(n.Slots <= 0 && !here, ruleSlots)
	if n.Memory > 0 && f.Manifest.Limits.Memory > n.Memory {
		all = append(all, fmt.Sprintf("limits.memory = %d bytes, the node allows %d", f.Manifest.Limits.Memory, n.Memory))
	}
	for _, term := range f.Manifest.Placement.Require {
		if !Satisfies(n, term) {
			all = append(all, fmt.Sprintf("placement.require %q: the node is %s", term, describe(n, term)))
		}
	}
	return all
}

// describe says what n is in the respect a term asks for.
func describe(n *Node, term string) string {
	switch kind, _, _ := strings.Cut(term, ":"); kind {
	case "arch":
		return "arch:" + n.Arch
	case "os":
		return "os:" + n.OS
	case "zone":
		return "zone:" + n.Zone
	case "power":
		return "power:" + n.Power.String()
	case "cap":
		return "cap:" + strings.Join(n.Capabilities, ",")
	case "node":
		return "node:" + n.ID
	}
	return "labels:" + strings.Join(n.Labels, ",")
}

// Satisfies says whether n satisfies one term of placement.require or placement.prefer: "arch:arm64|amd64", "os:linux", "label:gpio",
// "zone:hall-3", "cap:NAME", "power:mains", "node:<id or name>"; several values are separated by |. It allocates nothing.
func Satisfies(n *Node, term string) bool {
	kind, values, _ := strings.Cut(term, ":")
	for value := range strings.SplitSeq(values, "|") {
		if n.is(kind, value) {
			return true
		}
	}
	return false
}

func (n *Node) is(kind, value string) bool {
	switch kind {
	case "arch":
		return n.Arch == value
	case "os":
		return n.OS == value
	case "node":
		return value != "" && (n.ID == value || n.Name == value)
	case "label":
		return slices.Contains(n.Labels, value)
	case "zone":
		return n.Zone == value
	case "cap":
		return slices.Contains(n.Capabilities, value)
	case "power":
		return n.Power.String() == value
	}
	return false
}

// nearTrigger is the term of placement.prefer for the node the event arrived at, or one in its zone.
const nearTrigger = "near-trigger"

// unmet counts the terms of placement.prefer that n does not satisfy, as v.Self sees it.
func unmet(f *function.Function, v *View, n *Node) int {
	bad := 0
	for _, term := range f.Manifest.Placement.Prefer {
		if term == nearTrigger {
			if n != &v.Self && (n.Zone == "" || n.Zone != v.Self.Zone) {
				bad++
			}
		} else if !Satisfies(n, term) {
			bad++
		}
	}
	return bad
}
