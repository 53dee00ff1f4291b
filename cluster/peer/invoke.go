package peer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"mayfly/function"
)

// defaultDeadline is that of a call that has none.
const defaultDeadline = 5 * time.Minute

// grace is how long after a call's deadline its reply is waited for: the node that runs it has the same deadline, and what it says
// of it says more than our own clock.
const grace = 250 * time.Millisecond

// Node invokes functions on one node. Safe for concurrent use.
type Node struct {
	peers *Peers
	id    string
}

// To returns the node of that id, and false when nobody knows where it is.
func (p *Peers) To(node string) (*Node, bool) {
	_, ok := p.cfg.Resolve(node)
	return &Node{p, node}, ok
}

// Invoke runs call on the node and fills in res. A refusal (overload, other version, draining, unreachable) is of ClassOverload or
// ClassNotHere: nothing ran. When the connection breaks, it asks a second time within the deadline; that does not run the call
// again if it ran. If no reply comes at all, the error is of ClassRetry. When ctx ends, the run is given up there too.
func (n *Node) Invoke(ctx context.Context, call *function.Call, res *function.Result) error {
	if call.State != nil {
		return n.problem(call, function.ClassNotHere, KindState, errors.New("a function with state runs where its state is"))
	}
	return n.peers.Exec(ctx, n.id, requestOf(call), res)
}

func (n *Node) problem(call *function.Call, class function.Class, kind string, err error) error {
	return &function.Error{Op: "exec", Subject: call.Function.Name(), Class: class, Kind: kind, Err: err}
}

// Exec runs r on node and fills in res, as Node.Invoke does.
func (p *Peers) Exec(ctx context.Context, node string, r *ExecRequest, res *function.Result) error {
	res.Reset()
	if r.Deadline.IsZero() {
		r.Deadline = time.Now().Add(defaultDeadline)
	}
	late := grace
	if s, ok := p.Load(node); ok {
		late += 2 * s.RTT
	}
	ctx, cancel := context.WithDeadline(ctx, r.Deadline.Add(late))
	defer cancel()
	body := r.encode(make([]byte, 0, 512+len(r.Event.Data)), time.Now())
	err := p.execOnce(ctx, node, r, body, res)
	if function.KindOf(err) != KindLostReply || ctx.Err() != nil {
		return err
	}
	left := time.Until(r.Deadline)
	if left <= 0 {
		return err
	}
	again := append([]byte(nil), body...) // the first try may still be reading it
	setLeft(again, left)
	second := p.execOnce(ctx, node, r, again, res)
	if function.KindOf(second) == KindUnreachable {
		return err // it may have run
	}
	return second
}

// execOnce sends the call and reads what became of it.
func (p *Peers) execOnce(ctx context.Context, node string, r *ExecRequest, body []byte, res *function.Result) error {
	resp, err := p.ask(ctx, node, http.MethodPost, "/v1/exec", body)
	if err != nil {
		return explain(ctx, r, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	reply, err := readAll(resp, Limits{}.WithDefaults().Reply)
	switch {
	case errors.Is(err, errTooLarge):
		return refused("exec", r.Function, function.ClassReject, "output-limit", node+": "+err.Error())
	case err != nil:
		return explain(ctx, r, &function.Error{Op: "ask", Subject: node, Class: function.ClassRetry, Kind: KindLostReply, Err: err})
	case resp.StatusCode != http.StatusOK:
		return faultOf("exec", node, resp.StatusCode, reply)
	}
	failure, err := decodeReply(reply, res)
	switch {
	case err != nil:
		return &function.Error{Op: "exec", Subject: r.Function, Class: function.ClassRetry, Kind: KindProtocol, Err: errors.New(node + ": " + err.Error())}
	case failure != nil:
		return failure
	}
	return nil
}

// explain says whose time ran out, when that is why there is no reply.
func explain(ctx context.Context, r *ExecRequest, err error) error {
	if ctx.Err() == nil || function.KindOf(err) == KindUnreachable {
		return err
	}
	kind := "timeout"
	if errors.Is(ctx.Err(), context.Canceled) {
		kind = "canceled"
	}
	return &function.Error{Op: "exec", Subject: r.Function, Class: function.ClassRetry, Kind: kind, Err: err}
}
