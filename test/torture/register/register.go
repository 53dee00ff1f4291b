// Package register judges what clients saw of registers in a function's state: whether there is an order of their calls, each somewhere
// between its beginning and its end, in which one copy of the state would have answered the same. A call whose answer nobody
// saw, because the agent died, may have happened at any time later, or never.
package register

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Op is what a call asks for.
type Op byte

// The operations, as the guest reads them.
const (
	Get  Op = 'g' // answers with the value, 0 at first
	Put  Op = 'p' // sets it to A and answers with A
	Swap Op = 'c' // sets it to B if it is A; answers with the value before
)

// Call is one call on one register.
type Call struct {
	Op       Op
	Register int
	A, B     int64
}

// Text is the call as the guest reads it.
func (c Call) Text() string { return fmt.Sprintf("%c %d %d %d", c.Op, c.Register, c.A, c.B) }

type answer struct {
	value   int64
	unknown bool
}

// History collects the calls of many clients. Safe for concurrent use.
type History struct {
	began time.Time

	mu      sync.Mutex
	ops     []porcupine.Operation
	unknown int
}

// New returns an empty history.
func New() *History { return &History{began: time.Now()} }

// Fate is what a client knows of its call.
type Fate byte

// What can become of a call.
const (
	Lost     Fate = iota // no answer came: it may have happened, or happen later
	Answered             // it happened
	Unmade               // it never reached the agent
)

// Begin notes that client makes the call now. end is called once, with what became of it and the answer if there was one.
func (h *History) Begin(client int, c Call) (end func(value int64, fate Fate)) {
	at := time.Since(h.began).Nanoseconds()
	return func(value int64, fate Fate) {
		op := porcupine.Operation{ClientId: client, Input: c, Call: at, Output: answer{value, fate == Lost}, Return: math.MaxInt64}
		if fate == Answered {
			op.Return = time.Since(h.began).Nanoseconds()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if fate == Unmade || fate == Lost && c.Op == Get { // a question nobody heard the answer of changes nothing
			return
		}
		h.ops = append(h.ops, op)
		if fate == Lost {
			h.unknown++
		}
	}
}

// Count returns how many calls there were, and how many of them without an answer.
func (h *History) Count() (calls, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops), h.unknown
}

// Check returns nil when the history is linearizable, an error when it is not, or when patience was not enough to tell.
func (h *History) Check(patience time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch porcupine.CheckOperationsTimeout(model(), h.ops, patience) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("%d calls are not linearizable", len(h.ops))
	case porcupine.Unknown:
	}
	return fmt.Errorf("whether %d calls are linearizable was not found out within %v", len(h.ops), patience)
}

// model is one register; a history is cut into those of its registers first.
func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(all []porcupine.Operation) (parts [][]porcupine.Operation) {
			at := map[int]int{}
			for _, op := range all {
				r := op.Input.(Call).Register
				i, known := at[r]
				if !known {
					i = len(parts)
					at[r], parts = i, append(parts, nil)
				}
				parts[i] = append(parts[i], op)
			}
			return parts
		},
		Init: func() any { return int64(0) },
		Step: func(state, input, output any) (bool, any) {
			was, c, a := state.(int64), input.(Call), output.(answer)
			now, says := was, was
			switch {
			case c.Op == Put:
				now, says = c.A, c.A
			case c.Op == Swap && was == c.A:
				now = c.B
			}
			return a.unknown || a.value == says, now
		},
	}
}
