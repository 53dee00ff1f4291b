package mqtt

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/event"
	"mayfly/function"
	"mayfly/internal/crashpoint"
	"mayfly/triggers"
)

// arrival turns the messages of one connection into events and hands them to the sink. It is the link's receiver: publish
// runs on the goroutine that reads the connection, one message at a time.
type arrival struct {
	session  *Session
	accept   func(*event.Event, triggers.Receipt) error // Run's sink
	link     *link
	window   *window
	epoch    uint64
	fence    uint64
	prefix   string // of the ids of this connection's events
	minted   uint64
	known    map[string]uint32        // filters subscribed before, how often; of Run's goroutine
	ours     bool                     // this connection has subscribed; of Run's goroutine
	welcome  atomic.Pointer[[]string] // filters whose retained messages are handed on
	draining atomic.Bool              // nothing is handed on any more
	handing  sync.Mutex               // held while a QoS 1 message is handed on
}

// publish implements receiver.
func (a *arrival) publish(p inbound) error {
	s := a.session
	s.count.received.Add(1)
	if p.dup {
		s.count.redelivered.Add(1)
	}
	switch {
	case a.draining.Load():
		if p.qos == 0 {
			s.shed("stopping", p.topic)
		}
		return nil // at QoS 1: not acknowledged, so the broker keeps it
	case p.tooLarge > 0:
		s.shed("too-large", p.topic)
		return a.dismiss(p)
	case p.retain && !a.welcomes(p.topic):
		s.count.retained.Add(1)
		return a.dismiss(p)
	case p.qos == 0:
		return a.acceptVolatile(p)
	}
	if err := a.waitForRoom(); err != nil {
		return err
	}
	a.handing.Lock()
	defer a.handing.Unlock()
	if a.draining.Load() {
		return nil
	}
	d := &delivery{size: int64(len(p.payload) + len(p.topic))}
	a.fill(&d.event, p)
	a.window.add(d)
	if s.adopt(d) {
		return nil // the sink has it already
	}
	crashpoint.Here(crashpoint.Received)
	if err := a.accept(&d.event, d); err != nil {
		s.count.refused.Add(1) // the sink settles what it refuses
	}
	return nil
}

// drain ends the handing on: when it returns, no message is on its way to the sink.
func (a *arrival) drain() {
	a.draining.Store(true)
	a.handing.Lock()
	defer a.handing.Unlock()
}

func (a *arrival) puback(uint16) error  { return errProtocol } // nothing is ever published here
func (a *arrival) flushed(uint64)       {}
func (a *arrival) pong(answered uint64) { a.window.proven(answered) }

// dismiss acknowledges a message that is not handed on, in its turn.
func (a *arrival) dismiss(p inbound) error {
	if p.qos == 0 {
		return nil
	}
	d := &delivery{}
	d.event.Delivery.PacketID = p.id
	a.window.add(d)
	a.window.settle(d, settled, nil)
	return nil
}

// acceptVolatile hands on a QoS 0 message, or sheds it: nobody can be asked to keep it.
func (a *arrival) acceptVolatile(p inbound) error {
	s := a.session
	if a.window.over(s.config.MaxEvents, s.config.MaxBytes) {
		s.shed("memory", p.topic)
		return nil
	}
	ev := new(event.Event)
	a.fill(ev, p)
	if err := a.accept(ev, nil); err != nil {
		s.shed(function.KindOf(err), p.topic)
	}
	return nil
}

func (a *arrival) fill(ev *event.Event, p inbound) {
	a.minted++
	ev.ID = a.prefix + strconv.FormatUint(a.minted, 36)
	ev.Source = p.source
	ev.Type = event.TypeMQTT
	ev.Time = time.Now()
	ev.Subject = p.topic
	ev.Broker = a.session.broker.Name
	ev.Topic = p.topic
	ev.QoS = p.qos
	ev.Retained = p.retain
	ev.Dup = p.dup
	ev.Data = p.payload
	ev.Delivery.Fence = a.fence
	if p.qos > 0 {
		ev.Delivery = event.Delivery{Session: a.session.id, Epoch: a.epoch, Fence: a.fence, PacketID: p.id}
	}
}

// waitForRoom holds back the connection's reading while too much is unsettled. It gives up before the keep-alive would:
// then the connection ends, the broker keeps the messages and sends them again later.
func (a *arrival) waitForRoom() error {
	c := &a.session.config
	if !a.window.over(c.MaxEvents, c.MaxBytes) {
		return nil
	}
	patience := time.NewTimer(min(c.HoldOff, a.session.broker.PingTimeout/2))
	defer patience.Stop()
	for a.window.over(c.MaxEvents, c.MaxBytes) {
		select {
		case <-a.window.room:
		case <-a.link.ended:
			return a.link.why()
		case <-patience.C:
			return errOverloaded
		}
	}
	return nil
}
