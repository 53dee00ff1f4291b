package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

// checkTables compares the table files with the manifest. Badger refuses to open when a listed table is missing or damaged,
// and deletes, without a word, every table that is not listed: after the manifest lost its tail that is live data.
//
// A listed table that is missing or damaged is taken out of the manifest; the survey at Open finds what that cost. An
// unlisted one is usually the leftover of a compaction cut short by a crash and must then not come back, for it would bring
// deleted records with it: it is set aside until the survey has found everything there. Only when the manifest itself is
// damaged are the unlisted ones put to use, as the newest level, where versions decide.
func (d *doctor) checkTables() error {
	ids, err := d.tables()
	if err != nil {
		return err
	}
	m, readable, size, err := d.manifest()
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(ids) == 0:
		return nil
	case err != nil && hopeless(err):
		return err
	case err != nil: // a foreign version too: FORMAT, not this, tells that another version was here
		return d.rebuildManifest(ids, err)
	}
	var changes []*pb.ManifestChange
	damaged := readable != size
	for id := range m.Tables {
		if slices.Contains(ids, id) {
			why := d.examine(id)
			if why == "" {
				continue
			}
			if err := d.aside(d.table(id), why); err != nil {
				return err
			}
		} else {
			damaged = true // deleting a table follows the note of it in the manifest, which is therefore stale
			d.did("table %06d.sst is missing", id)
		}
		changes = append(changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE})
	}
	for _, id := range ids {
		if _, listed := m.Tables[id]; listed {
			continue
		}
		if why := d.examine(id); !damaged || why != "" {
			if err := d.setLeftover(id); err != nil {
				return err
			}
			continue
		}
		d.did("table %06d.sst was put back into the damaged manifest", id)
		changes = append(changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE, Level: 0})
	}
	if len(changes) == 0 {
		return nil
	}
	return d.appendManifest(readable, changes)
}

// setLeftover puts a table that seems to be of no use where badger does not delete it.
func (d *doctor) setLeftover(id uint64) error {
	to, err := d.asidePath(filepath.Base(d.table(id)))
	if err != nil {
		return err
	}
	d.leftovers = append(d.leftovers, to)
	return os.Rename(d.table(id), to)
}

// dismiss deletes the leftovers when nothing is missing, else mentions them.
func (d *doctor) dismiss(nothingMissing bool) {
	for _, path := range d.leftovers {
		if nothingMissing {
			_ = os.Remove(path) // it only takes space
			continue
		}
		d.did("%s was not in the manifest and is kept", path)
	}
}

// rebuildManifest writes a new manifest with all sound tables at the newest level.
func (d *doctor) rebuildManifest(ids []uint64, cause error) error {
	path := filepath.Join(d.db(), badger.ManifestFilename)
	if fileExists(path) {
		if err := d.aside(path, cause.Error()); err != nil {
			return err
		}
	}
	var changes []*pb.ManifestChange
	for _, id := range ids {
		if why := d.examine(id); why != "" {
			if err := d.aside(d.table(id), why); err != nil {
				return err
			}
			continue
		}
		changes = append(changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE, Level: 0})
	}
	d.did("the manifest was rebuilt from %d tables", len(changes))
	head := []byte("Bdgr\x00\x00\x00\x08") // magic, our own magic (0), format 8
	return writeSynced(path, append(head, manifestEntry(changes)...))
}

// appendManifest cuts the manifest to what is readable and adds changes.
func (d *doctor) appendManifest(readable int64, changes []*pb.ManifestChange) error {
	f, err := os.OpenFile(filepath.Join(d.db(), badger.ManifestFilename), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(readable)
	if err == nil {
		_, err = f.WriteAt(manifestEntry(changes), readable)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// manifestEntry encodes changes as badger does: length, CRC32C, protocol buffer.
func manifestEntry(changes []*pb.ManifestChange) []byte {
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: changes})
	if err != nil {
		return nil // cannot happen: plain numbers
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, body...)
}

// examine says what is wrong with a table file, "" = nothing: it opens it with all checksums verified, on a map of its
// own. Badger panics on some damage.
func (d *doctor) examine(id uint64) (why string) {
	defer func() {
		if p := recover(); p != nil {
			why = fmt.Sprintf("it is damaged: %v", p)
		}
	}()
	f, err := z.OpenMmapFile(d.table(id), os.O_RDWR, 0)
	if err != nil {
		return "it cannot be read: " + err.Error()
	}
	defer func() { _ = f.Close(-1) }() // -1: as long as it is; nothing was written that could be lost
	t, err := table.OpenTable(f, table.Options{ChkMode: options.NoVerification, Compression: options.None, BlockSize: 4096})
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return "it is damaged: " + err.Error()
	}
	return ""
}
