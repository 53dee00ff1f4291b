package cluster

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network carries packets and streams between members. An implementation is open when it is handed over and is used until it is
// closed, from many goroutines.
type Network interface {
	// Start names who receives. packet owns the bytes it gets; neither function blocks. Called once, before anything else.
	Start(packet func(b []byte, from net.Addr, at time.Time), stream func(net.Conn))
	// Addr is where others reach this node now; invalid when there is no such address. It may change.
	Addr() netip.AddrPort
	// Send sends one packet to "ip:port", which may be lost. It does not keep b.
	Send(b []byte, to string) error
	// Dial opens a stream to "ip:port". It fails at once when the network is closed meanwhile.
	Dial(to string, timeout time.Duration) (net.Conn, error)
	// Close ends everything: what is received after it is dropped, streams break.
	Close() error
}

// Bounds on what comes from outside and what may leave.
const (
	packetTarget = 1400    // what memberlist fills packets to: an Ethernet frame less tunnels
	packetMax    = 1472    // an Ethernet frame less IPv4 and UDP headers: nothing larger leaves, or is looked at
	packetQueue  = 256     // packets received and not looked at yet
	streamMax    = 2 << 20 // bytes from one stream: the state of 1,000 members is 0.2 MB
	streamsMax   = 64      // streams accepted at once
	dialMax      = 10 * time.Second
)

// Traffic counts payload bytes of gossip, by class, and what was refused.
type Traffic struct {
	PacketsOut, PacketBytesOut, PacketsIn, PacketBytesIn int64
	StreamsOut, StreamBytesOut, StreamsIn, StreamBytesIn int64

	PacketsOversize int64 // in either direction
	PacketsDropped  int64 // received faster than they were looked at
	StreamsRefused  int64 // too many at once
	MessagesDropped int64 // user messages that found the queue full
	MessagesInvalid int64 // user messages nobody could read
	AnnouncesLate   int64 // announcements too large for packets that found their queue full
	StatesOversize  int64 // digests too large to be exchanged
}

type traffic struct {
	packetsOut, packetBytesOut, packetsIn, packetBytesIn atomic.Int64
	streamsOut, streamBytesOut, streamsIn, streamBytesIn atomic.Int64

	packetsOversize, packetsDropped, streamsRefused                 atomic.Int64
	messagesDropped, messagesInvalid, announcesLate, statesOversize atomic.Int64
}

func (t *traffic) read() Traffic {
	return Traffic{
		PacketsOut: t.packetsOut.Load(), PacketBytesOut: t.packetBytesOut.Load(),
		PacketsIn: t.packetsIn.Load(), PacketBytesIn: t.packetBytesIn.Load(),
		StreamsOut: t.streamsOut.Load(), StreamBytesOut: t.streamBytesOut.Load(),
		StreamsIn: t.streamsIn.Load(), StreamBytesIn: t.streamBytesIn.Load(),
		PacketsOversize: t.packetsOversize.Load(), PacketsDropped: t.packetsDropped.Load(),
		StreamsRefused: t.streamsRefused.Load(), MessagesDropped: t.messagesDropped.Load(),
		MessagesInvalid: t.messagesInvalid.Load(), AnnouncesLate: t.announcesLate.Load(),
		StatesOversize: t.statesOversize.Load(),
	}
}

// wire makes a Network what memberlist wants, counts, and checks sizes.
type wire struct {
	network Network
	addr    netip.AddrPort // where this instance says it is: memberlist cannot change its mind
	traffic *traffic
	packets chan *memberlist.Packet
	streams chan net.Conn
	inbound atomic.Int64 // streams accepted and still open
}

func newWire(n Network, addr netip.AddrPort, t *traffic) *wire {
	w := &wire{
		network: n, addr: addr, traffic: t,
		packets: make(chan *memberlist.Packet, packetQueue),
		streams: make(chan net.Conn, streamsMax),
	}
	n.Start(w.packet, w.stream)
	return w
}

func (w *wire) packet(b []byte, from net.Addr, at time.Time) {
	if len(b) == 0 || len(b) > packetMax {
		w.traffic.packetsOversize.Add(1)
		return
	}
	select {
	case w.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: at}:
		w.traffic.packetsIn.Add(1)
		w.traffic.packetBytesIn.Add(int64(len(b)))
	default:
		w.traffic.packetsDropped.Add(1)
	}
}

func (w *wire) stream(c net.Conn) {
	if w.inbound.Add(1) > streamsMax {
		w.inbound.Add(-1)
		w.traffic.streamsRefused.Add(1)
		_ = c.Close() // nothing was said on it
		return
	}
	w.traffic.streamsIn.Add(1)
	// The channel has room for as many as are let in.
	w.streams <- &boundedConn{Conn: c, traffic: w.traffic, closed: func() { w.inbound.Add(-1) }}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (w *wire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return w.addr.Addr().AsSlice(), int(w.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (w *wire) WriteTo(b []byte, to string) (time.Time, error) {
	if len(b) > packetMax {
		w.traffic.packetsOversize.Add(1)
		return time.Time{}, errOversize
	}
	now := time.Now()
	if err := w.network.Send(b, to); err != nil {
		return time.Time{}, err
	}
	w.traffic.packetsOut.Add(1)
	w.traffic.packetBytesOut.Add(int64(len(b)))
	return now, nil
}

// PacketCh implements memberlist.Transport.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

// StreamCh implements memberlist.Transport.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// DialTimeout implements memberlist.Transport.
func (w *wire) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	c, err := w.network.Dial(to, min(timeout, dialMax))
	if err != nil {
		return nil, err
	}
	w.traffic.streamsOut.Add(1)
	return &boundedConn{Conn: c, traffic: w.traffic, closed: func() {}}, nil
}

// Shutdown implements memberlist.Transport.
func (w *wire) Shutdown() error { return w.network.Close() }

// drain closes the streams nobody took, after Shutdown.
func (w *wire) drain() {
	for {
		select {
		case c := <-w.streams:
			_ = c.Close() // the network is closed
		default:
			return
		}
	}
}

// boundedConn is a stream that counts, and from which no more than streamMax bytes come.
type boundedConn struct {
	net.Conn
	traffic *traffic
	read    int64
	done    atomic.Bool
	closed  func()
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if c.read >= streamMax {
		return 0, errOversize
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), streamMax-c.read)])
	c.read += int64(n)
	c.traffic.streamBytesIn.Add(int64(n))
	return n, err
}

func (c *boundedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.streamBytesOut.Add(int64(n))
	return n, err
}

func (c *boundedConn) Close() error {
	if c.done.CompareAndSwap(false, true) {
		c.closed()
	}
	return c.Conn.Close()
}
