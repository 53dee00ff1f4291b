package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/internal/crashpoint"
)

const (
	readBuffer = 16 << 10
	// closeFlush bounds how long Close waits for what was written before it (a DISCONNECT, the last acknowledgements).
	closeFlush = time.Second
	// idleBuffer is the capacity above which an empty write buffer is given back.
	idleBuffer = 256 << 10
)

// receiver takes what a link reads itself. Its methods are called one at a time.
type receiver interface {
	// publish takes one message. It blocks the link's reading while it runs; an error ends the connection.
	publish(inbound) error
	// puback takes one acknowledgement of a message we sent.
	puback(id uint16) error
	// flushed says how many bytes have been written in all; called after every write.
	flushed(total uint64)
	// pong says how many of the PINGREQs ever sent have been answered.
	pong(answered uint64)
}

// link is the connection put under a paho client. The client does the handshake, subscriptions, keep-alive and DISCONNECT
// through it; PUBLISH and PUBACK, the packets that come by the thousand, are read and written here and never reach
// the client, so a message costs neither a system call nor a channel hop of its own, and a packet is never given more
// memory than MaxPayload allows (the client itself allocates whatever a header claims).
//
// Writes are gathered: Write appends and returns, one goroutine writes what has come together. What was gathered and not
// written when the link ends is not delivered; nobody may count on a packet before its acknowledgement, or on flushed.
type link struct {
	conn    net.Conn
	in      *bufio.Reader
	read    publishReader
	to      receiver
	stall   time.Duration // how long a write may stall
	pass    int           // bytes of the current packet that still go to the client
	pongs   uint64        // PINGRESPs that have come
	filters atomic.Int32  // topic filters in the client's SUBSCRIBE, what a SUBACK must answer
	leaving atomic.Bool   // the client waits for an UNSUBACK

	mu     sync.Mutex
	out    []byte
	queued uint64 // bytes ever appended to out
	pings  uint64 // PINGREQs ever appended to out, the client's and ours
	cause  error  // why it ended

	wake  chan struct{} // something is in out, or the link ended
	ended chan struct{} // closed when cause is set
	gone  chan struct{} // closed when the flusher has ended and conn is closed
}

func newLink(conn net.Conn, b *Broker) *link {
	return &link{
		conn:  conn,
		in:    bufio.NewReaderSize(conn, readBuffer),
		read:  publishReader{prefix: "mqtt://" + b.Name + "/", maxPayload: int(b.MaxPayload), names: map[string]string{}},
		stall: b.WriteTimeout,
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		gone:  make(chan struct{}),
	}
}

// start begins to flush. The link must be ended by Close or end afterwards.
func (l *link) start(to receiver) {
	l.to = to
	go l.flush()
}

// Read hands the client its own packets and keeps the others.
func (l *link) Read(p []byte) (int, error) {
	for l.pass == 0 {
		if err := l.next(); err != nil {
			return 0, l.end(err)
		}
	}
	n, err := l.in.Read(p[:min(len(p), l.pass)])
	l.pass -= n
	if err != nil {
		err = l.end(err)
	}
	return n, err
}

// next consumes one packet that is ours, or opens the way for one that is the client's.
func (l *link) next() error {
	h, err := readHeader(l.in)
	if err != nil {
		return err
	}
	switch h.kind {
	case packets.Publish:
		if _, err := l.in.Discard(h.size); err != nil {
			return err
		}
		p, err := l.read.read(l.in, h)
		if err != nil {
			return err
		}
		return l.to.publish(p)
	case packets.Puback:
		b, err := l.in.Peek(h.size + 2)
		if err != nil {
			return err
		}
		id := binary.BigEndian.Uint16(b[h.size:])
		if h.body != 2 || id == 0 {
			return fmt.Errorf("%w: PUBACK of %d bytes for packet id %d", errProtocol, h.body, id)
		}
		if _, err := l.in.Discard(h.size + 2); err != nil {
			return err
		}
		return l.to.puback(id)
	}
	if err := l.admit(h); err != nil {
		return err
	}
	if h.kind == packets.Pingresp { // also one of ours is the client's: it only notes that the broker is there
		l.pongs++
		l.to.pong(l.pongs)
	}
	l.pass = h.size + h.body
	return nil
}

// admit lets through only well-formed packets that the client expects: it trusts lengths and return codes (a SUBACK with more
// codes than filters is a panic there, an unknown CONNACK code a connection that looks accepted).
func (l *link) admit(h header) error {
	switch {
	case h.kind == packets.Pingresp && h.body == 0, h.kind == packets.Suback && h.body == 2+int(l.filters.Load()):
		return nil
	case h.kind == packets.Unsuback && h.body == 2 && l.leaving.Load():
		return nil
	case h.kind == packets.Connack && h.body == 2:
		b, err := l.in.Peek(h.size + 2)
		if err != nil {
			return err
		}
		if b[h.size+1] > packets.ErrRefusedNotAuthorised {
			return fmt.Errorf("%w: CONNACK with return code %d", errProtocol, b[h.size+1])
		}
		return nil
	}
	return fmt.Errorf("%w: packet of type %d with %d bytes", errProtocol, h.kind, h.body)
}

