package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"mayfly/internal/crashpoint"
)

// database is badger as this package uses it: managed timestamps (the group's sequence number), values always beside
// their keys, and the sync of the log done here.
//
// Badger's own SyncWrites syncs two files for every transaction, of which the value log never holds anything here, and
// reports only one of the two errors. So it is off, and the write-ahead log (the .mem file, written through a shared memory
// map) is synced through a descriptor of our own: fdatasync of a file also writes what was stored through any map of it.
type database struct {
	db   *badger.DB
	dir  string
	size int64 // of a memory table
	sync func(*os.File) error

	log    *os.File // the write-ahead log in use
	number int      // of it
}

func fdatasync(f *os.File) error { return os.NewSyscallError("fdatasync", unix.Fdatasync(int(f.Fd()))) }

// badgerOptions are those for a small device. Values are never moved to the value log (threshold above MaxValue, below the
// batch limit), whose garbage collection is therefore never needed. The doctor has verified the checksums of all tables
// before badger opens them; at reads our own checksums do (badger 4.9.6 hides keys or crashes when it finds a bad block).
func badgerOptions(dir string, memTable int64, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.Logger = quietLogger{log}
	o.SyncWrites = false
	o.DetectConflicts = false
	o.MetricsEnabled = false
	o.NumGoroutines = 1
	o.MemTableSize = memTable
	o.NumMemtables = 2
	o.NumLevelZeroTables = 4
	o.NumLevelZeroTablesStall = 8
	o.NumCompactors = 2 // the minimum
	o.BaseTableSize = 2 << 20
	o.BaseLevelSize = 16 << 20
	o.ValueLogFileSize = 1 << 20 // the minimum
	o.ValueThreshold = min(1<<20, 15*memTable/100)
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	o.ChecksumVerificationMode = options.NoVerification
	return o
}

func openDatabase(cfg Config, memTable int64, log *slog.Logger) (*database, error) {
	dir := filepath.Join(cfg.Dir, "db")
	db, err := badger.OpenManaged(badgerOptions(dir, memTable, log))
	if err != nil {
		return nil, err
	}
	d := &database{db: db, dir: dir, size: memTable, sync: cfg.seam.sync}
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err == nil && len(logs) == 0 {
		err = errors.New("no write-ahead log")
	}
	if err == nil {
		_, err = fmt.Sscanf(filepath.Base(logs[len(logs)-1]), "%d.mem", &d.number)
	}
	if err == nil {
		err = d.follow(logs[len(logs)-1])
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// limits returns what one transaction may hold, with room for the live record.
func (d *database) limits() limits {
	return limits{batchBytes: d.db.MaxBatchSize() - 4096, batchCount: int(d.db.MaxBatchCount()) - 16}
}

// follow makes path the log that is synced. Its blocks are reserved, so that storing into the map cannot fail, and its
// directory entry is synced, which badger does not do.
func (d *database) follow(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// A file system that cannot reserve relies on the free-space floor alone.
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, d.size+d.size/4)
	if d.log != nil {
		_ = d.log.Close() // read by nobody; everything in it is synced
	}
	d.log = f
	return syncDir(d.dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncLog syncs what was committed. Badger changes to the next log only at the start of a commit, so all of it is in one.
func (d *database) syncLog() error {
	next := filepath.Join(d.dir, fmt.Sprintf("%05d.mem", d.number+1))
	if _, err := os.Stat(next); err == nil {
		d.number++
		if err := d.follow(next); err != nil {
			return err
		}
	}
	return d.sync(d.log)
}

func (d *database) close() error {
	err := d.db.Close()
	if cerr := d.log.Close(); err == nil {
		err = cerr
	}
	return err
}

// get returns the raw record of key and its group, 0 = absent.
func (d *database) get(key []byte) (group uint64, raw []byte, err error) {
	tx := d.db.NewTransactionAt(math.MaxUint64, false)
	defer tx.Discard()
	it, err := tx.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	raw, err = it.ValueCopy(nil)
	return it.Version(), raw, err
}

// item is one record met by scan, valid until the callback returns.
type item struct {
	key   []byte
	group uint64
	ttl   bool
	from  *badger.Item
}

// value returns the raw record; nil, which is no record, when it cannot be read.
func (it *item) value() []byte {
	var raw []byte
	if err := it.from.Value(func(b []byte) error { raw = b; return nil }); err != nil {
		return nil
	}
	return raw
}

// scan walks the keys with prefix after `after`, newest committed record each.
func (d *database) scan(prefix, after []byte, yield func(item) bool) error {
	tx := d.db.NewTransactionAt(math.MaxUint64, false)
	defer tx.Discard()
	it := tx.NewIterator(badger.IteratorOptions{PrefetchValues: false, Prefix: prefix})
	defer it.Close()
	start := prefix
	if len(after) > 0 && bytes.Compare(after, prefix) >= 0 {
		start = append(bytes.Clone(after), 0)
	}
	for it.Seek(start); it.Valid(); it.Next() {
		i := it.Item()
		if !yield(item{key: i.Key(), group: i.Version(), ttl: i.UserMeta() == formTTL, from: i}) {
			return nil
		}
	}
	return nil
}

// transaction is one group being written.
type transaction struct {
	d     *database
	tx    *badger.Txn
	group uint64
}

func (d *database) begin(group uint64) *transaction {
	return &transaction{d: d, tx: d.db.NewTransactionAt(math.MaxUint64, true), group: group}
}

func (t *transaction) discard() { t.tx.Discard() }

// holds returns the group the database has key from, 0 = absent.
func (t *transaction) holds(key []byte) (uint64, error) {
	it, err := t.tx.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return it.Version(), nil
}

func (t *transaction) put(key, raw []byte) error {
	return t.tx.SetEntry(badger.NewEntry(key, raw).WithMeta(raw[4]))
}

func (t *transaction) delete(key []byte) error { return t.tx.Delete(key) }

// commit writes and syncs the group. Versions older than it may be dropped from then on.
func (t *transaction) commit() error {
	if err := t.tx.CommitAt(t.group, nil); err != nil {
		return err
	}
	crashpoint.Here(crashpoint.Written)
	if err := t.d.syncLog(); err != nil {
		return err
	}
	t.d.db.SetDiscardTs(t.group)
	return nil
}

// quietLogger passes on what badger finds wrong, and its chatter at debug level.
type quietLogger struct{ log *slog.Logger }

func (l quietLogger) Errorf(f string, a ...any)   { l.log.Warn("database", "says", says(f, a)) }
func (l quietLogger) Warningf(f string, a ...any) { l.log.Warn("database", "says", says(f, a)) }
func (l quietLogger) Infof(f string, a ...any)    {}
func (l quietLogger) Debugf(f string, a ...any)   {}

func says(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }
