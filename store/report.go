package store

import "time"

// Report says what Open found.
type Report struct {
	Fresh       bool          // there was no store before
	Repairs     []string      // what was put right, for people
	Quarantined string        // directory the old store was moved to when it could not be opened; "" = none
	Records     uint64        // live records found
	Corrupt     uint64        // of them damaged: reading one returns ErrCorrupt
	Lost        uint64        // records (or, where they cannot be counted, batches) known to be missing, at least
	Changed     bool          // the records found are not those last written: something was lost, or came back
	LostWrites  uint64        // last submissions missing although they were synced (the log's tail is gone)
	Took        time.Duration // time Open took
}

// Clean says whether there is nothing to tell anybody.
func (r *Report) Clean() bool {
	return len(r.Repairs) == 0 && r.Quarantined == "" && r.Corrupt == 0 && r.Lost == 0 && !r.Changed && r.LostWrites == 0
}

// Stats are counters since Open; the losses are those of the Report plus what was found since.
type Stats struct {
	Records    uint64 // live now
	Batches    uint64 // submissions synced
	Groups     uint64 // syncs
	Changes    uint64 // records written or deleted
	Bytes      uint64 // of keys and values handed to the disk
	Queued     int64  // bytes waiting
	Busy       uint64 // submissions refused with ErrBusy
	Full       uint64 // submissions refused with ErrFull
	Conflicts  uint64
	Corrupt    uint64 // damaged records met, at Open and since
	Lost       uint64 // as in the Report
	LostWrites uint64 // as in the Report
	Free       int64  // bytes of disk free when last looked
	DiskBytes  int64  // bytes the store takes on disk
	Failed     error  // why nothing is written any more; nil = all is well
}
