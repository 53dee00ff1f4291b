package store

import (
	"errors"
	"fmt"
	"time"

	"mayfly/function"
)

// Op is one change of one key.
type Op struct {
	Key    []byte        // 1 to MaxKey bytes
	Value  []byte        // up to MaxValue bytes; must not be changed until done was called
	Delete bool          // remove the key; Value and TTL are ignored
	TTL    time.Duration // 0 = for ever; counted by the store's own clock, see DESIGN.md

	// Checked refuses the whole batch with ErrConflict unless the key's version is Expect (0 = absent) before the batch.
	Checked bool
	Expect  uint64
}

// MaxValue is the longest value in bytes: an event of 256 KiB with all it carries.
const MaxValue = 256<<10 + 16<<10

// Errors of Submit, Get and Scan. They come wrapped in a *function.Error that carries the class.
var (
	// ErrConflict: a checked key has another version than expected. Nothing was applied. Class conflict.
	ErrConflict = errors.New("the key was changed meanwhile")
	// ErrBusy: too much is queued for the disk. Nothing was applied; try again shortly. Class overload.
	ErrBusy = errors.New("the disk does not keep up")
	// ErrFull: too little free space. Nothing was applied. Class overload; accepted again when there is space.
	ErrFull = errors.New("too little free disk space")
	// ErrClosed: the store is closing or closed. Nothing was applied. Class overload.
	ErrClosed = errors.New("the store is closed")
	// ErrTooLarge: the batch can never be stored. Class reject.
	ErrTooLarge = errors.New("the batch is too large")
	// ErrCorrupt: the record is there but damaged. Class reject.
	ErrCorrupt = errors.New("the stored record is damaged")
	// ErrFailed: the disk failed; nothing is read, written or acknowledged until a restart. Class fatal.
	ErrFailed = errors.New("the disk failed")
	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("another process has this store open")
	// ErrFormat: the directory was written by another version of this program.
	ErrFormat = errors.New("the store has a format this version does not know")
)

func failure(op, subject string, class function.Class, kind string, err error) *function.Error {
	return &function.Error{Op: "store: " + op, Subject: subject, Class: class, Kind: kind, Err: err}
}

// check says whether ops can ever be stored.
func (s *Store) check(ops []Op) error {
	size := int64(0)
	for i := range ops {
		op := &ops[i]
		switch {
		case len(op.Key) == 0 || len(op.Key) > MaxKey:
			return failure("submit", fmt.Sprintf("key of %d bytes", len(op.Key)), function.ClassReject, "too-large", ErrTooLarge)
		case op.Key[0] == byte(internal):
			return failure("submit", fmt.Sprintf("%q", op.Key), function.ClassReject, "reserved-key", errors.New("the key space is reserved"))
		case len(op.Value) > MaxValue:
			return failure("submit", fmt.Sprintf("value of %d bytes", len(op.Value)), function.ClassReject, "too-large", ErrTooLarge)
		}
		size += op.size()
	}
	if size > s.limits.batchBytes || len(ops) > s.limits.batchCount {
		e := failure("submit", fmt.Sprintf("%d changes, %d bytes", len(ops), size), function.ClassReject, "too-large", ErrTooLarge)
		e.Hint = fmt.Sprintf("one event may change at most %d bytes at once; raise store.memtable or let the function do less", s.limits.batchBytes)
		return e
	}
	return nil
}

// size is what op takes in a transaction, at most.
func (op *Op) size() int64 { return int64(len(op.Key)+len(op.Value)) + perRecord }
