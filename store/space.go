package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// space watches the free bytes of the disk. The database writes through memory maps, where a full disk is not an error but
// a SIGBUS that kills the process: so it is never allowed to come to that.
//
//	free >= floor             everything is accepted
//	floor > free              the ballast is given up; only deletions are accepted, while free >= floor/2
//	free >= floor + ballast   accepted again; the ballast is put back once it is there twice
type space struct {
	dir     string
	path    string // of the ballast
	floor   int64
	ballast int64
	free    func(dir string) (int64, error) // statfs; replaced in tests

	mu   sync.Mutex
	at   time.Time
	last int64
	full bool // the floor was reached and the ballast is not back yet
}

// spaceStale is how old a measurement may be. A neighbour that fills more than half the floor within it can still do harm.
const spaceStale = 50 * time.Millisecond

func statfs(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// allows says whether a batch may be written now.
func (s *space) allows(onlyDeletes bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.at) > spaceStale {
		s.look()
		s.at = now
	}
	if onlyDeletes {
		return s.last >= s.floor/2
	}
	return !s.full
}

// roomToOpen says whether opening, which replays logs into tables and starts new ones, can go through. The ballast is given
// up for it.
func (s *space) roomToOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	return s.last >= s.floor/2
}

// look measures and moves the ballast. A disk that cannot be asked counts as it did last.
func (s *space) look() {
	free, err := s.free(s.dir)
	if err != nil {
		return
	}
	switch {
	case free < s.floor:
		s.full = true
		if os.Remove(s.path) == nil {
			if again, err := s.free(s.dir); err == nil {
				free = again
			}
		}
	case s.full && free >= s.floor+s.ballast:
		s.full = false
	}
	if !s.full && s.ballast > 0 && free >= s.floor+2*s.ballast {
		if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
			free -= s.putBack()
		}
	}
	s.last = free
}

// putBack reserves the ballast's blocks without writing them, so without flash wear, and returns how many bytes it took.
// On a file system that cannot reserve there is no ballast.
func (s *space) putBack() int64 {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, s.ballast)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		return s.ballast
	}
	_ = os.Remove(s.path) // an empty file at worst
	s.ballast = 0
	return 0
}

// freeNow returns the free bytes when last looked.
func (s *space) freeNow() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// diskBytes returns the blocks that dir and what is below it take: the database's files are sparse, their sizes mean little.
func diskBytes(dir string) int64 {
	total := int64(0)
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}
