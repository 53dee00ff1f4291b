package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// What a stream costs beside the delay of its link.
const (
	// retransmit is what a lost segment costs: Linux goes down to 200 ms once it knows the round trip.
	retransmit = 200 * time.Millisecond
	// laneMax is how many bytes may be on their way, as in the buffers of two kernels; who writes more waits.
	laneMax = 1 << 20
	// laneDead is how long a link may be down until whoever writes to it is told.
	laneDead = time.Minute
)

// lane is one direction of a stream. What is written is on its way: who writes does not wait for the link, only for room.
type lane struct {
	net      *Net
	from, to netip.Addr

	mu      sync.Mutex
	moved   sync.Cond // anything below changed
	flying  []segment // in the order they arrive
	held    []segment // written while the link was down
	since   time.Time // when the first of them was
	arrived []byte
	size    int // bytes in all of these
	ended   bool
	closed  bool  // there is nobody any more who reads
	fault   error // why nothing more gets through
	reads   limit
	writes  limit
}

// segment is what one Write sent; without bytes it is the end.
type segment struct {
	b  []byte
	at time.Time
}

func newLane(n *Net, from, to netip.Addr) *lane {
	l := &lane{net: n, from: from, to: to}
	l.moved.L = &l.mu
	return l
}

// limit is a deadline that wakes who waits.
type limit struct {
	at    time.Time
	timer *time.Timer
}

func (l *limit) over() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

// set changes a deadline of the lane.
func (l *lane) set(d *limit, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if wait := time.Until(at); !at.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, l.wake)
	}
	l.moved.Broadcast()
}

func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved.Broadcast()
}

// write puts a copy of b on its way.
func (l *lane) write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.size >= laneMax && l.fault == nil && !l.writes.over() {
		l.moved.Wait()
	}
	switch {
	case l.fault != nil:
		return 0, l.fault
	case l.writes.over():
		return 0, os.ErrDeadlineExceeded
	}
	if len(b) == 0 {
		return 0, nil
	}
	l.size += len(b)
	l.send(segment{b: append([]byte(nil), b...)})
	return len(b), nil
}

// finish says that nothing more will be written, and makes later writes fail.
func (l *lane) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == nil {
		l.fault = net.ErrClosed
		l.send(segment{})
	}
	l.moved.Broadcast()
}

// send puts a segment on its way, or holds it until the link is up. The lock is held.
func (l *lane) send(s segment) {
	if len(l.held) > 0 {
		l.held = append(l.held, s)
		return
	}
	link, lost, delay := l.net.draw(l.from, l.to)
	if link.Down || link.Loss >= 1 {
		l.held, l.since = []segment{s}, time.Now()
		time.AfterFunc(retransmit, l.again)
		return
	}
	for lost {
		delay += retransmit
		_, lost, _ = l.net.draw(l.from, l.to)
	}
	s.at = time.Now().Add(delay)
	if n := len(l.flying); n > 0 && s.at.Before(l.flying[n-1].at) {
		s.at = l.flying[n-1].at // it waits for what was sent before it
	}
	l.flying = append(l.flying, s)
	if delay <= 0 && len(l.flying) == 1 {
		l.land()
		return
	}
	time.AfterFunc(time.Until(s.at), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.land()
	})
}

// again sends what was held, once the link is up.
func (l *lane) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if link, _, _ := l.net.draw(l.from, l.to); link.Down || link.Loss >= 1 {
		if time.Since(l.since) < laneDead {
			time.AfterFunc(retransmit, l.again)
			return
		}
		l.fault = &net.OpError{Op: "write", Net: "sim", Err: syscall.ETIMEDOUT}
		l.held = nil
		l.moved.Broadcast()
		return
	}
	held := l.held
	l.held = nil
	for _, s := range held {
		l.send(s)
	}
}

// land lets arrive what has had the time. The lock is held.
func (l *lane) land() {
	now := time.Now()
	for len(l.flying) > 0 && !l.flying[0].at.After(now) {
		s := l.flying[0]
		l.flying = l.flying[1:]
		switch {
		case len(s.b) == 0:
			l.ended = true
		case l.closed:
			l.size -= len(s.b)
			if l.fault == nil {
				l.fault = &net.OpError{Op: "write", Net: "sim", Err: syscall.EPIPE}
			}
		default:
			l.arrived = append(l.arrived, s.b...)
		}
	}
	l.moved.Broadcast()
}

// read takes what has arrived, and waits for it.
func (l *lane) read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return 0, net.ErrClosed
		case l.reads.over():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(l.arrived) > 0:
			n := copy(b, l.arrived)
			l.arrived = l.arrived[n:]
			l.size -= n
			l.moved.Broadcast()
			return n, nil
		case l.ended:
			return 0, io.EOF
		}
		l.moved.Wait()
	}
}

// abandon makes reads fail, now and later.
func (l *lane) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.size -= len(l.arrived)
	l.arrived = nil
	l.moved.Broadcast()
}
