package artifact

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mayfly/function"
)

// Put stores the module with digest want that src holds. Unless it is there already it reads src to its end, and refuses
// bytes with another digest (kind "digest") and too many of them ("too-large"). When it returns nil the module is durable. To stay below the quota it
// deletes quarantined files, parts, and then modules for which keep is false, the least recently used first; keep is called with
// the store locked and must not use it; nil keeps everything. If that is not enough the error's kind is "quota". Errors of the disk have the kinds
// "disk-full", "read-only", "permission" and "disk". After an error nothing is left behind.
func (s *Store) Put(want function.Digest, src io.Reader, keep func(function.Digest) bool) error {
	s.mu.Lock()
	known := s.have[want]
	if known != nil {
		known.used = time.Now()
	}
	s.serial++
	temp := fmt.Sprintf("%s-%d%s", want.Short(), s.serial, suffixTemp)
	s.mu.Unlock()
	if known != nil {
		return nil
	}
	if err := s.aboveFloor(want); err != nil {
		return err
	}
	size, err := s.write(temp, want, src)
	if err == nil {
		err = s.commit(temp, want, size, keep)
	}
	if err != nil {
		if left := s.disk.remove(temp); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, diskError("put artifact", temp, left))
		}
	}
	return err
}

// aboveFloor refuses to write when the largest module would leave too little space.
func (s *Store) aboveFloor(want function.Digest) error {
	free, err := s.free()
	if err != nil {
		return diskError("put artifact", want.Short(), err)
	}
	if need := s.options.Floor + s.options.MaxSize; free < need {
		return &function.Error{
			Op: "put artifact", Subject: want.Short(), Class: function.ClassNotHere, Kind: "disk-full",
			Err:  fmt.Errorf("%d KiB are free on the disk; %d KiB are the least to start writing a module", free>>10, need>>10),
			Hint: "free some space on the file system of the data directory",
		}
	}
	return nil
}

// write writes src to a new file, synced, and checks its digest.
func (s *Store) write(temp string, want function.Digest, src io.Reader) (size int64, err error) {
	f, err := s.disk.create(temp)
	if err != nil {
		return 0, diskError("put artifact", want.Short(), err)
	}
	hash := sha256.New()
	in := &source{from: io.LimitReader(src, s.options.MaxSize+1)}
	size, err = io.Copy(io.MultiWriter(f, hash), in)
	switch {
	case in.err != nil:
		err = &function.Error{Op: "put artifact", Subject: want.Short(), Class: function.ClassRetry, Kind: "source", Err: in.err, Hint: "try again"}
	case err == nil && size > s.options.MaxSize:
		err = &function.Error{
			Op: "put artifact", Subject: want.Short(), Class: function.ClassReject, Kind: "too-large",
			Err: fmt.Errorf("more than %d KiB", s.options.MaxSize>>10), Hint: "build the module smaller (strip it, optimise for size)",
		}
	case err == nil && function.Digest(hash.Sum(nil)) != want:
		err = &function.Error{
			Op: "put artifact", Subject: want.Short(), Class: function.ClassReject, Kind: "digest",
			Err: fmt.Errorf("%d bytes came, and they are %s", size, function.Digest(hash.Sum(nil)).Short()), Hint: "fetch or deploy it again",
		}
	case err == nil:
		err = diskError("put artifact", want.Short(), f.Sync())
	default:
		err = diskError("put artifact", want.Short(), err)
	}
	if e := f.Close(); err == nil {
		err = diskError("put artifact", want.Short(), e)
	}
	return size, err
}

// source tells errors of reading from errors of writing.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// commit gives a complete file its name.
func (s *Store) commit(temp string, want function.Digest, size int64, keep func(function.Digest) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[want] != nil { // somebody else was faster
		return s.disk.remove(temp)
	}
	if err := s.makeRoom(want, size, keep); err != nil {
		return err
	}
	if err := s.disk.rename(temp, fileOf(want)); err != nil {
		return diskError("put artifact", want.Short(), err)
	}
	if err := s.disk.sync(); err != nil {
		// It may be durable or not: so it must not be there at all.
		return errors.Join(diskError("put artifact", want.Short(), err), diskError("put artifact", want.Short(), s.disk.remove(fileOf(want))))
	}
	s.have[want] = &entry{size: size, used: time.Now()}
	return nil
}

