package mqtt

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/triggers"
)

// Promises D1 and D5: whatever the order of settling, the acknowledgements on the wire are a prefix of the order received
// that stops at the first event that is not settled well.
func TestWindowAcknowledgesAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near, far := net.Pipe()
		l := newLink(near, &Broker{Name: "site", WriteTimeout: patience})
		l.start(discard{})
		wire := make(chan []byte, 1)
		go func() { all, _ := io.ReadAll(far); wire <- all }()
		w := newWindow(l, time.Hour, &counters{})
		defer w.close()

		n := rapid.IntRange(1, 200).Draw(t, "events")
		bad := rapid.IntRange(0, 2*n).Draw(t, "bad") // beyond n: none
		all := make([]*delivery, n)
		for i := range all {
			all[i] = &delivery{size: 10}
			all[i].event.Delivery.PacketID = uint16(i + 1)
			w.add(all[i])
		}
		order := rapid.Permutation(all).Draw(t, "order")
		left := rapid.IntRange(0, n).Draw(t, "left open")
		good := make([]bool, n)
		for _, d := range order[left:] {
			i := int(d.event.Delivery.PacketID) - 1
			if i == bad {
				d.Settle(triggers.Settlement{Err: errors.New("no")})
				continue
			}
			good[i] = true
			d.Settle(triggers.Settlement{})
		}
		events, size := w.load()
		_ = l.Close()

		var want []byte
		for i := 0; i < n && good[i]; i++ {
			want = appendPuback(want, uint16(i+1))
		}
		if got := <-wire; !slices.Equal(got, want) || events != left || size != int64(10*left) {
			t.Fatalf("wire %x, want %x; %d events of %d bytes open, want %d", got, want, events, size, left)
		}
	})
}

type told struct {
	n   int
	log *[]int
}

func (c told) Confirmed(error) { *c.log = append(*c.log, c.n) }

// Every message is confirmed once, by its own acknowledgement, in whatever order those come, also when packet ids wrap;
// acknowledgements of nothing confirm nothing.
func TestFlightConfirmsEachMessageOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFlight(rapid.IntRange(1, 40).Draw(t, "window"))
		f.head = rapid.SampledFrom([]uint64{0, 65500, 65534, 65535, 1 << 33}).Draw(t, "at")
		f.tail = f.head
		open := map[uint16]int{}
		var log []int
		next := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "send") {
				id, ok := f.id()
				if _, taken := open[id]; ok && (taken || id == 0) {
					t.Fatalf("id %d twice", id)
				}
				if !ok {
					continue
				}
				f.sent(id, 7, 0, told{next, &log})
				open[id] = next
				next++
				continue
			}
			id := rapid.Uint16Min(1).Draw(t, "id")
			if len(open) > 0 && rapid.Bool().Draw(t, "known") {
				ids := make([]uint16, 0, len(open))
				for id := range open {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				id = rapid.SampledFrom(ids).Draw(t, "which")
			}
			want, known := open[id]
			c, ok := f.confirm(id)
			if ok != known || ok && c.(told).n != want {
				t.Fatalf("id %d: %v %v, want %d %v", id, c, ok, want, known)
			}
			delete(open, id)
		}
		if f.bytes != 7*len(open) {
			t.Fatalf("%d bytes for %d open", f.bytes, len(open))
		}
		for _, c := range f.abandon() {
			c.Confirmed(nil)
		}
		if len(log) != len(open) || !slices.IsSorted(log) {
			t.Fatalf("left over %v, open %v", log, open)
		}
	})
}
