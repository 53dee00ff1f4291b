package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"
)

const (
	gossipKeySize = 32
	// KeepOldKey is how long a key of gossip is still understood after its successor came into use.
	KeepOldKey = 24 * time.Hour
)

// Keys are the keys of gossip of one epoch. The authority changes them in steps, each an epoch of its own: a new key is staged,
// which everybody understands and nobody uses; then used, while the old one is still understood; then the old one is
// dropped. So nobody is locked out who hears of each step before the next, and who slept through them asks for the newest.
type Keys struct {
	Epoch   uint64    // grows with every step, from 1
	Used    time.Time // when the current key came into use, in whole seconds
	Current []byte    // encrypts; 32 bytes
	Staged  []byte    // nil = none
	Old     []byte    // nil = none
}

// At returns the keys to use at a time: the first encrypts, all decrypt.
func (k Keys) At(now time.Time) [][]byte {
	keys := [][]byte{k.Current}
	if k.Staged != nil {
		keys = append(keys, k.Staged)
	}
	if k.Old != nil && now.Before(k.Used.Add(KeepOldKey)) {
		keys = append(keys, k.Old)
	}
	return keys
}

func newKeys(now time.Time) Keys {
	return Keys{Epoch: 1, Used: now.Truncate(time.Second), Current: newKey()}
}

func newKey() []byte {
	key := make([]byte, gossipKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand documents it
	return key
}

// stage adds a new key beside the current one. One that was staged and never used is forgotten.
func (k Keys) stage() Keys {
	k.Epoch++
	k.Staged = newKey()
	return k
}

// use makes the staged key the current one.
func (k Keys) use(now time.Time) (Keys, error) {
	if k.Staged == nil {
		return k, fmt.Errorf("keys of gossip: none is staged; stage one, and use it when all live nodes have epoch %d", k.Epoch+1)
	}
	return Keys{Epoch: k.Epoch + 1, Used: now.Truncate(time.Second), Current: k.Staged, Old: k.Current}, nil
}

// drop forgets the old key before its time.
func (k Keys) drop() Keys {
	k.Epoch++
	k.Old = nil
	return k
}

const (
	hasStaged = 1 << 0
	hasOld    = 1 << 1
)

// encode returns the one encoding of k: epoch, seconds since 1970, flags, keys.
func (k Keys) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, k.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Used.Unix()))
	flags := byte(0)
	if k.Staged != nil {
		flags |= hasStaged
	}
	if k.Old != nil {
		flags |= hasOld
	}
	b = append(append(b, flags), k.Current...)
	return append(append(b, k.Staged...), k.Old...)
}

func decodeKeys(b []byte) (Keys, error) {
	r := reader{rest: b}
	k := Keys{Epoch: r.uint64(), Used: time.Unix(int64(r.uint64()), 0)}
	flags := r.byte()
	k.Current = bytes.Clone(r.take(gossipKeySize))
	if flags&hasStaged != 0 {
		k.Staged = bytes.Clone(r.take(gossipKeySize))
	}
	if flags&hasOld != 0 {
		k.Old = bytes.Clone(r.take(gossipKeySize))
	}
	if !r.end() || flags > hasStaged|hasOld || k.Epoch == 0 {
		return Keys{}, fmt.Errorf("%w: not keys of gossip", ErrStatement)
	}
	return k, nil
}
