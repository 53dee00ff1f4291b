// Package powercut is a disk that loses what was not flushed when the power goes: a block device image served over FUSE, with a
// volatile cache like that of a real drive. A file system made and loop-mounted on it sees writes and flushes as a drive does.
//
// What it proves: an agent's files, on a real ext4, after every write since the last flush of the device was dropped, kept or torn at
// a multiple of 512 bytes, independently of each other. What it does not: a drive that acknowledges flushes it did not do, and
// damage to what was flushed.
package powercut

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
)

const sector = 512

// Device is the drive. Safe for concurrent use.
type Device struct {
	mu      sync.Mutex
	stable  *os.File
	size    int64
	dirty   []write // since the last flush, in order
	off     bool    // without power: nothing is kept any more
	flushes int
	stalled chan struct{} // not nil: without power and not answering
}

type write struct {
	at   int64
	data []byte
}

// NewDevice makes a drive over an image file of that size, which is made if need be.
func NewDevice(image string, size int64) (*Device, error) {
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Device{stable: f, size: size}, nil
}

// ReadAt reads what was written last, flushed or not.
func (d *Device) ReadAt(p []byte, at int64) (int, error) {
	d.hold()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.stable.ReadAt(p, at)
	for _, w := range d.dirty {
		from, to := max(at, w.at), min(at+int64(n), w.at+int64(len(w.data)))
		if from < to {
			copy(p[from-at:to-at], w.data[from-w.at:to-w.at])
		}
	}
	return n, err
}

// WriteAt takes p into the cache.
func (d *Device) WriteAt(p []byte, at int64) (int, error) {
	d.hold()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		d.dirty = append(d.dirty, write{at, append([]byte(nil), p...)})
	}
	return len(p), nil
}

// Flush makes everything written so far stable.
func (d *Device) Flush() error {
	d.hold()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil
	}
	d.flushes++
	for _, w := range d.dirty {
		if _, err := d.stable.WriteAt(w.data, w.at); err != nil {
			return err
		}
	}
	d.dirty = nil
	return nil
}

// Flushes returns how often the cache was flushed.
func (d *Device) Flushes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flushes
}

// hold waits while the device does not answer.
func (d *Device) hold() {
	d.mu.Lock()
	stalled := d.stalled
	d.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
}

// Cut takes the power away: each write since the last flush is kept, lost or torn by chance, and nothing is answered until
// Release. It returns how many writes were at stake.
func (d *Device) Cut(chance *rand.Rand) (atStake int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off, d.stalled = true, make(chan struct{})
	for _, w := range d.dirty {
		data := w.data
		switch chance.IntN(3) {
		case 0:
			continue
		case 1:
			sectors := len(data) / sector
			if sectors > 1 {
				data = data[:sector*(1+chance.IntN(sectors-1))]
			}
		}
		if _, err := d.stable.WriteAt(data, w.at); err != nil {
			return 0, err
		}
	}
	atStake, d.dirty = len(d.dirty), nil
	return atStake, nil
}

// Release lets the device answer again, without keeping anything: whoever used it is dead by now and must be able to go.
func (d *Device) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stalled != nil {
		close(d.stalled)
		d.stalled = nil
	}
}

// Power gives the power back. Nobody may be using the device.
func (d *Device) Power() {
	d.Release()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off, d.dirty = false, nil
}

// Close gives the image up.
func (d *Device) Close() error { return d.stable.Close() }
