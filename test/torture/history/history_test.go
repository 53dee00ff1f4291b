package history

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// told notes that an event had everything an event should have.
func told(l *Log, e Event) {
	for s := range sights {
		l.Note(e, s)
	}
}

func stream3(n int) *Log {
	l := New()
	for i := 1; i <= n; i++ {
		for k := range 3 {
			told(l, Event{fmt.Sprintf("relay/%d", k), uint32(i)})
		}
	}
	return l
}

func TestCleanHistoryIsClean(t *testing.T) {
	v := stream3(100).Judge(Rules{Durable: true})
	if !v.Clean() || v.Sent != 300 || v.Acknowledged != 300 || v.Executed != 300 || v.Duplicates != 0 {
		t.Fatalf("%+v", v)
	}
}

func TestPlantedLossIsFound(t *testing.T) {
	for _, c := range []struct {
		name    string
		sights  []Sight
		durable bool
		lost    int
	}{
		{"acknowledged by the agent, no effect", []Sight{Sent, Promised, Delivered, Acked}, false, 1},
		{"effect written and not confirmed", []Sight{Sent, Promised, Delivered, Acked, Published}, false, 1},
		{"promised by a durable broker, never delivered", []Sight{Sent, Promised}, true, 1},
		{"promised by a broker that forgets", []Sight{Sent, Promised}, false, 0},
		{"delivered, never acknowledged", []Sight{Sent, Promised, Delivered}, false, 0},
		{"only sent", []Sight{Sent}, true, 0},
		{"everything but the publisher's acknowledgement", []Sight{Sent, Delivered, Acked, Published, Confirmed}, true, 0},
	} {
		l := stream3(10)
		for _, s := range c.sights {
			l.Note(Event{"relay/1", 11}, s)
		}
		if v := l.Judge(Rules{Durable: c.durable}); v.Lost != c.lost || v.OrderViolations+v.StateViolations != 0 {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestPlantedReorderAndDuplicateAreFound(t *testing.T) {
	l := stream3(10)
	for _, s := range []Sight{Sent, Promised, Delivered, Acked} {
		for seq := uint32(11); seq <= 13; seq++ {
			l.Note(Event{"relay/1", seq}, s)
		}
	}
	for _, seq := range []uint32{11, 13, 12, 11, 13} { // 12 after 13; 11 and 13 again are no reorder
		l.Note(Event{"relay/1", seq}, Published)
		l.Note(Event{"relay/1", seq}, Confirmed)
	}
	v := l.Judge(Rules{Durable: true})
	if v.OrderViolations != 1 || v.Duplicates != 2 || v.Lost != 0 || v.Executed != 35 {
		t.Fatalf("%+v", v)
	}
}

func TestSettledEventsAreNotMissed(t *testing.T) {
	l := stream3(10)
	e := Event{"relay/1", 11}
	for _, s := range []Sight{Sent, Promised, Delivered, Acked} {
		l.Note(e, s)
	}
	if v := l.Judge(Rules{Durable: true, Settled: map[Event]bool{e: true}}); !v.Clean() {
		t.Fatalf("%+v", v)
	}
}

// ledger is a correct guest, and what one can do wrong.
type ledger struct {
	balance map[int]int64
	bits    map[string][]byte
	numbers map[string]uint64
}

func newLedger() *ledger {
	return &ledger{map[int]int64{}, map[string][]byte{}, map[string]uint64{}}
}

func (g *ledger) act(key string, seq uint32) {
	name := fmt.Sprintf("%s/%d", key, seq/chunk)
	if g.bits[name] == nil {
		g.bits[name] = make([]byte, chunk/8)
	}
	if g.bits[name][seq%chunk/8]>>(seq%8)&1 == 1 {
		g.numbers["twice"]++
	}
	g.bits[name][seq%chunk/8] |= 1 << (seq % 8)
	x := TransferOf(key, seq)
	g.balance[x.From] -= x.Amount
	g.balance[x.To] += x.Amount
}

func (g *ledger) bank(t *testing.T) *Bank {
	t.Helper()
	var report []byte
	entry := func(key string, value []byte) {
		report = binary.LittleEndian.AppendUint16(report, uint16(len(key)))
		report = append(report, key...)
		report = binary.LittleEndian.AppendUint16(report, uint16(len(value)))
		report = append(report, value...)
	}
	number := func(key string, n uint64) { entry(key, binary.LittleEndian.AppendUint64(nil, n)) }
	for a, n := range g.balance {
		number(fmt.Sprintf("a/%d", a), uint64(n))
	}
	for k, b := range g.bits {
		entry("b/"+k, b)
	}
	for k, n := range g.numbers {
		number(k, n)
	}
	b, err := ReadBank(report)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBankOfACorrectLedgerIsClean(t *testing.T) {
	l, g := New(), newLedger()
	for i := range 5000 {
		e := Event{fmt.Sprintf("ledger/%d", rand.IntN(3)), uint32(i + 1)}
		told(l, e)
		g.act(e.Stream[len("ledger/"):], e.Seq)
	}
	if v := l.Judge(Rules{Durable: true, Ledger: "ledger", State: g.bank(t)}); !v.Clean() {
		t.Fatalf("%+v", v)
	}
}

func TestPlantedStateFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(l *Log, g *ledger)
		state int
		order int
	}{
		{"acted twice", func(_ *Log, g *ledger) { g.act("0", 5) }, 1, 0},
		{"the state lost an event", func(l *Log, _ *ledger) { told(l, Event{"ledger/0", 101}) }, 1, 0},
		{"half a transfer", func(_ *Log, g *ledger) { g.balance[3] += 7 }, 2, 0}, // the sum and the account
		{"money moved without an event", func(_ *Log, g *ledger) { g.balance[3] += 7; g.balance[4] -= 7 }, 2, 0},
		{"a later event acted first", func(_ *Log, g *ledger) { g.numbers["turned"]++ }, 0, 1},
		{"acted without having been sent", func(l *Log, g *ledger) { g.act("0", 101); l.Note(Event{"ledger/0", 101}, Delivered) }, 1, 0},
	} {
		l, g := New(), newLedger()
		for i := range 100 {
			told(l, Event{"ledger/0", uint32(i + 1)})
			g.act("0", uint32(i+1))
		}
		c.plant(l, g)
		v := l.Judge(Rules{Durable: true, Ledger: "ledger", State: g.bank(t)})
		if min(v.StateViolations, c.state) != c.state || v.OrderViolations != c.order || c.state == 0 && v.StateViolations > 0 {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestReportThatEndsEarlyIsRefused(t *testing.T) {
	for _, report := range []string{"\x05", "\x05\x00ab", "\x01\x00a", "\x03\x00a/1\x04\x00abcd"} {
		if b, err := ReadBank([]byte(report)); err == nil {
			t.Errorf("%q: %+v", report, b)
		}
	}
}
