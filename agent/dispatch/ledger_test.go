package dispatch

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

// TestLedgerFollowsWhatIsCommitted: whatever is written, replaced, deleted and refused, the ledger says what counting would.
func TestLedgerFollowsWhatIsCommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := newMemStore()
		defer close(st.dones)
		var l ledger
		now := time.Now()
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			writes := map[string]function.StateWrite{}
			for range rapid.IntRange(0, 3).Draw(t, "writes") {
				key := fmt.Sprintf("k%d", rapid.IntRange(0, 5).Draw(t, "key"))
				writes[key] = function.StateWrite{
					Key: []byte(key), Delete: rapid.Bool().Draw(t, "delete"), Value: make([]byte, rapid.IntRange(0, 20).Draw(t, "bytes")),
				}
			}
			var list []function.StateWrite
			for _, w := range writes {
				list = append(list, w)
			}
			refused := errors.New("no room")
			if !rapid.Bool().Draw(t, "refused") {
				refused = nil
			}
			err := l.commit(st, "f", list, func() error {
				if refused != nil {
					return refused
				}
				return st.Submit(stateOps("f", list), func(error) {})
			})
			if !errors.Is(err, refused) {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "asked") {
				want, _ := new(ledger).usage(st, "f", now)
				if got, err := l.usage(st, "f", now); got != want || err != nil {
					t.Fatalf("%d bytes, counted %d, %v", got, want, err)
				}
			}
		}
	})
}

// TestLedgerCountsAgain: what changed behind its back is noticed when it is told, or after a while.
func TestLedgerCountsAgain(t *testing.T) {
	st := newMemStore()
	defer close(st.dones)
	var l ledger
	now := time.Now()
	behind := func(key string) {
		if err := st.Submit(stateOps("f", []function.StateWrite{{Key: []byte(key), Value: []byte("123")}}), func(error) {}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when time.Time, bytes int64) {
		t.Helper()
		if got, err := l.usage(st, "f", when); got != bytes || err != nil {
			t.Errorf("%d bytes, want %d, %v", got, bytes, err)
		}
	}
	want(now, 0)
	behind("a")
	want(now, 0)
	l.forget()
	want(now, 4)
	behind("b")
	want(now.Add(recount-1), 4)
	want(now.Add(recount), 8)
}
