package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// acks are the acknowledgements one client waits for. They leave in the order its publishes came in ([MQTT-4.6.0-2]),
// each when everything up to it is safe; meanwhile the client's further publishes are read, up to the window.
type acks struct {
	window chan struct{} // one element for each publish that waits
	closed chan struct{} // the connection ended: nothing is acknowledged any more
	once   sync.Once

	mu    sync.Mutex
	queue []*ack // oldest first
}

type ack struct {
	packetID uint16
	kind     byte // packets.Puback for QoS 1, packets.Pubrec for QoS 2
	safe     bool
}

func (a *acks) init(window int) {
	a.window = make(chan struct{}, window)
	a.closed = make(chan struct{})
}

func (a *acks) close() { a.once.Do(func() { close(a.closed) }) }

// reserve queues the acknowledgement of a publish. It waits for a place in the window, at most for patience.
func (a *acks) reserve(pk *packets.Packet, patience time.Duration) (*ack, bool) {
	select {
	case a.window <- struct{}{}:
	default:
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case a.window <- struct{}{}:
		case <-timer.C:
			return nil, false
		case <-a.closed:
			return nil, false
		}
	}
	one := &ack{packetID: pk.PacketID, kind: packets.Puback}
	if pk.FixedHeader.Qos == 2 {
		one.kind = packets.Pubrec
	}
	a.mu.Lock()
	a.queue = append(a.queue, one)
	a.mu.Unlock()
	return one, true
}

// settled marks one as safe and sends what can be sent now. send must not wait.
func (a *acks) settled(one *ack, send func(*ack)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one.safe = true
	for len(a.queue) > 0 && a.queue[0].safe {
		select {
		case <-a.closed:
		default:
			send(a.queue[0])
		}
		a.queue[0] = nil
		a.queue = a.queue[1:]
		<-a.window
	}
}

// delivery is one message on its way to the triggers that want it. end is called once: with nil when all of them have
// settled, with an error as soon as one of them fails, but not before all of them were told: a sink may settle while it
// holds its own lock, and end may lead to the same sink again.
type delivery struct {
	left  atomic.Int32
	told  atomic.Bool
	fault atomic.Pointer[error] // the first
	ended atomic.Bool
	end   func(error)
}

func newDelivery(end func(error)) *delivery {
	d := &delivery{end: end}
	d.left.Store(1) // the maker's own
	return d
}

// settle takes one trigger's word.
func (d *delivery) settle(err error) {
	if err != nil {
		d.fault.CompareAndSwap(nil, &err)
	}
	if last := d.left.Add(-1) == 0; last || d.told.Load() && d.fault.Load() != nil {
		d.finish()
	}
}

// close is the maker's word that every trigger was told.
func (d *delivery) close(err error) {
	d.told.Store(true)
	d.settle(err)
}

func (d *delivery) finish() {
	if !d.ended.CompareAndSwap(false, true) {
		return
	}
	if fault := d.fault.Load(); fault != nil {
		d.end(*fault)
		return
	}
	d.end(nil)
}