// Write gathers p. It does not block and keeps no reference to p.
func (l *link) Write(p []byte) (int, error) {
	_, err := l.gather(func(b []byte) []byte {
		if len(p) == len(pingreq) && p[0] == pingreq[0] {
			l.pings++
		}
		return append(b, p...)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// pingreq is the packet (MQTT 3.1.1 section 3.12).
var pingreq = [2]byte{packets.Pingreq << 4, 0}

// ping asks the broker for a sign of life and returns how many answers, as told to pong, include this one: by then the broker has read
// everything that was written before.
func (l *link) ping() (number uint64, err error) {
	_, err = l.gather(func(b []byte) []byte {
		l.pings++
		number = l.pings
		return append(b, pingreq[:]...)
	})
	return number, err
}

// gather lets add append to what is written next and returns the count of bytes at which that is written, for flushed.
func (l *link) gather(add func([]byte) []byte) (upTo uint64, err error) {
	l.mu.Lock()
	if l.cause != nil {
		l.mu.Unlock()
		return 0, l.cause
	}
	before := len(l.out)
	l.out = add(l.out)
	l.queued += uint64(len(l.out) - before)
	upTo = l.queued
	l.mu.Unlock()
	if before == 0 {
		l.signal()
	}
	return upTo, nil
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// flush writes what was gathered until the link ends, then writes the rest once more and closes the connection.
func (l *link) flush() {
	defer close(l.gone)
	defer l.conn.Close()
	var spare []byte
	var written uint64
	for range l.wake {
		runtime.Gosched() // whoever is about to write as well does so first: half the system calls, measured
		l.mu.Lock()
		batch, cause := l.out, l.cause
		l.out = spare[:0]
		l.mu.Unlock()
		if len(batch) > 0 {
			if batch[0]>>4 == packets.Puback {
				crashpoint.Here(crashpoint.Unflushed)
			}
			if err := l.writeOut(batch); err != nil {
				_ = l.end(err)
				return
			}
			written += uint64(len(batch))
			l.to.flushed(written)
		}
		if cause != nil {
			l.linger(cause)
			return
		}
		if spare = batch; cap(spare) > idleBuffer {
			spare = nil
		}
	}
}

// linger waits, after a goodbye of our own, until the broker has hung up, for closeFlush at most. To close a connection on which
// something unread has come makes the kernel reset it, and the broker then throws away acknowledgements it has not looked at yet.
func (l *link) linger(cause error) {
	half, ok := l.conn.(interface{ CloseWrite() error })
	if !ok || !errors.Is(cause, net.ErrClosed) || half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, l.conn) // until its end, or the deadline that end has set
}

func (l *link) writeOut(batch []byte) error {
	err := l.conn.SetWriteDeadline(time.Now().Add(l.stall))
	if err == nil && l.why() != nil {
		err = l.conn.SetWriteDeadline(time.Now().Add(min(l.stall, closeFlush)))
	}
	if err != nil {
		return err
	}
	_, err = l.conn.Write(batch)
	return err
}

// end ends the link for that reason, unless it has ended already, and returns the reason it ended for. What was gathered
// before is still tried within closeFlush, from the flusher.
func (l *link) end(cause error) error {
	l.mu.Lock()
	first := l.cause == nil
	if first {
		l.cause = cause
		close(l.ended)
	}
	cause = l.cause
	l.mu.Unlock()
	if first {
		now := time.Now()
		_ = l.conn.SetDeadline(now.Add(closeFlush)) // shortens a write that is stalled, wakes a reader at the latest then
		l.signal()
	}
	return cause
}

// why returns why the link ended, nil while it has not.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// Close writes what was gathered, for at most closeFlush, and closes the connection. Closing twice is harmless.
func (l *link) Close() error {
	_ = l.end(net.ErrClosed)
	<-l.gone
	return nil
}

// SetDeadline and SetReadDeadline bound reading; writing has its own bound, since Write does not write.
func (l *link) SetDeadline(t time.Time) error      { return l.conn.SetReadDeadline(t) }
func (l *link) SetReadDeadline(t time.Time) error  { return l.conn.SetReadDeadline(t) }
func (l *link) SetWriteDeadline(_ time.Time) error { return nil }
func (l *link) LocalAddr() net.Addr                { return l.conn.LocalAddr() }
func (l *link) RemoteAddr() net.Addr               { return l.conn.RemoteAddr() }
