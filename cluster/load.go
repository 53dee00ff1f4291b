package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// Load is how busy a member is: a hint, seconds old. It rides on the answers to probes for free and is broadcast when its level
// changes.
type Load struct {
	Queued, Running uint16
	CPU, Memory     uint8  // 0 idle to 7 full
	Battery         uint8  // 0 empty to 7 full or mains
	Modules         uint64 // bloom filter of the modules in the member's cache

	boot uint16 // drawn at start: a number counts only among those of one boot
	seq  uint32
}

const (
	loadVersion = 1
	loadSize    = 24
)

// MarshalBinary encodes l in 24 bytes. Classes above 7 are encoded as 7. It never fails.
func (l Load) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, loadSize)
	b = append(b, loadVersion, min(l.CPU, 7)<<4|min(l.Memory, 7), min(l.Battery, 7), 0)
	b = binary.BigEndian.AppendUint16(b, l.Queued)
	b = binary.BigEndian.AppendUint16(b, l.Running)
	b = binary.BigEndian.AppendUint64(b, l.Modules)
	b = binary.BigEndian.AppendUint16(b, l.boot)
	b = binary.BigEndian.AppendUint16(b, 0)
	return binary.BigEndian.AppendUint32(b, l.seq), nil
}

var errLoad = errors.New("not a load word")

// UnmarshalBinary decodes what MarshalBinary made.
func (l *Load) UnmarshalBinary(b []byte) error {
	if len(b) != loadSize || b[0] != loadVersion {
		return fmt.Errorf("%w: %d bytes", errLoad, len(b))
	}
	*l = Load{
		CPU: b[1] >> 4 & 7, Memory: b[1] & 7, Battery: b[2] & 7,
		Queued:  binary.BigEndian.Uint16(b[4:]),
		Running: binary.BigEndian.Uint16(b[6:]),
		Modules: binary.BigEndian.Uint64(b[8:]),
		boot:    binary.BigEndian.Uint16(b[16:]),
		seq:     binary.BigEndian.Uint32(b[20:]),
	}
	return nil
}

// level is what is worth a broadcast when it changes: powers of two of the queue, classes of the rest.
func (l Load) level() [5]uint8 {
	return [5]uint8{uint8(bits.Len16(l.Queued)), uint8(bits.Len16(l.Running)), min(l.CPU, 7), min(l.Memory, 7), min(l.Battery, 7)}
}

// loads is the board of what is known of everybody's load.
type loads struct {
	mu    sync.Mutex
	own   Load
	known map[string]known
}

type known struct {
	load     Load
	at       time.Time
	rtt      time.Duration // of the last probe; 0 = none yet
	previous uint16        // the boot before: what is still on its way from it is old
}

// set replaces this member's word and says whether its level changed.
func (l *loads) set(word Load) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := word.level() != l.own.level()
	word.boot, word.seq = l.own.boot, l.own.seq+1
	l.own = word
	return changed
}

func (l *loads) mine() Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.own
}

// answered takes the word that came with the answer to a probe: nothing is fresher.
func (l *loads) answered(name string, word Load, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.known[name]
	if k.load.boot != word.boot {
		k.previous = k.load.boot
	}
	k.load, k.at, k.rtt = word, time.Now(), rtt
	l.known[name] = k
}

// heard takes a word that was gossiped and says whether it was news: what is not news is not passed on.
func (l *loads) heard(name string, word Load) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.known[name]
	switch {
	case ok && word.boot == k.load.boot && int32(word.seq-k.load.seq) <= 0:
		return false
	case ok && word.boot == k.previous:
		return false
	case ok && word.boot != k.load.boot:
		k.previous = k.load.boot
	}
	k.load, k.at = word, time.Now()
	l.known[name] = k
	return true
}

func (l *loads) of(name string) (known, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.known[name]
	return k, ok
}

func (l *loads) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, name)
}