// makeRoom deletes until size more bytes are below the quota. It deletes nothing when that cannot be reached.
func (s *Store) makeRoom(want function.Digest, size int64, keep func(function.Digest) bool) error {
	over := s.bytes() + size - s.options.Quota
	if p := s.parts[want]; p != nil {
		over -= p.size // it becomes the module
	}
	if over <= 0 {
		return nil
	}
	var idle []function.Digest
	possible := int64(0)
	for d, e := range s.have {
		if keep != nil && !keep(d) {
			idle = append(idle, d)
			possible += e.size
		}
	}
	for _, n := range s.spoilt {
		possible += n
	}
	for d, p := range s.parts {
		if !p.busy && d != want {
			possible += p.size
		}
	}
	if possible < over {
		return &function.Error{
			Op: "put artifact", Subject: want.Short(), Class: function.ClassNotHere, Kind: "quota",
			Err: fmt.Errorf("%d KiB do not fit: %d of %d KiB are used, and %d KiB of that by functions that are deployed",
				size>>10, s.bytes()>>10, s.options.Quota>>10, (s.bytes()-possible)>>10),
			Hint: "remove a function, or raise the quota for artifacts in the agent's configuration",
		}
	}
	for name, n := range s.spoilt {
		if err := s.disk.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskError("remove artifact", name, err)
		}
		delete(s.spoilt, name)
		over -= n
	}
	for d, p := range s.parts {
		if over <= 0 || p.busy || d == want {
			continue
		}
		over -= p.size
		if err := s.dropPart(d); err != nil {
			return err
		}
	}
	slices.SortFunc(idle, func(a, b function.Digest) int { return s.have[a].used.Compare(s.have[b].used) })
	for _, d := range idle {
		if over <= 0 {
			break
		}
		over -= s.have[d].size
		if err := s.drop(d); err != nil {
			return err
		}
		s.stats.Evicted++
	}
	return nil
}

// Read returns a module's bytes, which have the digest d. A damaged file is put into quarantine and never looked at again
// (kind "corrupt"); one that is not there has the kind "absent" and wraps fs.ErrNotExist. Both are ClassNotHere: another
// node may have it, and Put may bring it back.
func (s *Store) Read(d function.Digest) ([]byte, error) {
	s.mu.Lock()
	e := s.have[d]
	if e != nil {
		e.used = time.Now()
	}
	s.mu.Unlock()
	if e == nil {
		return nil, absent(d)
	}
	module, err := s.load(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.forget(d, e)
		return nil, absent(d)
	case err != nil:
		return nil, diskError("read artifact", d.Short(), err)
	case function.DigestOf(module) == d:
		return module, nil
	}
	return nil, s.quarantine(d, e)
}

func (s *Store) load(d function.Digest) ([]byte, error) {
	f, err := s.disk.open(fileOf(d))
	if err != nil {
		return nil, err
	}
	module, err := io.ReadAll(io.LimitReader(f, s.options.MaxSize+1)) // a larger one is damaged, or of a larger limit
	return module, errors.Join(err, f.Close())
}

func absent(d function.Digest) error {
	return &function.Error{
		Op: "read artifact", Subject: d.Short(), Class: function.ClassNotHere, Kind: "absent",
		Err: fmt.Errorf("this node does not have the module: %w", fs.ErrNotExist), Hint: "deploy the function again, or let a node that has it join",
	}
}

// forget drops e from the index unless the module was put again meanwhile.
func (s *Store) forget(d function.Digest, e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[d] != e {
		return false
	}
	delete(s.have, d)
	return true
}

// quarantine takes a damaged module out of service.
func (s *Store) quarantine(d function.Digest, e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := error(&function.Error{
		Op: "read artifact", Subject: d.Short(), Class: function.ClassNotHere, Kind: "corrupt",
		Err:  errors.New("the file does not have its digest: the disk damaged it"),
		Hint: "it is fetched again when needed; if this repeats, replace the disk or SD card",
	})
	if s.have[d] != e { // another reader was faster
		return err
	}
	delete(s.have, d) // whatever happens to the file, it is not served
	s.stats.Corrupt++
	name := strings.TrimSuffix(fileOf(d), suffixModule) + suffixCorrupt
	if moved := s.disk.rename(fileOf(d), name); moved != nil {
		return errors.Join(err, diskError("quarantine artifact", d.Short(), moved))
	}
	s.spoilt[name] = e.size
	return err
}
