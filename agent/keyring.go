package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// keyring is the keys of gossip as operators see them. It implements admin.Keys.
type keyring struct{ agent *Agent }

// keyID names a key without showing it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("mayfly gossip key "), key...))
	return hex.EncodeToString(sum[:6])
}

// Keyring implements admin.Keys.
func (k keyring) Keyring(context.Context) (admin.Keyring, error) {
	p := k.agent.pool
	if p == nil {
		return admin.Keyring{}, admin.Alone("show the keyring")
	}
	keys := p.member.Keys()
	shown := admin.Keyring{Settled: true}
	for i, key := range keys.At(time.Now()) {
		one := admin.Key{ID: keyID(key), Primary: i == 0}
		if one.Primary {
			one.Created = keys.Used
		}
		shown.Keys = append(shown.Keys, one)
	}
	shown.Nodes = append(shown.Nodes, admin.KeyHolder{Node: k.agent.node.ID, Name: k.agent.cfg.Node.Name, Primary: shown.Keys[0].ID, Keys: len(shown.Keys)})
	said := p.described()
	behind := 0
	for _, m := range p.others() {
		holder := admin.KeyHolder{Node: m.Name, Name: cmp.Or(said[m.Name].Name, m.Name)}
		if h, ok := p.words.of(m.Name); ok {
			holder.AgeMS = time.Since(h.when).Milliseconds()
			if h.keys == keys.Epoch {
				holder.Primary, holder.Keys = shown.Keys[0].ID, len(shown.Keys)
			} else {
				behind++
			}
		}
		shown.Nodes = append(shown.Nodes, holder)
	}
	slices.SortFunc(shown.Nodes, func(x, y admin.KeyHolder) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Node, y.Node))
	})
	switch {
	case keys.Staged != nil:
		shown.Settled, shown.Reason = false, "a new key is being spread; it is used when all live nodes have it"
	case behind > 0:
		shown.Settled, shown.Reason = false, fmt.Sprintf("%d live nodes have keys of another time", behind)
		shown.Hint = "they fetch them by themselves; a node that does not is cut off from the others' port of calls"
	}
	return shown, nil
}

// Rotate implements admin.Keys.
func (k keyring) Rotate(ctx context.Context) (admin.Keyring, error) {
	s, err := k.agent.signing("rotate the keys of gossip")
	if err != nil {
		return admin.Keyring{}, err
	}
	if k.agent.pool.member.Keys().Staged != nil {
		return admin.Keyring{}, &function.Error{
			Op: "rotate the keys of gossip", Subject: "keyring", Class: function.ClassReject, Kind: admin.KindConflict,
			Err: errors.New("a rotation is under way"), Hint: "mayfly keyring status",
		}
	}
	if err := k.agent.rotate(s); err != nil {
		return admin.Keyring{}, err
	}
	return k.Keyring(ctx)
}
