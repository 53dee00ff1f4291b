package changelog

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/store"
)

// sender is a broker's session as far as done marks are concerned: it sends messages with packet ids that it uses again, takes acknowledgements
// in the order sent, forgets what it has an acknowledgement of, and sends all the rest again to who comes next.
type sender struct {
	rand *rand.Rand
	n    int
	sent []*message
}

type message struct {
	n         int
	id        uint16
	dup       bool
	received  time.Time
	committed bool // its effects are true, and at the broker
	settled   bool
	acked     bool // written, perhaps not arrived
	forgotten func(all bool)
}

const ids = 700 // packet ids there are

func (s *sender) next() *message {
	m := &message{n: s.n, id: uint16(s.n % ids)}
	s.n++
	s.sent = append(s.sent, m)
	return m
}

func (m *message) mark() store.Op {
	key := binary.BigEndian.AppendUint16([]byte("at/session/"), m.id)
	return store.Op{Key: store.Done.Key("f", key), Value: fmt.Append(nil, m.n)}
}

// acknowledge writes acknowledgements in order, and lets some arrive.
func (s *sender) acknowledge() {
	for _, m := range s.sent {
		if !m.settled {
			break
		}
		m.acked = true
	}
	for arrive := s.rand.IntN(40); arrive > 0 && len(s.sent) > 0 && s.sent[0].acked; arrive-- {
		m := s.sent[0]
		s.sent = s.sent[1:]
		if m.forgotten != nil {
			m.forgotten(!m.dup)
		}
	}
}

// takeover sends everything again, to n. What n does not recognise it has to run: it is an error if that had been done.
func (s *sender) takeover(n *node) (known, twice int) {
	for _, m := range s.sent {
		m.dup, m.settled, m.acked, m.forgotten, m.received = true, false, false, nil, time.Now()
		value, version, _ := n.store.Get(m.mark().Key)
		switch recognised := version != 0 && string(value) == string(m.mark().Value); {
		case recognised && m.committed:
			known++
		case m.committed:
			twice++
		}
	}
	return known, twice
}

// settle is what the dispatcher does with m: nothing that was done is done again.
func (m *message) settle(t *testing.T, n *node) {
	t.Helper()
	if !m.committed {
		commit(t, n, map[string]string{"x": fmt.Sprint(m.n)}, m.mark())
		m.committed = true
	}
	m.forgotten = n.log.Release([]store.Op{m.mark()}, m.received)
	m.settled = true
}

// [U4] [D4] However many commits an event is behind when it is sent again, and however many owners: who has the state then knows that it was done.
// And nothing travels for long that is not needed any more.
func TestMarksTravelAsLongAsTheyAreNeeded(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			b := newBus()
			s := &sender{rand: rand.New(rand.NewPCG(seed, 0))}
			disks := []*memory{newMemory(), newMemory(), newMemory()}
			for claim := uint64(1); claim <= 12; claim++ {
				n := newNode(t, fmt.Sprint(claim%3), b, disks[claim%3])
				n.opened(claim)
				known, twice := s.takeover(n)
				if twice > 0 {
					t.Fatalf("seed %d, owner %d: %d of %d events would run twice", seed, claim, twice, known+twice)
				}
				<-time.After(time.Millisecond)
				s.work(t, n, s.rand.IntN(500))
				if claim%4 == 0 { // the broker forgets what it retains, and the same node goes on
					clear(b.retained)
					n.log.Close()
					n.opened(claim)
					s.work(t, n, s.rand.IntN(50))
				}
				n.die()
			}
			n := newNode(t, "0", b, disks[0])
			n.opened(99)
			s.takeover(n)
			<-time.After(time.Millisecond)
			s.work(t, n, 50)
			s.next().received = time.Now() // what is new comes behind all that came again
			for _, m := range s.sent {
				m.settle(t, n)
			}
			for len(s.sent) > 0 {
				s.acknowledge()
			}
			if left := len(n.log.carried.marks); left != 0 {
				t.Errorf("seed %d: %d marks travel for nothing", seed, left)
			}
			n.die()
		})
	}
}

// work has n deal with some messages, not in order: the oldest often waits while hundreds are done behind it.
func (s *sender) work(t *testing.T, n *node, commits int) {
	t.Helper()
	stuck := s.rand.IntN(2) == 0
	for range commits {
		for len(s.sent) < 30 || stuck && len(s.sent) < ids/2 {
			m := s.next()
			m.received = time.Now()
		}
		first := 0
		if stuck {
			first = 1
		}
		at := first + s.rand.IntN(min(20, len(s.sent)-first))
		for i := range s.sent[at:] {
			if m := s.sent[at+i]; !m.settled {
				m.settle(t, n)
				break
			}
		}
		s.acknowledge()
	}
}
