package artifact

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// disk is the steps the store makes on the file system, each of which may be the last before the power fails.
type disk interface {
	create(name string) (file, error) // a new file; or the end of one, if its name says that it is there in part
	open(name string) (io.ReadCloser, error)
	rename(from, to string) error
	remove(name string) error
	sync() error // makes renames durable
}

// file is a file being written.
type file interface {
	io.WriteCloser
	Sync() error
}

// rootDisk is a directory that no name leads out of.
type rootDisk struct{ root *os.Root }

func (d rootDisk) create(name string) (file, error) {
	if filepath.Ext(name) == suffixPart {
		return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
}

func (d rootDisk) open(name string) (io.ReadCloser, error) { return d.root.Open(name) }
func (d rootDisk) rename(from, to string) error            { return d.root.Rename(from, to) }
func (d rootDisk) remove(name string) error                { return d.root.Remove(name) }

func (d rootDisk) sync() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// freeBytes returns what an ordinary user may still write on the file system of root.
func freeBytes(root *os.Root) (int64, error) {
	dir, err := root.Open(".")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, err
	}
	return int64(min(fs.Bavail, 1<<40)) * fs.Bsize, nil
}
