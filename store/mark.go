package store

import (
	"encoding/binary"
	"hash/crc32"
	"os"
)

// mark is the high-water mark: the last synced submission, kept outside the database in a file of its own that is written
// after every sync and never synced itself. It may lag behind the database after a power cut but never be ahead of it
// unless the database lost synced writes, which the database itself would not notice: a log whose tail is unreadable
// is cut there without a word.
//
// Two slots are written in turn, so that one torn write leaves the other.
type mark struct {
	file *os.File
	turn int64
}

const markSlot = 512 // one sector each

func openMark(path string) (m *mark, seq uint64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	m = &mark{file: f}
	for slot := range int64(2) {
		var b [12]byte
		if _, err := f.ReadAt(b[:], slot*markSlot); err != nil {
			continue // short: never written
		}
		v := binary.LittleEndian.Uint64(b[:8])
		if binary.LittleEndian.Uint32(b[8:]) == markSum(b[:8]) && v > seq {
			seq, m.turn = v, slot+1
		}
	}
	return m, seq, nil
}

func (m *mark) write(seq uint64) error {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:8], seq)
	binary.LittleEndian.PutUint32(b[8:], markSum(b[:8]))
	_, err := m.file.WriteAt(b[:], m.turn%2*markSlot)
	m.turn++
	return err
}

func markSum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) ^ 0x6d61726b
}

// close syncs, so that a clean stop leaves the exact mark.
func (m *mark) close() error {
	err := m.file.Sync()
	if cerr := m.file.Close(); err == nil {
		err = cerr
	}
	return err
}
