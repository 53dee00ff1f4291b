package abi

import "strconv"

// Exit ends a guest that called proc_exit.
type Exit struct{ Code int32 }

func (e *Exit) Error() string { return "exit status " + strconv.Itoa(int(e.Code)) }

// Trap ends a guest that misused a host function or gave up.
type Trap struct {
	Kind   string // stable word: "trap", "abort", "output-limit"
	Import string // "mayfly_v1.publish"
	Reason string
}

func (t *Trap) Error() string {
	if t.Import == "" {
		return t.Reason
	}
	return t.Import + ": " + t.Reason
}
