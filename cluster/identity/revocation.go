package identity

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Revocation shuts a node out for good: what its key signs counts no more. It is kept for ever, because an id never
// becomes somebody else's; the device comes back with a new key, and therefore as a new node.
type Revocation struct {
	Node string    // id
	At   time.Time // by the authority's clock, in whole seconds
}

const idLength = 16

func (r Revocation) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(r.At.Unix())), r.Node...)
}

func decodeRevocation(b []byte) (Revocation, error) {
	r := reader{rest: b}
	at := time.Unix(int64(r.uint64()), 0)
	id := string(r.take(idLength))
	if !r.end() || !isID(id) {
		return Revocation{}, fmt.Errorf("%w: not a revocation", ErrStatement)
	}
	return Revocation{Node: id, At: at}, nil
}

func isID(s string) bool {
	b, ok := unspell(s, 10)
	return ok && spell(b) == s
}
