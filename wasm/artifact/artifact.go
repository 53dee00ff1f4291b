// Package artifact keeps Wasm modules on disk by what they are: the SHA-256 of their bytes. A module is there whole and
// durable or not at all, whenever the power fails, and no byte leaves Read that does not have the digest asked for.
//
// DESIGN.md walks through the failures.
package artifact

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mayfly/function"
)

// Options of a store. A zero field means the default.
type Options struct {
	Quota   int64 // bytes of all files, default 256 MiB
	MaxSize int64 // bytes of one module, default 8 MiB
	Floor   int64 // bytes that must stay free on the file system, default 16 MiB
}

// Store is one directory of modules. It is safe for concurrent use by one process.
type Store struct {
	root    *os.Root
	disk    disk
	free    func() (int64, error) // bytes free on the file system
	options Options

	mu     sync.Mutex
	have   map[function.Digest]*entry
	parts  map[function.Digest]*part
	spoilt map[string]int64 // quarantined files and their sizes
	serial int
	stats  Stats
}

type entry struct {
	size int64
	used time.Time
}

// Artifact is one module in the store.
type Artifact struct {
	Digest function.Digest
	Size   int64
	Used   time.Time // when it was last read or put, as far back as this process knows; else when it was written
}

// Stats are a store's numbers. The counters run since Open.
type Stats struct {
	Count      int   // modules
	Bytes      int64 // of modules, parts and quarantined files
	Parts      int   // modules that are here in part
	Quota      int64
	Quarantine int   // damaged files kept for a look
	Corrupt    int64 // damaged modules found
	Evicted    int64 // modules deleted to make room
	Leftovers  int64 // unfinished files of an earlier process, deleted by Open
}

// Suffixes of files. Everything else in the directory is left alone.
const (
	suffixModule  = ".wasm"
	suffixTemp    = ".tmp"
	suffixPart    = ".part"
	suffixCorrupt = ".corrupt"
)

// Open opens the store in dir, which is made if need be, and deletes what an earlier process left unfinished. It reads no
// module. Close ends it.
func Open(dir string, o Options) (*Store, error) {
	if o.Quota == 0 {
		o.Quota = 256 << 20
	}
	if o.MaxSize == 0 {
		o.MaxSize = 8 << 20
	}
	if o.Floor == 0 {
		o.Floor = 16 << 20
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("open artifacts", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, diskError("open artifacts", dir, err)
	}
	s := &Store{root: root, disk: rootDisk{root}, options: o, have: map[function.Digest]*entry{}, parts: map[function.Digest]*part{}, spoilt: map[string]int64{}}
	s.free = func() (int64, error) { return freeBytes(root) }
	if err := s.scan(); err != nil {
		return nil, errors.Join(diskError("open artifacts", dir, err), root.Close())
	}
	return s, nil
}

// Close gives up the directory. Nothing is unfinished then: every Put is done or undone when it returns.
func (s *Store) Close() error { return s.root.Close() }

// scan finds out what is in the directory.
func (s *Store) scan() error {
	files, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		} else if err != nil {
			return err
		}
		switch name := f.Name(); filepath.Ext(name) {
		case suffixTemp:
			// On a read-only disk it stays; what is there can still be served.
			if err := s.disk.remove(name); err == nil {
				s.stats.Leftovers++
			}
		case suffixCorrupt:
			s.spoilt[name] = info.Size()
		case suffixPart:
			if d, ok := digestOf(strings.TrimSuffix(name, suffixPart) + suffixModule); ok {
				s.parts[d] = &part{size: info.Size(), used: info.ModTime()}
			}
		case suffixModule:
			if d, ok := digestOf(name); ok {
				s.have[d] = &entry{size: info.Size(), used: info.ModTime()}
			}
		}
	}
	return nil
}

func fileOf(d function.Digest) string { return hex.EncodeToString(d[:]) + suffixModule }

func digestOf(name string) (function.Digest, bool) {
	d, err := function.ParseDigest(strings.TrimSuffix(name, suffixModule))
	return d, err == nil && fileOf(d) == name
}

// List returns what is there, the least recently used first.
func (s *Store) List() []Artifact {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Artifact, 0, len(s.have))
	for d, e := range s.have {
		list = append(list, Artifact{d, e.size, e.used})
	}
	slices.SortFunc(list, func(a, b Artifact) int {
		if c := a.Used.Compare(b.Used); c != 0 {
			return c
		}
		return slices.Compare(a.Digest[:], b.Digest[:])
	})
	return list
}

// Has says whether the module is there, without reading it.
func (s *Store) Has(d function.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[d] != nil
}

// Remove deletes a module. One that is not there is no error.
func (s *Store) Remove(d function.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[d] == nil {
		return nil
	}
	return s.drop(d)
}

// drop deletes a module that is there. The directory is not synced: a module that comes back after a power cut does no harm.
func (s *Store) drop(d function.Digest) error {
	if err := s.disk.remove(fileOf(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove artifact", d.Short(), err)
	}
	delete(s.have, d)
	return nil
}

// Stats returns the numbers as they are now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Count, st.Parts, st.Quarantine, st.Quota, st.Bytes = len(s.have), len(s.parts), len(s.spoilt), s.options.Quota, s.bytes()
	return st
}

func (s *Store) bytes() (n int64) {
	for _, e := range s.have {
		n += e.size
	}
	for _, size := range s.spoilt {
		n += size
	}
	for _, p := range s.parts {
		n += p.size
	}
	return n
}

// diskError gives an error of the file system words. The class is ClassNotHere: another node may have room.
func diskError(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	e := &function.Error{
		Op: op, Subject: subject, Class: function.ClassNotHere, Kind: "disk", Err: err,
		Hint: "look at the disk and at the kernel's messages (dmesg)",
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Hint = "disk-full", "free some space on the file system of the data directory"
		e.Err = fmt.Errorf("the disk is full: %w", err)
	case errors.Is(err, syscall.EROFS):
		e.Kind, e.Hint = "read-only", "mount the file system of the data directory read-write; a kernel does this after disk errors"
		e.Err = fmt.Errorf("the file system is read-only: %w", err)
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = "permission", "give the data directory to the user mayflyd runs as"
	}
	return e
}
