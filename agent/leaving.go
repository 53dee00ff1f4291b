package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
	"mayfly/store"
	"mayfly/wasm/artifact"
)

// leavingKey marks that this node leaves its cluster: the next start forgets it, and goes on with that if it was interrupted.
func leavingKey() []byte { return store.Trigger.Key("", []byte("leaving")) }

// departure is what the mark says.
type departure struct {
	Cluster string `json:"cluster"`
	Signer  bool   `json:"signer,omitempty"` // the authority's key goes aside with everything else of the membership
}

// Leave implements admin.Leaver.
func (a *Agent) Leave(ctx context.Context, r admin.LeaveRequest) (admin.Left, error) {
	a.joining.Lock()
	defer a.joining.Unlock()
	if a.pool == nil {
		return admin.Left{}, admin.Alone("leave")
	}
	name := a.member.Cluster()
	if err := a.mayLeave(r); err != nil {
		return admin.Left{}, &function.Error{Op: "leave", Subject: name, Class: function.ClassReject, Kind: admin.KindConflict, Err: err, Hint: hintOf(err)}
	}
	out := admin.Left{Cluster: name, Others: len(a.pool.others()), Restarts: true}
	heard, err := a.farewell(ctx)
	if err != nil {
		return admin.Left{}, &function.Error{Op: "leave", Subject: name, Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err}
	}
	out.Heard = heard
	text, err := json.Marshal(departure{name, a.pool.signer != nil})
	if err == nil {
		err = a.save([]store.Op{{Key: leavingKey(), Value: text}})
	}
	if err != nil {
		a.gone.Store(false) // it stays: the next description says so to the others
		return admin.Left{}, &function.Error{Op: "leave", Subject: name, Class: function.ClassOf(err), Kind: function.KindOf(err), Err: err}
	}
	a.log.Info("leaving the cluster; the agent starts anew, alone and empty", "cluster", name, "heard", heard)
	a.restart()
	return out, nil
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func hintOf(err error) string {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.hint
	}
	return ""
}

// mayLeave says why this node must not leave as it is.
func (a *Agent) mayLeave(r admin.LeaveRequest) error {
	if a.pool.signer != nil && !r.Force && len(a.pool.known.copy()) > 0 {
		return hinted{
			errors.New("this node holds the authority's key: without it nobody joins, renews or is revoked any more"),
			"copy " + a.path("cluster") + "/" + identity.AuthorityFile + " to the same place on another member and restart that one; then: mayfly leave --force",
		}
	}
	if a.cfg.Admin.Listen != "" && a.cfg.Admin.Cert == "" {
		return hinted{
			errors.New("the operators' door at " + a.cfg.Admin.Listen + " shows the cluster's certificate, and the agent would not start without one"),
			"take [admin] listen out of the configuration, or set [admin] cert and key; restart the agent; then leave",
		}
	}
	return nil
}

// farewell takes back what this node says of itself and waits a moment until somebody has heard that; heard says whether. It is the node's own
// record: no operator need sign.
func (a *Agent) farewell(ctx context.Context) (heard bool, err error) {
	a.describing.Lock()
	a.gone.Store(true)
	err = a.catalog.Remove(ctx, catalog.KindNode, a.node.ID)
	a.describing.Unlock()
	if err != nil && function.KindOf(err) != admin.KindNotFound {
		a.gone.Store(false)
		return false, err
	}
	ver, ok := a.catalog.Snapshot().Gone(catalog.KindNode, a.node.ID)
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for names := a.pool.names(); ok && len(names) > 0 && ctx.Err() == nil; names = a.pool.names() {
		if len(a.pool.replica.Spread(ctx, catalog.KindNode, a.node.ID, ver, names).Have) > 0 {
			return true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return false, nil
}

// farewellTime is how long a node that leaves waits until another has heard of it: who has, tells the rest.
const farewellTime = 5 * time.Second

// depart makes this node one that belongs to no cluster, if it was told to leave. It is called with nothing running but what it needs, and
// can be repeated from any point: the mark goes last. What the cluster ran here must be gone before the membership is, or this node would run it
// a second time.
func (a *Agent) depart() error {
	text, version, err := a.store.Get(leavingKey())
	if err != nil || version == 0 {
		return err
	}
	var d departure
	if err := json.Unmarshal(text, &d); err != nil {
		return fmt.Errorf("leave: what was written down about it: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.store.Run(ctx) }()
	err = a.forgetCluster(d)
	cancel()
	if err = errors.Join(err, <-ended, a.store.Close()); err != nil {
		return fmt.Errorf("leave %s: %w", d.Cluster, err)
	}
	a.log.Info("left a cluster", "cluster", d.Cluster)
	return a.openStore()
}

func (a *Agent) forgetCluster(d departure) error {
	for _, space := range []store.Space{store.Catalog, store.State, store.Done} {
		if err := a.eraseBut(space, nil); err != nil {
			return err
		}
	}
	// The sessions of this node alone are remembered until the broker has been told to forget them; see retireForgotten.
	keep := [][]byte{leavingKey(), sessionKey("")}
	if err := a.eraseBut(store.Trigger, keep); err != nil {
		return err
	}
	modules, err := artifact.Open(a.path("modules"), artifact.Options{Quota: a.cfg.Limits.Modules})
	if err != nil {
		return err
	}
	for _, m := range modules.List() {
		err = errors.Join(err, modules.Remove(m.Digest))
	}
	if err = errors.Join(err, modules.Close()); err != nil {
		return err
	}
	if err := os.Remove(a.path("peers")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if d.Signer {
		err = identity.Abandon(a.path("cluster"))
	} else {
		err = identity.Leave(a.path("cluster"))
	}
	if err != nil {
		return err
	}
	return a.save([]store.Op{{Key: leavingKey(), Delete: true}})
}

// eraseBut deletes all keys of a space but those that begin like one of keep, in batches.
func (a *Agent) eraseBut(space store.Space, keep [][]byte) error {
	for {
		var ops []store.Op
		err := a.store.Keys(space.All(), nil, func(key []byte, _ uint64) bool {
			for _, k := range keep {
				if bytes.HasPrefix(key, k) {
					return true
				}
			}
			ops = append(ops, store.Op{Key: bytes.Clone(key), Delete: true})
			return len(ops) < 500
		})
		if err != nil || len(ops) == 0 {
			return err
		}
		if err := a.save(ops); err != nil {
			return err
		}
	}
}
