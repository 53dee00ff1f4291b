package artifact

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"mayfly/function"
)

// faultyDisk fails at one step; with dead it fails at every step from there on, as if the power were gone.
type faultyDisk struct {
	disk
	steps int // until the fault; negative = past it
	dead  bool
	fault error
	torn  bool // the failing write leaves half of its bytes
}

func (d *faultyDisk) step() error {
	d.steps--
	if d.steps == -1 || d.steps < 0 && d.dead {
		return d.fault
	}
	return nil
}

func (d *faultyDisk) create(name string) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := d.disk.create(name)
	return &faultyFile{f, d}, err
}

func (d *faultyDisk) rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.rename(from, to)
}

func (d *faultyDisk) remove(name string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.remove(name)
}

func (d *faultyDisk) sync() error {
	if err := d.step(); err != nil {
		return err
	}
	return d.disk.sync()
}

type faultyFile struct {
	file
	d *faultyDisk
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.d.step(); err != nil {
		if f.d.torn {
			n, _ := f.file.Write(b[:len(b)/2])
			return n, err
		}
		return 0, err
	}
	return f.file.Write(b)
}

func (f *faultyFile) Sync() error {
	if err := f.d.step(); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultyFile) Close() error {
	if err := f.d.step(); err != nil {
		return errors.Join(err, f.file.Close())
	}
	return f.file.Close()
}

// TestEveryStepMayFail lets a Put that has to evict fail, or the process die, at each of its steps: afterwards the store and
// one opened on the same directory have the module whole or not at all, and what is deployed is untouched.
func TestEveryStepMayFail(t *testing.T) {
	for _, dead := range []bool{false, true} {
		for _, fault := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
			done := false
			for steps := 0; !done; steps++ {
				if steps > 20 {
					t.Fatal("a Put has more steps than expected")
				}
				done = putWithFault(t, steps, dead, fault)
			}
		}
	}
}

// putWithFault says whether the Put succeeded because the fault lies behind its last step.
func putWithFault(t *testing.T, steps int, dead bool, fault error) bool {
	dir := t.TempDir()
	s := open(t, dir, Options{Quota: 30})
	kept := put(t, s, strings.Repeat("k", 10))
	put(t, s, strings.Repeat("i", 10))
	text := strings.Repeat("n", 15)
	d := function.DigestOf([]byte(text))
	s.disk = &faultyDisk{disk: s.disk, steps: steps, dead: dead, fault: fault, torn: true}
	err := s.Put(d, strings.NewReader(text), func(x function.Digest) bool { return x == kept })
	if err != nil && !errors.Is(err, fault) {
		t.Errorf("step %d: the error %v hides its cause", steps, err)
	}
	if err != nil && s.Has(d) {
		t.Errorf("step %d: failed and there", steps)
	}
	if !dead {
		if b, rerr := s.Read(d); (rerr == nil) != (err == nil) || rerr == nil && string(b) != text {
			t.Errorf("step %d: put %v, read %v", steps, err, rerr)
		}
	}
	again := open(t, dir, Options{Quota: 30})
	if _, kerr := again.Read(kept); kerr != nil {
		t.Errorf("step %d: the deployed module: %v", steps, kerr)
	}
	if b, rerr := again.Read(d); rerr == nil && string(b) != text || rerr != nil && (function.KindOf(rerr) != "absent" || err == nil) {
		t.Errorf("step %d: after opening again: %q, %v", steps, b, rerr)
	}
	for _, name := range files(t, dir) {
		if !strings.HasSuffix(name, suffixModule) {
			t.Errorf("step %d: left behind: %s", steps, name)
		}
	}
	return err == nil
}

func TestQuarantineOnADeadDisk(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	d := put(t, s, "module")
	if err := s.root.Chmod(fileOf(d), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.root.WriteFile(fileOf(d), []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.disk = &faultyDisk{disk: s.disk, dead: true, fault: syscall.EROFS}
	_, err := s.Read(d)
	wantKind(t, err, "corrupt")
	if !errors.Is(err, syscall.EROFS) || s.Has(d) {
		t.Errorf("%v; still there: %t", err, s.Has(d))
	}
}
