package outbox

import (
	"log/slog"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mayfly/event"
)

// model drives an outbox by hand, without Run's goroutine: every step of it is a step of the test, in any order, with crashes
// between any two.
type model struct {
	o    *Outbox
	p    *pipe
	w    *wire
	d    *disk
	next int

	open     []Ticket     // submitted, not synced
	durable  map[int]int  // synced, so must arrive: the number of the next message then
	volatile map[int]bool // sent in this run: told exactly once, nil only if confirmed
	told     map[int]error
	safe     map[int]bool // confirmed by the broker
}

func (m *model) restart(t *rapid.T) {
	m.w = newWire(3)
	o, err := Open(Config{Default: "site", MemoryBytes: 40}, map[string]Publisher{"site": m.w}, m.d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.o, m.p = o, o.pipes["site"]
	m.open, m.volatile, m.told = nil, map[int]bool{}, map[int]error{}
}

// At least once, in order, each told once: whatever the order of commits, syncs, releases, confirmations, cuts, readings,
// deletions and crashes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{d: newDisk(), durable: map[int]int{}, safe: map[int]bool{}}
		m.d.manual = true
		m.restart(t)
		t.Repeat(map[string]func(*rapid.T){
			"send":    m.send,
			"commit":  m.commit,
			"sync":    func(*rapid.T) { m.d.sync() },
			"confirm": m.confirm,
			"cut":     func(*rapid.T) { m.w.set(false) },
			"join":    func(*rapid.T) { m.w.set(true); m.pump() },
			"page":    m.page,
			"erase":   m.erase,
			"crash":   m.crash,
			"abandon": m.abandon,
			"":        m.check,
		})
		m.finish(t)
	})
}

func (m *model) message() event.Message {
	msg := say("a", m.next)
	m.next++
	return msg
}

func (m *model) send(t *rapid.T) {
	n := m.next
	if err := m.o.Send([]event.Message{m.message()}, func(err error) {
		if _, twice := m.told[n]; twice {
			t.Fatalf("%d is told twice", n)
		}
		m.told[n] = err
	}); err == nil {
		m.volatile[n] = true
	}
}

func (m *model) commit(t *rapid.T) {
	n := m.next
	ops, ticket, err := m.o.Ops("f", []event.Message{m.message()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.d.Submit(ops, func(error) { m.durable[n] = m.next; m.o.Release(ticket) }); err != nil {
		t.Fatal(err)
	}
}

// abandon asks for operations that are never committed.
func (m *model) abandon(t *rapid.T) {
	if _, _, err := m.o.Ops("f", []event.Message{m.message()}); err != nil {
		t.Fatal(err)
	}
}

func (m *model) confirm(t *rapid.T) {
	n := rapid.IntRange(0, 2).Draw(t, "which")
	m.w.mu.Lock()
	if n < len(m.w.asked) {
		m.safe[number(m.w.asked[n].(*entry).msg)] = true
	}
	m.w.mu.Unlock()
	m.w.confirm(n)
}

func (m *model) pump() {
	m.p.mu.Lock()
	m.p.pumpAndUnlock(nil)
}

func (m *model) page(t *rapid.T) {
	if err := m.p.page(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) erase(t *rapid.T) {
	if err := m.p.erase(); err != nil {
		t.Fatal(err)
	}
}

// crash loses memory and what was not synced.
func (m *model) crash(t *rapid.T) {
	m.d.mu.Lock()
	m.d.queue = nil
	m.d.live = maps.Clone(m.d.synced)
	m.d.mu.Unlock()
	m.restart(t)
}

func (m *model) check(t *rapid.T) {
	for n, err := range m.told {
		if err == nil && !m.safe[n] {
			t.Fatalf("%d is told confirmed and is not", n)
		}
	}
	for _, msg := range m.w.sent {
		if n := number(msg); m.durable[n] == 0 && !m.volatile[n] {
			t.Fatalf("%d was published before it was synced", n)
		}
	}
	m.inOrder(t)
	if pipes, _ := m.o.Stats(); pipes[0].Durable > 40+3*20 {
		t.Fatalf("%d bytes of durable messages in memory", pipes[0].Durable)
	}
}

// inOrder looks at the first publish of every message on this wire. Durable messages leave in the order of Ops, volatile ones in
// the order of Send, a volatile one before durable ones asked for after it and behind durable ones released before it.
func (m *model) inOrder(t *rapid.T) {
	var firsts []int
	for _, msg := range m.w.sent {
		if n := number(msg); !slices.Contains(firsts, n) {
			firsts = append(firsts, n)
		}
	}
	for j := range firsts {
		for i := range j {
			before, after := firsts[i], firsts[j]
			wrong := after < before
			if m.volatile[before] && !m.volatile[after] {
				wrong = m.durable[after] <= before
			}
			if wrong {
				t.Fatalf("published in the order %v: %d before %d", firsts, before, after)
			}
		}
	}
}

// finish lets everything come to its end: nothing may be left behind.
func (m *model) finish(t *rapid.T) {
	m.d.sync()
	m.w.set(true)
	for range 10_000 {
		m.pump()
		m.page(t)
		for m.w.confirmAll(m.safe) {
		}
		m.erase(t)
		m.d.sync()
		if m.p.idle() {
			break
		}
	}
	for n := range m.durable {
		if !m.safe[n] {
			t.Fatalf("durable message %d never arrived", n)
		}
	}
	for n := range m.volatile {
		if err, ok := m.told[n]; !ok || err != nil {
			t.Fatalf("volatile message %d: told %t, %v", n, ok, err)
		}
	}
	if _, bytes := m.o.Stats(); len(m.d.synced) != 0 || len(bytes) != 0 || len(m.p.held) != 0 {
		t.Fatalf("left: %d records, charged %v, held %d", len(m.d.synced), bytes, len(m.p.held))
	}
}

func (w *wire) confirmAll(safe map[int]bool) bool {
	w.mu.Lock()
	if len(w.asked) > 0 {
		safe[number(w.asked[0].(*entry).msg)] = true
	}
	w.mu.Unlock()
	return w.confirm(0)
}

func number(m event.Message) int {
	n := 0
	for _, c := range m.Data {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := record{rapid.String().Draw(t, "function"), event.Message{
			Topic: rapid.String().Draw(t, "topic"),
			Data:  rapid.SliceOf(rapid.Byte()).Draw(t, "data"), QoS: byte(rapid.IntRange(0, 1).Draw(t, "qos")), Retain: rapid.Bool().Draw(t, "retain"),
		}}
		got, err := decode(encode(r))
		if err != nil || got.function != r.function || got.msg.Topic != r.msg.Topic || !slices.Equal(got.msg.Data, r.msg.Data) ||
			got.msg.QoS != r.msg.QoS || got.msg.Retain != r.msg.Retain {
			t.Fatalf("%+v became %+v, %v", r, got, err)
		}
	})
}

// Whatever lies on disk is either a record that encodes to the same bytes or an error.
func FuzzDecode(f *testing.F) {
	f.Add(encode(record{"f", say("a/b", 7)}))
	f.Add([]byte{1, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if again, err := decode(encode(r)); err != nil || again.function != r.function || again.msg.Topic != r.msg.Topic {
			t.Fatalf("%x became %+v and then %+v, %v", b, r, again, err)
		}
	})
}
