package admin

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"mayfly/function"
)

func TestNotReached(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind string
		text string
		hint string
	}{
		{os.ErrNotExist, KindNotRunning, "there is no such socket", "systemctl start"},
		{syscall.ECONNREFUSED, KindNotRunning, "nobody listens", "systemctl start"},
		{syscall.EACCES, KindDenied, "permission denied", "sudo"},
		{errors.New("odd"), KindNotRunning, "odd", "systemctl start"},
	} {
		err := notReached("/run/x", fmt.Errorf("dial: %w", c.err))
		fe, ok := errors.AsType[*function.Error](err)
		if !ok || fe.Kind != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(fe.Hint, c.hint) {
			t.Errorf("%v: got %v, hint %q", c.err, err, fe.Hint)
		}
	}
}

// A socket that is there but closed to us is the one to talk about, wherever it stands in the list.
func TestMostTelling(t *testing.T) {
	missing, closed := notReached("/a", os.ErrNotExist), notReached("/b", os.ErrPermission)
	if err := mostTelling([]string{"/a", "/b"}, []error{missing, closed}); function.KindOf(err) != KindDenied {
		t.Errorf("got %v", err)
	}
	err := mostTelling([]string{"/a", "/c"}, []error{missing, notReached("/c", os.ErrNotExist)})
	if function.KindOf(err) != KindNotRunning || !strings.Contains(err.Error(), `"/a" "/c"`) {
		t.Errorf("got %v, want both sockets named", err)
	}
}

func TestRunOutcome(t *testing.T) {
	trap := errors.New("trap")
	for _, c := range []struct {
		run  Run
		want string
	}{
		{Run{}, "done"},
		{Run{Err: trap}, "error"},
		{Run{Result: function.Result{Outcome: function.Reject}}, "reject"},
		{Run{Result: function.Result{Outcome: function.Retry}, Err: trap}, "retry"},
	} {
		got := runOf(c.run)
		if got.Outcome != c.want || (got.Error != nil) != (c.run.Err != nil) {
			t.Errorf("%+v: outcome %s, error %v", c.run, got.Outcome, got.Error)
		}
		if got.Publishes == nil || got.Writes == nil || got.Log == nil {
			t.Error("an empty list is null in JSON")
		}
	}
}
