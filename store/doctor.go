package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

// doctor opens the database whatever state it is in: it takes out of the way what is known to keep badger from opening or
// to make it lose data silently, tries, and as the last resort moves the whole directory away and starts with an empty
// one. It never deletes anything but copies: what it takes out goes to aside/ or quarantine/.
type doctor struct {
	cfg    Config
	log    *slog.Logger
	report *Report
	now    func() time.Time
	moved  int

	leftovers []string // tables set aside that are likely of no use
}

func (d *doctor) db() string { return filepath.Join(d.cfg.Dir, "db") }

func (d *doctor) did(format string, a ...any) {
	d.report.Repairs = append(d.report.Repairs, fmt.Sprintf(format, a...))
}

// open returns the database, at worst an empty one.
func (d *doctor) open() (*database, error) {
	if err := d.prepare(); err != nil {
		d.did("check failed: %v", err) // the attempt to open decides
	}
	memTable := d.memTable()
	db, err := d.attempt(memTable)
	if err == nil {
		return db, nil
	}
	if hopeless(err) {
		return nil, openFailure(d.cfg.Dir, err)
	}
	d.log.Error("store does not open, repairing", "error", err)
	d.did("it did not open: %v", err)
	if db, err = d.withoutExtras(memTable); err == nil {
		return db, nil
	}
	if hopeless(err) {
		return nil, openFailure(d.cfg.Dir, err)
	}
	if err := d.quarantine(); err != nil {
		return nil, openFailure(d.cfg.Dir, err)
	}
	db, err = d.attempt(d.cfg.MemTable)
	if err != nil {
		return nil, openFailure(d.cfg.Dir, err)
	}
	return db, nil
}

// hopeless says that the trouble is not in the database's files: moving them would lose data for nothing.
func hopeless(err error) bool {
	if errors.Is(err, fs.ErrPermission) {
		return true
	}
	text := err.Error() // badger flattens the errors of the system into text
	for _, s := range []string{
		"no space left", "read-only file system", "too many open files", "cannot allocate memory",
		"permission denied", "directory lock",
	} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// attempt opens the database. A panic of badger's in this goroutine is an error like any other.
func (d *doctor) attempt(memTable int64) (db *database, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return openDatabase(d.cfg, memTable, d.log)
}

// withoutExtras tries again without the files that hold no data here: the key registry (nothing is encrypted), the value
// logs (all values are beside their keys), the discard statistics (of the value logs), the pid file.
func (d *doctor) withoutExtras(memTable int64) (*database, error) {
	for _, pattern := range []string{"KEYREGISTRY", "*.vlog", "DISCARD", "LOCK"} {
		files, _ := filepath.Glob(filepath.Join(d.db(), pattern)) // the pattern is well-formed
		for _, f := range files {
			if err := d.aside(f, "it holds no data"); err != nil {
				return nil, err
			}
		}
	}
	return d.attempt(memTable)
}

// memTable returns the configured size, or what is needed to replay a log written with a larger one.
func (d *doctor) memTable() int64 {
	size := d.cfg.MemTable
	logs, _ := filepath.Glob(filepath.Join(d.db(), "*.mem"))
	for _, f := range logs {
		if st, err := os.Stat(f); err == nil {
			size = max(size, min(st.Size()/2, 64<<20))
		}
	}
	return size
}

// prepare looks at every file before badger does.
func (d *doctor) prepare() error {
	if _, err := os.Stat(d.db()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	least := map[string]int64{"*.mem": 20, "*.vlog": 20, "KEYREGISTRY": 28, "DISCARD": 1 << 20}
	for pattern, size := range least {
		files, _ := filepath.Glob(filepath.Join(d.db(), pattern))
		for _, f := range files {
			st, err := os.Stat(f)
			if err == nil && st.Size() == 0 {
				err = os.Remove(f) // killed between creating and sizing it: nothing was ever in it
			} else if err == nil && st.Size() < size {
				err = d.aside(f, fmt.Sprintf("it has only %d bytes", st.Size()))
			}
			if err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"MANIFEST-REWRITE", "KEYREGISTRY-REWRITE"} {
		if f := filepath.Join(d.db(), name); fileExists(f) {
			if err := d.aside(f, "a leftover of an interrupted rewrite"); err != nil {
				return err
			}
		}
	}
	return d.checkTables()
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// aside moves a file of the database out of its way.
func (d *doctor) aside(path, why string) error {
	to, err := d.asidePath(filepath.Base(path))
	if err != nil {
		return err
	}
	if err := os.Rename(path, to); err != nil {
		return err
	}
	d.did("%s was moved aside: %s", filepath.Base(path), why)
	return nil
}

func (d *doctor) asidePath(name string) (string, error) {
	dir := filepath.Join(d.cfg.Dir, "aside")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return d.unused(filepath.Join(dir, d.now().UTC().Format("20060102-150405")+"-"+name)), nil
}

func (d *doctor) unused(path string) string {
	for try := path; ; d.moved++ {
		if !fileExists(try) {
			return try
		}
		try = fmt.Sprintf("%s.%d", path, d.moved)
	}
}

// quarantine moves the whole database away.
func (d *doctor) quarantine() error {
	dir := filepath.Join(d.cfg.Dir, "quarantine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to := d.unused(filepath.Join(dir, d.now().UTC().Format("20060102-150405")))
	if err := os.Rename(d.db(), to); err != nil {
		return err
	}
	d.report.Quarantined = to
	d.log.Error("store could not be opened and was put in quarantine", "directory", to)
	return errors.Join(syncDir(dir), syncDir(d.cfg.Dir))
}

// tables returns the numbers of the table files in the directory.
func (d *doctor) tables() ([]uint64, error) {
	files, err := filepath.Glob(filepath.Join(d.db(), "*.sst"))
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, f := range files {
		var id uint64
		if _, err := fmt.Sscanf(filepath.Base(f), "%d.sst", &id); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (d *doctor) table(id uint64) string { return filepath.Join(d.db(), fmt.Sprintf("%06d.sst", id)) }

// manifest reads badger's list of tables, and how much of the file is readable.
func (d *doctor) manifest() (m badger.Manifest, readable, size int64, err error) {
	f, err := os.Open(filepath.Join(d.db(), badger.ManifestFilename))
	if err != nil {
		return badger.Manifest{}, 0, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return badger.Manifest{}, 0, 0, err
	}
	m, readable, err = badger.ReplayManifestFile(f, 0, badgerOptions(d.db(), d.cfg.MemTable, d.log))
	return m, readable, st.Size(), err
}
