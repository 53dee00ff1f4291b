package broker

import "strings"

// covers says whether every topic that asked (a topic or a filter) matches is matched by the filter allowed. It may say
// no where the answer is yes ("+/#" and "#" match the same topics), never the other way round. Both must be valid.
func covers(allowed, asked string) bool {
	if asked != "" && asked[0] == '$' && allowed != "" && (allowed[0] == '+' || allowed[0] == '#') {
		return false // [MQTT-4.7.2-1]
	}
	for {
		if allowed == "#" {
			return true
		}
		if asked == "#" {
			return false
		}
		a, arest, amore := strings.Cut(allowed, "/")
		q, qrest, qmore := strings.Cut(asked, "/")
		if a != "+" && a != q {
			return false
		}
		switch {
		case !amore && !qmore:
			return true
		case !qmore:
			return arest == "#" // "a/#" covers "a" (section 4.7.1.2)
		case !amore:
			return false
		}
		allowed, asked = arest, qrest
	}
}

func anyCovers(allowed []string, asked string) bool {
	for _, a := range allowed {
		if covers(a, asked) {
			return true
		}
	}
	return false
}
