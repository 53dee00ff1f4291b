package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Kinds of errors that this package gives or tells apart.
const (
	KindFenced      = "fenced"        // the caller's epoch is not the latest: it does not own the trigger any more (409)
	KindDraining    = "draining"      // the node is stopping (503)
	KindNotDeployed = "other-version" // the node has another version of the function, or none (412)
	KindUnreachable = "unreachable"   // nothing was sent
	KindLostReply   = "lost-reply"    // it was sent, and what became of it is not known
	KindDenied      = "denied"        // the node did not let us in
	KindProtocol    = "protocol"      // the node does not speak as expected: another release, or broken
	KindState       = "state"         // calls that read state run where the state is
)

// maxHop is how often a call may travel [N5].
const maxHop = 1

// ExecRequest is a call of one function for one event, as it travels to the node that is to run it. The function itself does not
// travel: both nodes know it by name, version and module, or the call is refused.
type ExecRequest struct {
	Event    event.Event
	Function string
	Version  uint64 // function.Function.Version
	Module   function.Digest
	Trigger  string
	Captures []event.Attr // of an HTTP route
	Attempt  int
	Deadline time.Time // by the clock of the node that holds this value; what travels is the time left
	Epoch    uint64
	Hop      int // how often it has travelled; 1 when it arrives
	DryRun   bool
}

// requestOf is the request that asks for c elsewhere.
func requestOf(c *function.Call) *ExecRequest {
	f := c.Function
	return &ExecRequest{
		Event: *c.Event, Function: f.Name(), Version: f.Version, Module: f.Module, Trigger: c.Trigger, Captures: c.Captures,
		Attempt: max(c.Attempt, 1), Deadline: c.Deadline, Epoch: c.Epoch, Hop: 1, DryRun: c.DryRun,
	}
}

// Call returns the call that r asks for, to be run on node, which knows the function as f; nil f is a function it does not know.
// A function other than the one the caller means is an error of ClassNotHere. State, Secrets and HTTP are left to the caller:
// they are this node's.
func (r *ExecRequest) Call(f *function.Function, node string) (*function.Call, error) {
	switch {
	case f == nil:
		return nil, r.notHere("the function is not deployed here")
	case f.Module != r.Module || f.Version != r.Version:
		return nil, r.notHere(fmt.Sprintf("the version here is %d (module %s), the call is for %d (module %s)",
			f.Version, f.Module.Short(), r.Version, r.Module.Short()))
	}
	c := &function.Call{
		Function: f, Event: &r.Event, Trigger: r.Trigger, Captures: r.Captures, Attempt: r.Attempt, Deadline: r.Deadline,
		Node: node, Epoch: r.Epoch, DryRun: r.DryRun,
	}
	if i, ok := triggerIndex(r.Trigger, "mqtt"); ok && i < len(f.Manifest.MQTT) {
		if p := f.Manifest.MQTT[i].Topic; p.Match(r.Event.Topic) {
			c.Pattern = p
		}
	}
	return c, nil
}

func (r *ExecRequest) notHere(why string) error {
	return &function.Error{
		Op: "exec", Subject: r.Function, Class: function.ClassNotHere, Kind: KindNotDeployed, Err: errors.New(why),
		Hint: "it passes when the catalogs of both nodes agree; if it does not, compare mayfly fn show on both",
	}
}

// triggerIndex reads "mqtt[0]".
func triggerIndex(trigger, kind string) (int, bool) {
	s, ok := strings.CutPrefix(trigger, kind+"[")
	s, end := strings.CutSuffix(s, "]")
	i, err := strconv.Atoi(s)
	return i, ok && end && err == nil && i >= 0
}

const (
	execVersion = 1
	leftAt      = 1 // the time left is at this offset, in 8 bytes, so that a second try can say how much is left then
	maxLeft     = time.Hour
)

// encode appends r to b. The time left is as of now.
func (r *ExecRequest) encode(b []byte, now time.Time) []byte {
	e := encoder{append(b, execVersion)}
	e.b = binary.BigEndian.AppendUint64(e.b, 0)
	setLeft(e.b[len(b):], r.Deadline.Sub(now))
	e.text(r.Function)
	e.uint(r.Version)
	e.b = append(e.b, r.Module[:]...)
	e.text(r.Trigger)
	e.uint(uint64(r.Attempt))
	e.uint(r.Epoch)
	e.uint(uint64(r.Hop))
	e.bool(r.DryRun)
	e.attrs(r.Captures)
	encodeEvent(&e, &r.Event)
	return e.b
}

// setLeft writes the time left into an encoded request.
func setLeft(b []byte, left time.Duration) {
	binary.BigEndian.PutUint64(b[leftAt:], uint64(max(0, left)))
}

func encodeEvent(e *encoder, ev *event.Event) {
	for _, s := range []string{ev.ID, ev.Source, ev.Type, ev.Subject, ev.ContentType, ev.DataSchema, ev.Broker, ev.Topic, ev.TraceParent} {
		e.text(s)
	}
	e.time(ev.Time)
	e.byte(ev.QoS)
	e.bool(ev.Retained)
	e.bool(ev.Dup)
	e.text(ev.Delivery.Session)
	e.uint(ev.Delivery.Epoch)
	e.uint(uint64(ev.Delivery.PacketID))
	e.attrs(ev.User)
	e.attrs(ev.Captures)
	e.bytes(ev.Data)
}

// decodeExec reads what encode wrote. The event's data is a part of b.
func decodeExec(b []byte, now time.Time) (*ExecRequest, error) {
	if len(b) < leftAt+8 || b[0] != execVersion {
		return nil, fmt.Errorf("%w: not a request of version %d", errWire, execVersion)
	}
	left := binary.BigEndian.Uint64(b[leftAt:])
	d := decoder{b: b[leftAt+8:]}
	r := &ExecRequest{Function: d.text(), Version: d.uint()}
	if len(d.b) < len(r.Module) {
		d.fail("digest")
	}
	d.b = d.b[copy(r.Module[:], d.b):]
	r.Trigger = d.text()
	r.Attempt = d.small()
	r.Epoch = d.uint()
	r.Hop = d.small()
	r.DryRun = d.bool()
	r.Captures = d.attrs()
	decodeEvent(&d, &r.Event)
	if left > uint64(maxLeft) {
		d.fail("deadline")
	}
	r.Deadline = now.Add(time.Duration(left))
	return r, d.end()
}

// small reads a number that fits an int everywhere.
func (d *decoder) small() int {
	v := d.uint()
	if v > 1<<30 {
		d.fail("small number")
		return 0
	}
	return int(v)
}

func decodeEvent(d *decoder, ev *event.Event) {
	for _, s := range []*string{&ev.ID, &ev.Source, &ev.Type, &ev.Subject, &ev.ContentType, &ev.DataSchema, &ev.Broker, &ev.Topic, &ev.TraceParent} {
		*s = d.text()
	}
	ev.Time = d.time()
	ev.QoS = d.byte()
	ev.Retained = d.bool()
	ev.Dup = d.bool()
	ev.Delivery.Session = d.text()
	ev.Delivery.Epoch = d.uint()
	id := d.uint()
	if id > 65535 || ev.QoS > 1 {
		d.fail("delivery")
	}
	ev.Delivery.PacketID = uint16(id)
	ev.User = d.attrs()
	ev.Captures = d.attrs()
	ev.Data = d.bytes()
}
