package register

import (
	"testing"
	"time"
)

// said is a call that was answered, one after the other.
type said struct {
	call   Call
	answer int64
	lost   bool // no answer came
}

func TestHistoriesAreJudged(t *testing.T) {
	put := func(n int64) Call { return Call{Op: Put, A: n} }
	get := Call{Op: Get}
	swap := func(from, to int64) Call { return Call{Op: Swap, A: from, B: to} }
	for _, c := range []struct {
		name string
		all  []said
		ok   bool
	}{
		{"what was put is there", []said{{put(1), 1, false}, {get, 1, false}}, true},
		{"an acknowledged put is lost", []said{{put(1), 1, false}, {put(2), 2, false}, {get, 1, false}}, false},
		{"everything is lost", []said{{put(1), 1, false}, {get, 0, false}}, false},
		{"a put without an answer happened", []said{{put(1), 1, false}, {put(2), 0, true}, {get, 2, false}}, true},
		{"it did not happen", []said{{put(1), 1, false}, {put(2), 0, true}, {get, 1, false}}, true},
		{"it happened later", []said{{put(1), 1, false}, {put(2), 0, true}, {get, 1, false}, {get, 2, false}}, true},
		{"it happened and came undone", []said{{put(1), 1, false}, {put(2), 0, true}, {get, 2, false}, {get, 1, false}}, false},
		{"a swap acted twice", []said{{swap(0, 1), 0, false}, {put(0), 0, false}, {get, 1, false}}, false},
		{"a swap that did not match", []said{{swap(7, 1), 0, false}, {get, 0, false}}, true},
		{"a swap that says what was not there", []said{{swap(7, 1), 7, false}}, false},
	} {
		h := New()
		for i, s := range c.all {
			fate := Answered
			if s.lost {
				fate = Lost
			}
			h.Begin(i, s.call)(s.answer, fate)
		}
		if err := h.Check(10 * time.Second); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCallsAtOnceMayTakeTurns: of two calls at the same time either may be first, but both clients must be able to agree.
func TestCallsAtOnceMayTakeTurns(t *testing.T) {
	for _, c := range []struct {
		first, second int64
		ok            bool
	}{{0, 1, true}, {1, 1, true}, {0, 0, true}, {1, 0, false}} {
		h := New()
		put := h.Begin(0, Call{Op: Put, A: 1})
		for _, value := range []int64{c.first, c.second} {
			h.Begin(1, Call{Op: Get})(value, Answered)
		}
		put(1, Answered)
		if err := h.Check(10 * time.Second); (err == nil) != c.ok {
			t.Errorf("read %d and then %d while 1 was put: %v", c.first, c.second, err)
		}
	}
}

func TestRegistersDoNotKnowEachOther(t *testing.T) {
	h := New()
	h.Begin(0, Call{Op: Put, Register: 1, A: 5})(5, Answered)
	h.Begin(0, Call{Op: Get, Register: 2})(0, Answered)
	if err := h.Check(10 * time.Second); err != nil {
		t.Error(err)
	}
	h.Begin(0, Call{Op: Put, Register: 2, A: 6})(0, Unmade)
	h.Begin(0, Call{Op: Get, Register: 2})(0, Lost)
	h.Begin(0, Call{Op: Put, Register: 2, A: 7})(0, Lost)
	if calls, unknown := h.Count(); calls != 3 || unknown != 1 {
		t.Errorf("%d calls, %d of them unknown", calls, unknown)
	}
}
