package store

import (
	"encoding/binary"
	"hash/crc32"
)

// A record as the database holds it, under its key and the sequence number of the group it was written with:
//
//	crc32c (4, little-endian) | form (1) | group - version (uvarint) | expiry, with formTTL (uvarint, ms of store time) | value
//
// The checksum covers the key, the group's number and everything after itself, so a value that turns up under another key
// or with another version is found out as well as a flipped bit.
const (
	formPlain = 0x10
	formTTL   = 0x11
)

// recordExtra is what a record adds to its value at most; perRecord is what it may add to a transaction, the database's own
// share included.
const (
	recordExtra = 4 + 1 + binary.MaxVarintLen64 + binary.MaxVarintLen64
	perRecord   = 64
)

func sealRecord(key, value []byte, version, group uint64, expires int64) []byte {
	b := make([]byte, 4, recordExtra+len(value))
	if expires == 0 {
		b = append(b, formPlain)
	} else {
		b = append(b, formTTL)
	}
	b = binary.AppendUvarint(b, group-version)
	if expires != 0 {
		b = binary.AppendUvarint(b, uint64(expires))
	}
	b = append(b, value...)
	binary.LittleEndian.PutUint32(b, recordSum(key, group, b[4:]))
	return b
}

type record struct {
	value   []byte // aliases what was opened
	version uint64
	expires int64 // store time in ms; 0 = never
}

// openRecord reports false for a record that is not exactly what sealRecord wrote for this key and group.
func openRecord(key []byte, group uint64, b []byte) (record, bool) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != recordSum(key, group, b[4:]) {
		return record{}, false
	}
	form, rest := b[4], b[5:]
	back, n := binary.Uvarint(rest)
	if n <= 0 || back >= group || form != formPlain && form != formTTL {
		return record{}, false
	}
	r := record{value: rest[n:], version: group - back}
	if form == formTTL {
		expires, n := binary.Uvarint(r.value)
		if n <= 0 || expires == 0 || expires > 1<<62 {
			return record{}, false
		}
		r.value, r.expires = r.value[n:], int64(expires)
	}
	return r, true
}

// recordVersion reads the version without verifying anything; 0 when it cannot.
func recordVersion(group uint64, b []byte) uint64 {
	if len(b) < 6 {
		return 0
	}
	if back, n := binary.Uvarint(b[5:]); n > 0 && back < group {
		return group - back
	}
	return 0
}

func recordSum(key []byte, group uint64, rest []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // the standard library keeps one
	var g [8]byte
	binary.LittleEndian.PutUint64(g[:], group)
	sum := crc32.Update(0, table, g[:])
	sum = crc32.Update(sum, table, key)
	return crc32.Update(sum, table, rest)
}
