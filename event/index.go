package event

import "strings"

// Entry is a value filed under a topic filter.
type Entry[T any] struct {
	Filter string // must be valid by CheckFilter
	Value  T
}

// Index finds the values whose filters match a topic without trying every filter. It is built once and never changes, so
// any number of goroutines may read it without locks; to change it, build another and swap the pointer. A nil *Index is
// empty.
type Index[T any] struct {
	root level[T]
}

// level is a node of the trie: what may follow the levels of the filter so far.
type level[T any] struct {
	names map[string]*level[T] // a level of that name
	any   *level[T]            // "+"
	here  []T                  // filters that end at this node
	below []T                  // filters that go on with "#" from this node
}

// NewIndex builds an index of the entries. Entries with an empty filter, such as that of the zero Pattern, match nothing.
func NewIndex[T any](entries []Entry[T]) *Index[T] {
	x := &Index[T]{}
	for _, e := range entries {
		if e.Filter != "" {
			x.root.add(e.Filter, e.Value)
		}
	}
	return x
}

func (n *level[T]) add(filter string, value T) {
	for {
		if filter == "#" {
			n.below = append(n.below, value)
			return
		}
		name, rest, more := strings.Cut(filter, "/")
		n = n.child(name)
		if !more {
			n.here = append(n.here, value)
			return
		}
		filter = rest
	}
}

func (n *level[T]) child(name string) *level[T] {
	if name == "+" {
		if n.any == nil {
			n.any = &level[T]{}
		}
		return n.any
	}
	next := n.names[name]
	if next == nil {
		if n.names == nil {
			n.names = map[string]*level[T]{}
		}
		next = &level[T]{}
		n.names[name] = next
	}
	return next
}

// Match appends to into the values of all filters that match topic, by the rules of MatchFilter, and returns it. The order
// is the same for every call on one index. It allocates only if into is too small.
func (x *Index[T]) Match(topic string, into []T) []T {
	if x == nil || topic == "" {
		return into
	}
	if topic[0] != '$' { // [MQTT-4.7.2-1]
		return x.root.match(topic, into)
	}
	name, rest, more := strings.Cut(topic, "/")
	return x.root.names[name].matchRest(rest, more, into)
}

// match handles the levels in topic, at least one, below n.
func (n *level[T]) match(topic string, into []T) []T {
	into = append(into, n.below...)
	if n.names == nil && n.any == nil {
		return into
	}
	name, rest, more := strings.Cut(topic, "/")
	into = n.names[name].matchRest(rest, more, into)
	return n.any.matchRest(rest, more, into)
}

func (n *level[T]) matchRest(rest string, more bool, into []T) []T {
	switch {
	case n == nil:
		return into
	case more:
		return n.match(rest, into)
	}
	into = append(into, n.below...) // "a/#" matches "a" (section 4.7.1.2)
	return append(into, n.here...)
}
