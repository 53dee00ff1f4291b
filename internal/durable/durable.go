// Package durable writes small files that a power cut finds whole or not at all.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces file, readable by its owner only; it is there after a power cut once this returns without an error. A death in
// between leaves the file as it was, and one of another name beside it, which nobody reads. Safe for concurrent use: one of those who write wins.
func Write(file string, text []byte) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

// SyncDir makes what was created, renamed or removed in dir survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
