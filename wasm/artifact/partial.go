package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"mayfly/function"
)

// maxParts is how many modules may be there in part. Beyond it the one that was extended least recently goes.
const maxParts = 8

// part is a module that is here in part: a prefix of its bytes, or what a power cut left of it. Nobody reads it as a module.
type part struct {
	size int64
	used time.Time
	busy bool // somebody extends or publishes it
}

func partOf(d function.Digest) string { return hex.EncodeToString(d[:]) + suffixPart }

// Part returns how many bytes of a module that is being fetched are here. It survives a restart; a power cut may damage it, which
// Publish finds.
func (s *Store) Part(d function.Digest) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[d]; p != nil {
		return p.size
	}
	return 0
}

// Extend appends what src holds to the part of d, which must have at bytes. It stops, with an error of kind "too-large", at the
// largest size of a module. What came before an error stays: one of src has the kind "source", those of the disk are those of Put.
// Only one may extend a part at a time ("busy").
func (s *Store) Extend(d function.Digest, at int64, src io.Reader) error {
	if err := s.aboveFloor(d); err != nil {
		return err
	}
	p, err := s.hold(d)
	if err != nil {
		return err
	}
	if p.size != at {
		s.release(d, p, p.size)
		return s.fault(d, "position", fmt.Errorf("it has %d bytes and is to be extended at %d", p.size, at))
	}
	size, err := s.extend(d, p.size, src)
	s.release(d, p, size)
	return err
}

func (s *Store) fault(d function.Digest, kind string, err error) error {
	return &function.Error{Op: "fetch artifact", Subject: d.Short(), Class: function.ClassNotHere, Kind: kind, Err: err, Hint: "it is tried again when needed"}
}

// hold reserves the part of d, which may be empty, and makes room for it among the parts.
func (s *Store) hold(d function.Digest) (*part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[d]
	if p == nil {
		if err := s.dropOldestPart(); err != nil {
			return nil, err
		}
		p = &part{}
		s.parts[d] = p
	}
	if p.busy {
		return nil, s.fault(d, "busy", errors.New("it is being fetched already"))
	}
	p.busy = true
	return p, nil
}

// release gives up the part of d, which now has size bytes; one without any is forgotten.
func (s *Store) release(d function.Digest, p *part, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.busy, p.size, p.used = false, size, time.Now()
	if size == 0 {
		delete(s.parts, d)
	}
}

// dropOldestPart keeps the number of parts below the bound. The lock is held.
func (s *Store) dropOldestPart() error {
	if len(s.parts) < maxParts {
		return nil
	}
	var oldest *function.Digest
	for d, p := range s.parts {
		if !p.busy && (oldest == nil || p.used.Before(s.parts[*oldest].used)) {
			oldest = &d
		}
	}
	if oldest == nil {
		return s.fault(function.Digest{}, "busy", fmt.Errorf("%d modules are being fetched already", maxParts))
	}
	return s.dropPart(*oldest)
}

// dropPart deletes a part. The lock is held.
func (s *Store) dropPart(d function.Digest) error {
	if err := s.disk.remove(partOf(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove artifact", d.Short(), err)
	}
	delete(s.parts, d)
	return nil
}

// extend returns how many bytes are there afterwards. What it wrote last may be lost by a power cut.
func (s *Store) extend(d function.Digest, size int64, src io.Reader) (int64, error) {
	f, err := s.disk.create(partOf(d))
	if err != nil {
		return size, diskError("fetch artifact", d.Short(), err)
	}
	in := &source{from: io.LimitReader(src, s.options.MaxSize+1-size)}
	n, err := io.Copy(f, in)
	size += n
	switch {
	case in.err != nil:
		err = &function.Error{Op: "fetch artifact", Subject: d.Short(), Class: function.ClassNotHere, Kind: "source", Err: in.err, Hint: "it is tried again when needed"}
	case err == nil && size > s.options.MaxSize:
		err = s.fault(d, "too-large", fmt.Errorf("more than %d KiB", s.options.MaxSize>>10))
	default:
		err = diskError("fetch artifact", d.Short(), err)
	}
	if e := f.Close(); err == nil {
		err = diskError("fetch artifact", d.Short(), e)
	}
	return size, err
}

// Publish makes the part of d the module d, durable, if its bytes are those; otherwise they are gone and the error has the kind
// "digest". Quota and keep are those of Put.
func (s *Store) Publish(d function.Digest, keep func(function.Digest) bool) error {
	p, err := s.hold(d)
	if err != nil {
		return err
	}
	size, err := s.checkPart(d)
	if err == nil {
		err = s.commit(partOf(d), d, size, keep)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.busy = false
	delete(s.parts, d)
	if left := s.disk.remove(partOf(d)); err != nil && left != nil && !errors.Is(left, fs.ErrNotExist) {
		err = errors.Join(err, diskError("fetch artifact", d.Short(), left))
	}
	return err
}

// checkPart says whether the bytes on the disk are those of d, and makes them durable.
func (s *Store) checkPart(d function.Digest) (size int64, err error) {
	r, err := s.disk.open(partOf(d))
	if err != nil {
		return 0, diskError("fetch artifact", d.Short(), err)
	}
	hash := sha256.New()
	size, err = io.Copy(hash, io.LimitReader(r, s.options.MaxSize+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return 0, diskError("fetch artifact", d.Short(), err)
	}
	if got := function.Digest(hash.Sum(nil)); got != d {
		return 0, &function.Error{
			Op: "fetch artifact", Subject: d.Short(), Class: function.ClassNotHere, Kind: "digest",
			Err: fmt.Errorf("%d bytes came, and they are %s", size, got.Short()), Hint: "it is fetched again when needed",
		}
	}
	f, err := s.disk.create(partOf(d)) // to sync what any process wrote
	if err != nil {
		return 0, diskError("fetch artifact", d.Short(), err)
	}
	return size, diskError("fetch artifact", d.Short(), errors.Join(f.Sync(), f.Close()))
}

// Discard deletes the part of d, if there is one.
func (s *Store) Discard(d function.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[d]; p == nil || p.busy {
		return nil
	}
	return s.dropPart(d)
}
