package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// awaitNodes waits until every live node has f and returns " on N of N nodes", or nothing where the node is alone. Without a timeout it
// does not wait.
func (a *app) awaitNodes(ctx context.Context, f admin.Function, timeout time.Duration) (string, error) {
	if timeout == 0 {
		return "", nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last admin.Rollout
	for {
		r, err := a.client.Rollout(ctx, f.Name)
		switch kind := function.KindOf(err); {
		case err == nil && r.Live <= 1, kind == admin.KindUnsupported, kind == admin.KindAlone:
			return "", nil
		case err == nil && r.Has >= r.Live:
			return fmt.Sprintf(" on %d of %s", r.Has, plural(int64(r.Live), "node")), nil
		case err == nil:
			last = r
		case ctx.Err() == nil:
			return "", err
		}
		a.progress("%s: on %d of %s", f.Name, last.Has, plural(int64(last.Live), "node"))
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errTimeout) {
				return "", ctx.Err()
			}
			return "", &function.Error{
				Op: "deploy", Subject: f.Name, Class: function.ClassRetry, Kind: kindTimeout,
				Err:  fmt.Errorf("it is deployed, but after %v %d of %s have it: %s", timeout, last.Has, plural(int64(last.Live), "live node"), missing(last)),
				Hint: "the others get it when they can; see: mayfly nodes ls",
			}
		case <-tick.C:
		}
	}
}

// missing names the nodes that do not have it, and why.
func missing(r admin.Rollout) string {
	var words []string
	for _, n := range r.Nodes {
		if !n.Has {
			words = append(words, n.Name+" ("+orElse(n.Reason, "not yet")+")")
		}
	}
	return "not " + strings.Join(words, ", ")
}
