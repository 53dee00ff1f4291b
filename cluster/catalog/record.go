// Package catalog holds what should be: the deployed functions, the nodes, and what else the nodes of a cluster agree on, as versioned
// records that survive a restart. Catalog is one node's copy, which works alone; Replica keeps the copies of a cluster equal:
// digests and announcements travel by gossip, records by calls between nodes. DESIGN.md beside this file walks the failures.
package catalog

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what a record is about: 1 to 16 small letters and hyphens. Kinds that a version does not know are carried all the same.
type Kind string

// Kinds of records. Except for functions and nodes the bodies are opaque here.
const (
	KindFunction   Kind = "function"   // a deployed function; the key is its name
	KindNode       Kind = "node"       // what a node says about itself, its only writer; the key is its id
	KindConfig     Kind = "config"     // settings of the cluster
	KindHistory    Kind = "history"    // versions of a function that were deployed before; the key is its name
	KindTrust      Kind = "trust"      // keys of operators
	KindRevocation Kind = "revocation" // nodes that are no members any more; the key is the id
	KindKeyring    Kind = "keyring"    // ids of the keys of gossip, never the keys
	KindSecret     Kind = "secret"     // a value of functions, sealed to the keys of nodes; the key is its name
)

// Record is one piece of desired state. It is immutable.
type Record struct {
	Kind Kind
	Key  string // unique within the kind

	// Ver orders the changes of one record: a hybrid logical clock, 48 bits of milliseconds since 1970 and 16 bits of
	// counter, always more than that of the record it replaces.
	Ver     uint64
	Writer  string // id of the node that made the change
	Deleted bool   // a tombstone
	Body    []byte // what the kind makes of it
	Sig     []byte // over Signed, by who ordered the change; empty where nobody asks for it
}

// Bounds of a record, in bytes.
const (
	MaxBody = 192 << 10
	MaxKey  = 200
	maxKind = 16
	maxName = 32 // of a writer: as long as a member's name may be
	maxSig  = 8 << 10
)

// check says why r is not one that a catalog may hold, whoever signed it.
func (r Record) check() error {
	switch {
	case !r.Kind.valid():
		return fmt.Errorf("%w: a kind is 1 to %d small letters and hyphens, not %q", errRecord, maxKind, r.Kind)
	case r.Key == "" || len(r.Key) > MaxKey || strings.ContainsRune(r.Key, 0):
		return fmt.Errorf("%w: a key has 1 to %d bytes", errRecord, MaxKey)
	case r.Writer == "" || len(r.Writer) > maxName || r.Ver == 0:
		return fmt.Errorf("%w: it has no writer or version", errRecord)
	case len(r.Body) > MaxBody || len(r.Sig) > maxSig:
		return fmt.Errorf("%w: it takes %d bytes", errRecord, len(r.Body)+len(r.Sig))
	case r.Kind == KindNode && !r.Deleted && r.Key != r.Writer:
		return fmt.Errorf("%w: %s describes node %s", errRecord, r.Writer, r.Key)
	}
	return nil
}

func (k Kind) valid() bool {
	for _, c := range []byte(k) {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return len(k) > 0 && len(k) <= maxKind
}

// NextVersion returns the version of a change made at now of a record whose version is prev (0 = there is none). It is more than
// prev whatever the clock says.
func NextVersion(prev uint64, now time.Time) uint64 {
	return max(prev+1, versionAt(now))
}

// versionAt is the first version of a moment; 0 when the clock is so far off that it says nothing.
func versionAt(t time.Time) uint64 {
	ms := t.UnixMilli()
	if ms < 0 || ms >= 1<<48 {
		return 0
	}
	return uint64(ms) << 16
}

// timeOf is the moment a version was made at, if its writer's clock was right.
func timeOf(ver uint64) time.Time { return time.UnixMilli(int64(ver >> 16)) }

// Merge returns the one of two copies of a record that every node agrees on: that of the higher version; of equal versions, which
// two nodes may have given at the same time, that of the greater writer, then of the greater hash of the body. It is
// commutative, associative and idempotent, and looks at nothing but the records: no clock, no node [C2].
func Merge(a, b Record) Record {
	if a.compare(b) < 0 {
		return b
	}
	return a
}

// compare orders all records of one kind and key; only equal records compare as equal.
func (r Record) compare(o Record) int {
	if c := cmp.Or(cmp.Compare(r.Ver, o.Ver), cmp.Compare(r.Writer, o.Writer)); c != 0 {
		return c
	}
	rh, oh := sha256.Sum256(r.Body), sha256.Sum256(o.Body)
	deleted := 0
	if r.Deleted != o.Deleted {
		deleted = -1
		if r.Deleted {
			deleted = 1
		}
	}
	return cmp.Or(bytes.Compare(rh[:], oh[:]), deleted, bytes.Compare(r.Sig, o.Sig))
}

// format is the first byte of an encoded record.
const format = 1

var errRecord = errors.New("not a catalog record")

// Signed returns the bytes a signature is over: everything but the signature.
func (r Record) Signed() []byte {
	b := []byte{format}
	if r.Deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, r.Ver)
	for _, part := range [][]byte{[]byte(r.Kind), []byte(r.Key), []byte(r.Writer), r.Body} {
		b = appendPart(b, part)
	}
	return b
}

// Encode returns the record as it is stored and sent.
func (r Record) Encode() []byte { return appendPart(r.Signed(), r.Sig) }

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

func cloneOrNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

// Decode reads what Encode wrote, and nothing else. The record does not alias b.
func Decode(b []byte) (Record, error) {
	if len(b) < 10 || b[0] != format || b[1] > 1 {
		return Record{}, fmt.Errorf("%w: unknown format", errRecord)
	}
	r := Record{Deleted: b[1] == 1, Ver: binary.BigEndian.Uint64(b[2:])}
	b = b[10:]
	var parts [5][]byte
	for i := range parts {
		if len(b) < 4 {
			return Record{}, fmt.Errorf("%w: it ends early", errRecord)
		}
		n := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(n) > uint64(len(b)) {
			return Record{}, fmt.Errorf("%w: it ends early", errRecord)
		}
		parts[i], b = b[:n], b[n:]
	}
	if len(b) > 0 {
		return Record{}, fmt.Errorf("%w: %d bytes too many", errRecord, len(b))
	}
	r.Kind, r.Key, r.Writer = Kind(parts[0]), string(parts[1]), string(parts[2])
	r.Body, r.Sig = cloneOrNil(parts[3]), cloneOrNil(parts[4])
	return r, nil
}
