package event

import "strings"

// Covers says whether every topic that other matches is matched by filter too. Both must be valid filters. Permission
// checks and access lists use it: a permission for "plant/+/alarm" covers a subscription to "plant/7/alarm", and one for
// "plant/#" covers "plant/+/alarm". It is exact, and it does not allocate.
func Covers(filter, other string) bool {
	if other != "" && other[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false // [MQTT-4.7.2-1]
	}
	if other == "#" && filter == "+/#" {
		return true // every topic has at least one level
	}
	other = nonEmpty(other)
	for {
		if filter == "#" {
			return true
		}
		f, frest, fmore := strings.Cut(filter, "/")
		o, orest, omore := strings.Cut(other, "/")
		switch {
		case o == "#", f != "+" && f != o: // "#" alone is covered by nothing narrower; "+" is not covered by a name
			return false
		case !omore:
			return !fmore || frest == "#" // "a/#" matches "a" (section 4.7.1.2)
		case !fmore:
			return false
		}
		filter, other = frest, orest
	}
}

// Overlaps says whether some topic is matched by both filters, which must be valid. It does not allocate.
func Overlaps(a, b string) bool {
	a, b = nonEmpty(a), nonEmpty(b)
	wild := func(s string) bool { return s != "" && (s[0] == '+' || s[0] == '#') }
	dollar := func(s string) bool { return s != "" && s[0] == '$' }
	if wild(a) && dollar(b) || wild(b) && dollar(a) {
		return false // [MQTT-4.7.2-1]
	}
	for {
		if a == "#" || b == "#" {
			return true
		}
		x, arest, amore := strings.Cut(a, "/")
		y, brest, bmore := strings.Cut(b, "/")
		if x != "+" && y != "+" && x != y {
			return false
		}
		switch {
		case !amore && !bmore:
			return true
		case !amore:
			return brest == "#"
		case !bmore:
			return arest == "#"
		}
		a, b = arest, brest
	}
}

// nonEmpty returns the filter of the same topics in which every level stands for itself: "/#" would also match the empty
// topic, its parent, but there is no such topic ([MQTT-4.7.3-1]).
func nonEmpty(filter string) string {
	if filter == "/#" {
		return "/+/#"
	}
	return filter
}
