package catalog

import (
	"crypto/sha256"
)

// digest is a summary of all records, tombstones included. Two catalogs with equal roots hold the same records [C3].
type digest struct {
	root    [hashSize]byte
	buckets [buckets][bucketSize]byte
}

const (
	buckets    = 256
	bucketSize = 8
)

// bucket is the part of the catalog a record belongs to.
func (id ident) bucket() byte {
	sum := sha256.Sum256([]byte(string(id.kind) + "\x00" + id.key))
	return sum[0]
}

func (s *Snapshot) computeDigest() *digest {
	var parts [buckets][]byte
	s.all(func(e *entry) bool {
		b := e.ident().bucket()
		parts[b] = append(parts[b], e.hash[:]...)
		return true
	})
	d := &digest{}
	whole := sha256.New()
	for i, part := range parts {
		if len(part) > 0 {
			sum := sha256.Sum256(part)
			copy(d.buckets[i][:], sum[:])
			whole.Write(append([]byte{byte(i)}, sum[:]...))
		}
	}
	copy(d.root[:], whole.Sum(nil))
	return d
}

// Root summarises all records in 16 bytes: catalogs with the same root are equal.
func (s *Snapshot) Root() [16]byte { return s.digest().root }
