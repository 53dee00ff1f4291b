package broker

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"mayfly/event"
)

const (
	room   = 64 << 10        // bytes waiting for the network above which no further message is written
	surge  = 1 << 20         // bytes above one packet at which a connection that does not take its acknowledgements is closed
	linger = 1 * time.Second // how long Close tries to deliver what was written before it
)

var errNotReading = errors.New("client does not read what it is sent")

// conn is one client's connection and what we know of the client. Its writes go to memory and one goroutine sends what has
// gathered: the library holds the client's lock while it writes, and every publisher to that client needs the lock, so a
// subscriber that stops reading would otherwise stop its publishers. It also gathers many small packets into one write.
//
// Deadlines set from outside are for reading; each write to the network has its own.
type conn struct {
	net.Conn
	limits *Limits
	users  *Users
	acks   acks
	flow   flow

	client   *mqtt.Client   // set when CONNECT was read, before any other goroutine sees the client
	user     *user          // nil where no credentials are asked for
	version  byte           // MQTT protocol level: 3, 4 or 5
	scanning bool           // holds ledger.scan for reading; of the reading goroutine
	session  event.Delivery // Session and Epoch of its events; zero when the client keeps no session

	offline atomic.Int64 // payload bytes kept for the session since the connection ended

	mu      sync.Mutex
	changed sync.Cond
	buf     []byte
	spare   []byte
	closing bool
}

func newConn(c net.Conn, users *Users, limits *Limits) *conn {
	k := &conn{Conn: c, users: users, limits: limits}
	k.changed.L = &k.mu
	k.acks.init(limits.Unacknowledged)
	k.flow.init()
	return k
}

// Write takes p for sending. It does not wait.
func (c *conn) Write(p []byte) (int, error) {
	if c.version < 5 && len(p) == 2 && p[0] == 0xE0 {
		return len(p), nil // a server has no DISCONNECT to say before MQTT 5; the library says it all the same
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return 0, net.ErrClosed
	}
	if len(c.buf)+len(p) > c.limits.Packet+surge {
		c.closeLocked()
		return 0, errNotReading
	}
	c.buf = append(c.buf, p...)
	c.changed.Broadcast()
	return len(p), nil
}

// waitForRoom waits until little is left to send, or the connection ended.
func (c *conn) waitForRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) > room && !c.closing {
		c.changed.Wait()
	}
}

// send writes what gathers to the network until the connection is closed and everything is sent or given up.
func (c *conn) send() {
	defer c.Conn.Close()
	for {
		c.mu.Lock()
		for len(c.buf) == 0 && !c.closing {
			c.changed.Wait()
		}
		if len(c.buf) == 0 {
			c.mu.Unlock()
			return
		}
		out := c.buf
		c.buf, c.spare = c.spare[:0], nil
		wait := c.limits.Write
		if c.closing {
			wait = linger
		}
		c.Conn.SetWriteDeadline(time.Now().Add(wait)) // under the lock: Close shortens it
		c.changed.Broadcast()
		c.mu.Unlock()

		_, err := c.Conn.Write(out)

		c.mu.Lock()
		if cap(out) <= 2*room {
			c.spare = out
		}
		if err != nil {
			c.buf = nil
			c.closeLocked()
		}
		c.mu.Unlock()
	}
}

// Close ends reading at once; what was written is still sent if the client takes it soon.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
	return nil
}

func (c *conn) closeLocked() {
	if c.closing {
		return
	}
	c.closing = true
	c.acks.close()
	c.flow.close()
	now := time.Now()
	c.Conn.SetReadDeadline(now)
	c.Conn.SetWriteDeadline(now.Add(linger))
	c.changed.Broadcast()
}

// SetDeadline is what the library calls with the keep-alive: it must not cut off a write.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(t)
}

// connOf returns the connection of a client, the last one it had when it is absent; nil for our own publisher.
func connOf(cl *mqtt.Client) *conn {
	c, _ := cl.Net.Conn.(*conn)
	return c
}
