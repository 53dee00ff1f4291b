package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mayfly/function"
)

// beforeUs stands for whoever sent what an earlier process left on the disk, and for the power cut that may have damaged it.
const beforeUs = "an earlier process"

// hunt is the search for one module. It knows who sent which part of it: so when the whole is wrong it can tell who lied, or, when
// several had a hand in it, start again with one at a time.
type hunt struct {
	f       *Fetcher
	d       function.Digest
	authors map[string]bool // of the part on the shelf
	without map[string]bool // nodes that do not have it
	strict  bool            // the whole was wrong once: nobody continues what another began
	asked   int
	last    error
}

// why says why nothing came of it.
func (h *hunt) why() error {
	switch {
	case h.last != nil:
		return fmt.Errorf("none of the nodes asked could send the module; the last said: %w", h.last)
	case h.asked == 0:
		return errNobody
	}
	return errors.New("all nodes that could have it are being avoided after failures")
}

// round asks every node that may be asked once. A non-nil error is one that no other node can help.
func (h *hunt) round(ctx context.Context) (done, progress bool, err error) {
	for _, node := range ranked(h.f.cfg.Nodes(), h.d) {
		if ctx.Err() != nil {
			return false, progress, h.f.fault(h.d, "timeout", ctx.Err())
		}
		h.asked++
		if h.without[node] || !h.f.may(node) {
			continue
		}
		done, useful, err := h.from(ctx, node)
		if done || err != nil {
			return done, progress, err
		}
		progress = progress || useful
	}
	return false, progress, nil
}

// nodeError is a failure of the node that was asked. Any other is one of this node's disk, and no other node can help.
type nodeError struct {
	kind string
	error
}

// from fetches what is missing from one node, and publishes it when nothing is. useful says that there is more of it than before.
func (h *hunt) from(ctx context.Context, node string) (done, useful bool, err error) {
	if h.strict && (len(h.authors) != 1 || !h.authors[node]) {
		clear(h.authors)
		if err := h.f.shelf.Discard(h.d); err != nil {
			return false, false, err
		}
	}
	before := h.f.shelf.Part(h.d)
	err = h.download(ctx, node)
	useful = h.f.shelf.Part(h.d) > before
	if failed, ok := errors.AsType[*nodeError](err); ok && (failed.kind != kindPastEnd || before == 0) {
		h.last = failed
		if h.without[node] = failed.kind == kindAbsent; !h.without[node] { // not having it is no fault
			h.f.shun(node, useful, false)
		}
		return false, useful, nil
	} else if err != nil && !ok {
		return false, useful, err
	}
	// It is complete, or longer than it should be.
	whole := err == nil
	err = h.f.shelf.Publish(h.d, h.f.cfg.Keep)
	if function.KindOf(err) != "digest" {
		if err == nil {
			h.f.trust(node)
		}
		return err == nil, useful, err
	}
	h.judge(node, whole, err)
	return false, false, nil
}

// judge is what to do about bytes that are complete and wrong [N4]. The shelf has forgotten them.
func (h *hunt) judge(node string, whole bool, err error) {
	h.last = fmt.Errorf("%s: %w", node, err)
	alone := whole && len(h.authors) == 1 && h.authors[node]
	clear(h.authors)
	h.strict = true
	if alone {
		h.f.shun(node, false, true)
		h.f.log.Warn("a node sent something else than the module it was asked for; it is avoided for an hour", "node", node, "module", h.d.Short())
		return
	}
	h.f.log.Info("a module that came in parts is not what it should be; fetching it from one node at a time", "module", h.d.Short())
}

// download appends what node sends until the part has the size that node says the whole has. Then it returns nil.
func (h *hunt) download(ctx context.Context, node string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	at := h.f.shelf.Part(h.d)
	watch := time.AfterFunc(h.f.cfg.Stall, func() { cancel(errStalled) })
	defer watch.Stop()
	body, size, err := h.f.source.Blob(ctx, node, h.d, at)
	if err != nil {
		return h.blame(ctx, node, err)
	}
	defer func() { _ = body.Close() }() // only read from
	if size > h.f.cfg.Most {
		return h.blame(ctx, node, fmt.Errorf("it says the module has %d bytes, the most is %d", size, h.f.cfg.Most))
	}
	slow := time.AfterFunc(h.f.cfg.Stall+time.Duration((size-at)/slowest)*time.Second, func() { cancel(errSlow) })
	defer slow.Stop()
	in := &watched{from: io.LimitReader(body, size-at), timer: watch, stall: h.f.cfg.Stall}
	err = h.f.shelf.Extend(h.d, at, in)
	got := h.f.shelf.Part(h.d)
	if got > at {
		h.authors[node] = true
	}
	switch {
	case in.err != nil:
		return h.blame(ctx, node, in.err)
	case err == nil && got != size:
		return h.blame(ctx, node, fmt.Errorf("it sent %d of %d bytes", got-at, size-at))
	}
	return err
}

var (
	errStalled = errors.New("it fell silent")
	errSlow    = errors.New("it is too slow")
)

// blame says which node failed, and that it was our patience that ended, if it was.
func (h *hunt) blame(ctx context.Context, node string, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) || errors.Is(cause, errSlow) {
		err = cause
	}
	return &nodeError{function.KindOf(err), fmt.Errorf("%s: %w", node, err)}
}

// watched puts the timer off with every piece that comes, and remembers what went wrong.
type watched struct {
	from  io.Reader
	timer *time.Timer
	stall time.Duration
	err   error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.from.Read(b)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}
