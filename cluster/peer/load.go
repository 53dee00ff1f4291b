package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Load is how busy a node is. It rides on every reply, so what is known of a peer one works with is as old as its last reply.
type Load struct {
	Running int // calls running now
	Queued  int // calls waiting for a slot
	Slots   int // calls the node runs at once
}

// headerLoad carries "running/queued/slots/microseconds": the last is the time the request spent at the node that answers, so
// that the one who asked can tell the network's share of the round trip.
const headerLoad = "Mayfly-Load"

func (l Load) header(spent time.Duration) string {
	b := make([]byte, 0, 32)
	for _, n := range []int{l.Running, l.Queued, l.Slots} {
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, '/')
	}
	return string(strconv.AppendInt(b, spent.Microseconds(), 10))
}

var errLoad = errors.New("not a load word")

// parseLoad reads what header wrote.
func parseLoad(s string) (Load, time.Duration, error) {
	var n [4]int
	rest := s
	for i := range n {
		word, more, found := strings.Cut(rest, "/")
		v, err := strconv.ParseUint(word, 10, 31)
		if err != nil || found != (i < len(n)-1) {
			return Load{}, 0, fmt.Errorf("%w: %.40q", errLoad, s)
		}
		n[i], rest = int(v), more
	}
	return Load{n[0], n[1], n[2]}, time.Duration(n[3]) * time.Microsecond, nil
}
