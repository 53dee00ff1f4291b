package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"mayfly/function"
	"mayfly/store"
)

const (
	askTime    = 5 * time.Second // for an answer
	askedAt    = 16              // nodes asked for their keys at once
	firstPause = 2 * time.Second // until those that could not pass a secret are asked again
	lastPause  = 5 * time.Minute
)

// question is what one vault asks another. Without a name it asks for the other's key.
type question struct {
	Name string `json:"name,omitempty"`
	Mark []byte `json:"mark,omitempty"` // of the box whose key is wanted
	Key  []byte `json:"key,omitempty"`  // of who asks
}

type reply struct {
	Key   []byte `json:"key,omitempty"`
	Share *Share `json:"share,omitempty"`
}

// Answer answers the vault of another node: with this node's key, or with the key of a box, sealed to the key of who asks. from is who asks by
// its certificate: that it is a member, and not revoked, is all that entitles it [I7].
func (v *Vault) Answer(_ context.Context, from string, request []byte) ([]byte, error) {
	refused := func(class function.Class, kind string, err error) error {
		return &function.Error{Op: "pass", Subject: "a secret", Class: class, Kind: kind, Err: err}
	}
	var q question
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, refused(function.ClassReject, "invalid", err)
	}
	if q.Name == "" {
		return json.Marshal(reply{Key: v.cfg.Key.Public()})
	}
	body, _, ok := v.cfg.Records.Get(q.Name)
	if !ok {
		return nil, refused(function.ClassNotHere, "not-found", errors.New("there is no such secret here"))
	}
	b, err := Decode(body)
	if err == nil && string(b.Mark) != string(q.Mark) {
		return nil, refused(function.ClassNotHere, "not-found", errors.New("there is another one of that name here"))
	}
	var key []byte
	if err == nil {
		key, err = b.key(q.Name, v.cfg.Node, v.cfg.Key, v.share(q.Name, b)...)
	}
	if err != nil {
		return nil, refused(function.ClassNotHere, "sealed", err)
	}
	share, err := b.sealTo(q.Name, key, Recipient{from, q.Key})
	if err != nil {
		return nil, refused(function.ClassReject, "invalid", err)
	}
	return json.Marshal(reply{Share: &share})
}

// ask asks one node.
func (v *Vault) ask(ctx context.Context, node string, q question) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	text, err := json.Marshal(q)
	if err != nil {
		return r, err
	}
	if text, err = v.cfg.Peers.Ask(ctx, node, text); err != nil {
		return r, err
	}
	if err = json.Unmarshal(text, &r); err != nil {
		err = fmt.Errorf("answer of %s: %w", node, err)
	}
	return r, err
}

// keys asks all live nodes for their keys.
func (v *Vault) keys(ctx context.Context) (to []Recipient, later []string) {
	nodes, _ := v.cfg.Peers.Live()
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, askedAt)
	for _, node := range nodes {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			r, err := v.ask(ctx, node, question{})
			if err == nil {
				_, err = kem().NewPublicKey(r.Key)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				later = append(later, node)
				return
			}
			to = append(to, Recipient{node, r.Key})
		})
	}
	wg.Wait()
	return to, later
}

// Run gets what this node cannot open from nodes that can, until ctx ends. Who asks again and again waits longer each time, until a secret or
// the membership changes.
func (v *Vault) Run(ctx context.Context) error {
	pause := firstPause
	for {
		names, changed := v.cfg.Records.Names()
		nodes, members := v.live()
		if err := v.forget(names); err != nil && ctx.Err() == nil {
			v.cfg.Log.Warn("what was passed of secrets that are gone could not be deleted; trying again", "err", err)
		}
		again := make(<-chan time.Time) // never, when nothing is left to be asked for
		if !v.fetch(ctx, names, nodes) {
			again = time.After(pause)
			pause = min(2*pause, lastPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			pause = firstPause
		case <-members:
			pause = firstPause
		case <-again:
		}
	}
}

func (v *Vault) live() (nodes []string, changed <-chan struct{}) {
	if v.cfg.Peers == nil {
		return nil, nil
	}
	return v.cfg.Peers.Live()
}

// fetch asks for all that cannot be opened. It says whether nothing is left.
func (v *Vault) fetch(ctx context.Context, names, nodes []string) (all bool) {
	all = true
	for _, name := range names {
		body, _, ok := v.cfg.Records.Get(name)
		if !ok {
			continue
		}
		if _, _, err := v.Read(name); err == nil {
			continue
		}
		b, err := Decode(body)
		if err == nil {
			err = v.fetchFrom(ctx, name, b, nodes)
		}
		if err != nil && ctx.Err() == nil {
			all = false
			v.cfg.Log.Warn("a secret cannot be read here; functions that ask for it are told to try again", "secret", name, "err", err)
		}
	}
	return all
}

// fetchFrom asks nodes, in no order, until one passes the key of the box.
func (v *Vault) fetchFrom(ctx context.Context, name string, b *Box, nodes []string) error {
	err := errors.New("no other node is there")
	for _, i := range rand.Perm(len(nodes)) {
		var r reply
		r, err = v.ask(ctx, nodes[i], question{name, b.Mark, v.cfg.Key.Public()})
		if err == nil && r.Share == nil {
			err = ErrBox
		}
		if err == nil {
			_, err = b.Open(name, v.cfg.Node, v.cfg.Key, *r.Share)
		}
		if err == nil {
			return v.keep(name, b, *r.Share)
		}
	}
	return err
}

// keep writes a share down that was checked, and uses it from then on.
func (v *Vault) keep(name string, b *Box, s Share) error {
	k := kept{b.Mark, s}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := v.write([]store.Op{{Key: keptKey(name), Value: text}}); err != nil {
		return err
	}
	v.mu.Lock()
	v.kept[name] = k
	v.mu.Unlock()
	v.cfg.Log.Info("another node passed a secret to this one", "secret", name)
	return nil
}
