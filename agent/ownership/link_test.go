package ownership

import (
	"testing"
	"time"
)

func TestLink(t *testing.T) {
	t.Parallel()
	var l Link
	began := time.Now()
	for _, c := range []struct {
		at        int // seconds
		connected bool
		want      bool
	}{
		{0, false, false},
		{5, true, true},
		{6, false, true},
		{15, false, true},
		{16, false, false},
		{17, true, false},
		{70, true, false},
		{71, false, false},
		{72, true, false},
		{131, true, false},
		{132, true, true},
		{133, false, true},
		{134, true, true},
	} {
		if got := l.Observe(began.Add(time.Duration(c.at)*time.Second), c.connected); got != c.want || l.Up() != got {
			t.Errorf("at %d s: %t, want %t", c.at, got, c.want)
		}
	}
}
