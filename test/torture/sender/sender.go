// Package sender publishes the events of a torture run and knows which of them the broker acknowledged: it sends each until
// then, in the order of their streams, over as many connections as that takes.
package sender

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/test/torture/faultlink"
	"mayfly/test/torture/history"
)

// Sender is one publisher. Run must be running for Send to get anywhere.
type Sender struct {
	// Notes are what an acknowledgement shows of an event; history.Promised unless set before Run.
	Notes []history.Sight

	addr string
	log  *history.Log

	mu       sync.Mutex
	more     sync.Cond
	queue    []*message // [0:sent] are on the wire of this connection, unacknowledged
	sent     int
	conn     net.Conn
	next     uint16
	inFlight int
	closed   bool
}

type message struct {
	ev      history.Event
	topic   string
	payload []byte
	id      uint16
}

// New returns a publisher for the broker at host:port that keeps at most inFlight messages unacknowledged.
func New(addr string, inFlight int, log *history.Log) *Sender {
	s := &Sender{addr: addr, log: log, inFlight: inFlight, Notes: []history.Sight{history.Promised}}
	s.more.L = &s.mu
	return s
}

// Send queues an event. It blocks while too many are queued, and returns an error when ctx or Run has ended.
func (s *Sender) Send(ctx context.Context, ev history.Event, payload []byte) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) >= s.inFlight && !s.closed && ctx.Err() == nil {
		s.more.Wait()
	}
	if s.closed || ctx.Err() != nil {
		return errors.Join(errors.New("not sent"), ctx.Err())
	}
	s.queue = append(s.queue, &message{ev: ev, topic: "in/" + ev.Stream, payload: payload})
	s.log.Note(ev, history.Sent)
	s.more.Broadcast()
	return nil
}

// Unacknowledged returns how many events were sent, or are to be, and not acknowledged.
func (s *Sender) Unacknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// Run connects, again and again, until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = true
		if s.conn != nil {
			_ = s.conn.Close()
		}
		s.more.Broadcast()
	})
	defer stop()
	for ctx.Err() == nil {
		s.connection()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connection is the life of one connection.
func (s *Sender) connection() {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	if err := hello(conn, in); err != nil {
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.conn, s.sent = conn, 0
	s.mu.Unlock()
	var writer sync.WaitGroup
	writer.Go(func() { s.write(conn) })
	for err == nil {
		err = s.acknowledgement(in)
	}
	s.mu.Lock()
	s.conn = nil
	s.more.Broadcast()
	s.mu.Unlock()
	_ = conn.Close()
	writer.Wait()
}

func hello(conn net.Conn, in *bufio.Reader) error {
	c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	c.ProtocolName, c.ProtocolVersion, c.CleanSession = "MQTT", 4, true
	c.ClientIdentifier = fmt.Sprintf("sender-%d", time.Now().UnixNano())
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if err := c.Write(conn); err != nil {
		return err
	}
	answer, err := packets.ReadPacket(in)
	if err != nil {
		return err
	}
	if ack, ok := answer.(*packets.ConnackPacket); !ok || ack.ReturnCode != 0 {
		return fmt.Errorf("refused: %v", answer)
	}
	return conn.SetDeadline(time.Time{})
}

// write sends what is queued until the connection ends.
func (s *Sender) write(conn net.Conn) {
	for {
		s.mu.Lock()
		for s.conn == conn && s.sent == len(s.queue) {
			s.more.Wait()
		}
		if s.conn != conn {
			s.mu.Unlock()
			return
		}
		m := s.queue[s.sent]
		s.sent++
		if s.next++; s.next == 0 {
			s.next = 1
		}
		m.id = s.next
		s.mu.Unlock()
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.Qos, p.TopicName, p.Payload, p.MessageID = 1, m.topic, m.payload, m.id
		if err := p.Write(conn); err != nil {
			_ = conn.Close() // the reader sees it
			return
		}
	}
}

// acknowledgement takes one PUBACK: mosquitto sends them in the order of the messages, other orders are allowed.
func (s *Sender) acknowledgement(in *bufio.Reader) error {
	p, err := packets.ReadPacket(in)
	if err != nil {
		return err
	}
	ack, ok := p.(*packets.PubackPacket)
	if !ok {
		return fmt.Errorf("%T instead of a PUBACK", p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.queue[:s.sent] {
		if m.id == ack.MessageID {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			s.sent--
			for _, sight := range s.Notes {
				s.log.Note(m.ev, sight)
			}
			s.more.Broadcast()
			return nil
		}
	}
	return fmt.Errorf("PUBACK of %d, which is not underway", ack.MessageID)
}

// Payload is what the event of a stream says: who it is, and its transfer.
func Payload(key string, seq uint32) []byte {
	t := history.TransferOf(key, seq)
	b := fmt.Appendf(nil, `{"id":"%s-%d","k":%s,"s":%d,"f":%d,"t":%d,"a":%d}`, key, seq, key, seq, t.From, t.To, t.Amount)
	if got, ok := faultlink.Seq(b); !ok || got != seq {
		panic("a payload without its number")
	}
	return b
}
