package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mayfly/function"
)

// The directory of a store:
//
//	FORMAT       formatLine; a store without it, or with another one, is refused
//	LOCK         held with flock while open
//	mark         high-water mark
//	ballast      see space
//	db/          the database
//	aside/       what was taken out of the database's directory because it was damaged or unknown; never deleted
//	quarantine/  whole databases that could not be opened; never deleted
const formatLine = "mayfly store 1\n"

// Open opens the store in cfg.Dir, repairing what can be repaired. It starts nothing of its own: Run does. What was found,
// repaired or lost is in the Report, which is worth a log line whenever it is not Clean. It refuses, changing nothing, a
// directory that is locked (ErrLocked), of another format (ErrFormat), not writable, or on a disk too full to open (ErrFull).
func Open(cfg Config, log *slog.Logger) (*Store, Report, error) {
	started := time.Now()
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, log: log, overlay: map[string]*change{}, wake: make(chan struct{}, 1)}
	if err := s.enter(); err != nil {
		return nil, Report{}, err
	}
	d := &doctor{cfg: cfg, log: log, report: &s.report, now: cfg.seam.now}
	err := s.begin(d)
	s.report.Took = time.Since(started)
	if err != nil {
		if s.db != nil {
			err = errors.Join(err, s.db.close())
		}
		_ = s.lock.Close() // drops the lock; the error above says more
		return nil, s.report, err
	}
	return s, s.report, nil
}

// enter takes possession of the directory.
func (s *Store) enter() error {
	dir := s.cfg.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return openFailure(dir, err)
	}
	s.space = &space{dir: dir, path: s.path("ballast"), floor: s.cfg.Floor, ballast: s.cfg.Ballast, free: s.cfg.seam.free}
	lock, err := os.OpenFile(s.path("LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return openFailure(dir, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		e := failure("open", dir, function.ClassFatal, "locked", errors.Join(ErrLocked, err))
		e.Hint = "stop the other agent, or give this one a directory of its own"
		return e
	}
	s.lock = lock
	if err := s.checkFormat(); err != nil {
		_ = lock.Close()
		return err
	}
	if !s.space.roomToOpen() {
		_ = lock.Close()
		e := failure("open", dir, function.ClassFatal, "disk-full", ErrFull)
		e.Hint = fmt.Sprintf("free some space on this disk: opening takes %d bytes, %d are free", s.cfg.Floor/2, s.space.freeNow())
		return e
	}
	return nil
}

// openFailure explains why the directory cannot be used.
func openFailure(dir string, err error) error {
	e := failure("open", dir, function.ClassFatal, "open", err)
	switch {
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Hint = "read-only", "the disk is mounted read-only: check dmesg for errors, then mount -o remount,rw"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = "permission", "the directory must belong to the user the agent runs as"
	case errors.Is(err, unix.ENOSPC):
		e.Kind, e.Hint, e.Err = "disk-full", "free some space on this disk", errors.Join(ErrFull, err)
	}
	return e
}

// checkFormat refuses what another version wrote, and signs a new directory.
func (s *Store) checkFormat() error {
	dir := s.cfg.Dir
	b, err := os.ReadFile(s.path("FORMAT"))
	switch {
	case err == nil && string(b) == formatLine:
		return nil
	case err == nil && len(bytes.TrimSpace(b)) > 0 && strings.HasPrefix(string(b), "mayfly store "):
		e := failure("open", dir, function.ClassFatal, "format", fmt.Errorf("%w: %q", ErrFormat, strings.TrimSpace(string(b))))
		e.Hint = "a newer version has used this directory: install that version again, or give this one a new directory"
		return e
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return openFailure(dir, err)
	}
	// Absent or damaged: the file is written before anything else and never again, so there is one format it can have been.
	if _, err := os.Stat(s.path("db")); err != nil {
		s.report.Fresh = true
	} else {
		s.report.Repairs = append(s.report.Repairs, "FORMAT was missing or damaged and is written again")
	}
	if err := writeSynced(s.path("FORMAT"), []byte(formatLine)); err != nil {
		return openFailure(dir, err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// begin opens the files and takes stock.
func (s *Store) begin(d *doctor) error {
	mark, high, err := openMark(s.path("mark"))
	if err != nil {
		return openFailure(s.cfg.Dir, err)
	}
	s.mark = mark
	if s.db, err = d.open(); err != nil {
		return errors.Join(err, mark.close())
	}
	s.limits = s.db.limits()
	if err := s.takeStock(high); err != nil {
		return errors.Join(openFailure(s.cfg.Dir, err), mark.close())
	}
	d.dismiss(!s.report.Changed)
	return nil
}

// takeStock compares the records that are there with what was last written, and continues from it.
func (s *Store) takeStock(high uint64) error {
	found, err := s.survey()
	if err != nil {
		return err
	}
	r, last := &s.report, found.last
	r.Records, r.Corrupt = found.count, found.corrupt
	r.Changed = found.count != last.count || found.sum != last.sum
	if r.Changed {
		r.Lost = max(last.count, found.count) - found.count
	}
	if high > last.seq {
		r.LostWrites = high - last.seq
	}
	s.stats.corrupt.Store(found.corrupt)
	s.stats.records.Store(found.count)
	s.clock = resumeClock(last, s.cfg.seam.now())
	if found.expires != 0 {
		s.expireAt(found.expires)
	}
	// Never reuse a number: not one that was synced, nor one a lost group may have shown to somebody.
	s.seq = max(last.seq, high, s.db.db.MaxVersion())
	s.live = live{seq: s.seq, count: found.count, sum: found.sum, clock: last.clock, wall: last.wall, lost: last.lost + r.Lost}
	s.db.db.SetDiscardTs(s.seq)
	if r.Changed || high > last.seq {
		s.log.Error("store lost something", "lost", r.Lost, "lost_writes", r.LostWrites, "records", r.Records)
		return s.rebase()
	}
	return nil
}

// rebase writes the sum of what was found, so that a loss is reported once.
func (s *Store) rebase() error {
	s.seq++
	s.live.seq = s.seq
	tx := s.db.begin(s.seq)
	defer tx.discard()
	if err := tx.put(liveKey(), sealRecord(liveKey(), s.live.encode(), s.seq, s.seq, 0)); err != nil {
		return err
	}
	if err := tx.commit(); err != nil {
		return err
	}
	return s.mark.write(s.seq)
}

type survey struct {
	live           // of what is there; only count and sum
	last    live   // as last written
	corrupt uint64 // damaged records among them
	expires int64  // first expiry
}

// survey reads every record once.
func (s *Store) survey() (survey, error) {
	var f survey
	own := liveKey()
	err := s.db.scan(nil, nil, func(it item) bool {
		r, ok := openRecord(it.key, it.group, it.value())
		if bytes.Equal(it.key, own) {
			if ok {
				f.last, ok = decodeLive(r.value)
			}
			if !ok {
				f.corrupt++
			}
			return true
		}
		f.add(it.key, it.group)
		if !ok {
			f.corrupt++
		} else if r.expires != 0 && (f.expires == 0 || r.expires < f.expires) {
			f.expires = r.expires
		}
		return true
	})
	return f, err
}
