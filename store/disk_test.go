package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mayfly/function"
)

const (
	tinyDiskBytes = 64 << 20
	tinyDiskFloor = 24 << 20
)

// TestFullDisk (promise D9) fills a disk: a tmpfs of its own, mounted by a child in a mount namespace (and a user
// namespace, for ordinary users). Where the kernel allows neither, the same is played with a simulated statfs, which shows
// the refusals but not that the kernel would have sent no SIGBUS.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=tiny-disk="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitNoMount {
		t.Log("no namespaces here: with a simulated disk")
		if err := fullDisk(dir, simulatedDisk(dir)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskSimulated(t *testing.T) {
	dir := t.TempDir()
	if err := fullDisk(dir, simulatedDisk(dir)); err != nil {
		t.Fatal(err)
	}
}

const exitNoMount = 77

func tinyDisk(dir string) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return exitNoMount
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", tinyDiskBytes)); err != nil {
		return exitNoMount
	}
	if err := fullDisk(filepath.Join(dir, "store"), realDisk(dir)); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := readOnlyDisk(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// readOnlyDisk: a disk that the kernel made read-only is refused with a reason, and nothing is taken for damage.
func readOnlyDisk(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	_, report, err := Open(Config{Dir: filepath.Join(dir, "store"), MemTable: 2 << 20, Floor: tinyDiskFloor}, quiet())
	if !errors.Is(err, unix.EROFS) || function.KindOf(err) != "read-only" || !report.Clean() {
		return fmt.Errorf("opening on a read-only disk: %+v, %w", report, err)
	}
	return nil
}

// smallDisk is a disk with a neighbour who takes space.
type smallDisk struct {
	free  func(dir string) (int64, error) // nil = ask the kernel
	leave func(bytes int64) error         // the neighbour takes all but so much
	clear func() error                    // the neighbour gives it back
}

func realDisk(dir string) smallDisk {
	hog := filepath.Join(dir, "hog")
	return smallDisk{
		leave: func(bytes int64) error {
			f, err := os.Create(hog) // it is empty from here on
			if err != nil {
				return err
			}
			free, err := statfs(dir)
			if err != nil {
				return errors.Join(err, f.Close())
			}
			return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, free-bytes), f.Close())
		},
		clear: func() error { return os.Remove(hog) },
	}
}

func simulatedDisk(dir string) smallDisk {
	taken := int64(0)
	free := func(string) (int64, error) { return tinyDiskBytes - taken - diskBytes(dir), nil }
	return smallDisk{
		free:  free,
		leave: func(bytes int64) error { now, err := free(dir); taken += now - bytes; return err },
		clear: func() error { taken = 0; return nil },
	}
}

// fullDisk fills the disk with records, checks what is refused and what is not, and that it goes on afterwards.
func fullDisk(dir string, disk smallDisk) error {
	cfg := Config{Dir: dir, MemTable: 2 << 20, Floor: tinyDiskFloor}
	cfg.seam.free = disk.free
	s, _, err := Open(cfg, quiet())
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{Store: s, stop: stop, ended: ended}
	if err := disk.leave(tinyDiskBytes - 16<<20); err != nil { // what the neighbour gives back later
		return err
	}
	n, least := 0, int64(tinyDiskBytes)
	value := bytes.Repeat([]byte("v"), 30_000)
	write := func() error { return r.try(Op{Key: crashKey(n), Value: value}) }
	look := func() {
		if free, err := s.cfg.seam.free(dir); err == nil {
			least = min(least, free)
		}
	}
	for err = nil; err == nil && n < 20000; n++ {
		err = write()
		look()
	}
	n--
	if !errors.Is(err, ErrFull) || function.ClassOf(err) != function.ClassOverload {
		return fmt.Errorf("after %d records: %w", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ballast")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the ballast is still there: %v", err)
	}
	for i := range n / 2 {
		look()
		remove := func() error { return r.try(Op{Key: crashKey(i), Delete: true}) }
		// A compaction holds old and new tables for a moment: then deletions wait too.
		if err := until(remove, func(err error) bool { return err == nil }); err != nil {
			return fmt.Errorf("deletion %d on the full disk: %w", i, err)
		}
	}
	if err := errors.Join(stopped(r)); err != nil {
		return fmt.Errorf("stopping on the full disk: %w", err)
	}
	fmt.Printf("full after %d records of 30,000 bytes; %d deleted; never less than %d KiB free\n", n, n/2, least>>10)
	return reopenFull(cfg, disk, n)
}

func stopped(r *running) error {
	r.stop()
	return errors.Join(<-r.ended, r.Close())
}

// reopenFull opens while a neighbour has taken everything, and after it gave it back.
func reopenFull(cfg Config, disk smallDisk, n int) error {
	if err := disk.leave(1 << 20); err != nil {
		return err
	}
	if _, _, err := Open(cfg, quiet()); !errors.Is(err, ErrFull) {
		return fmt.Errorf("opening on a full disk: %w", err)
	}
	if err := disk.clear(); err != nil {
		return err
	}
	s, report, err := Open(cfg, quiet())
	if err != nil {
		return err
	}
	if !report.Clean() || report.Records != uint64(n-n/2) {
		return fmt.Errorf("report %+v; %d records should be there", report, n-n/2)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Store: s, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	defer stop()
	if err := disk.leave(tinyDiskFloor - 1<<20); err != nil {
		return err
	}
	err = until(func() error { return r.try(set("s/now", "x")) }, func(err error) bool { return errors.Is(err, ErrFull) })
	if err = errors.Join(err, disk.clear()); err != nil {
		return err
	}
	err = until(func() error { return r.try(set("s/again", "x")) }, func(err error) bool { return err == nil })
	if err != nil {
		return fmt.Errorf("not accepted again: %w", err)
	}
	return stopped(r)
}

// until tries until the outcome is as wished, for at most 15 s: three times what is promised, because this also runs with the race
// detector beside other tests.
func until(try func() error, wished func(error) bool) error {
	again := time.NewTicker(spaceStale / 5)
	defer again.Stop()
	for late := time.After(15 * time.Second); ; {
		err := try()
		if wished(err) {
			return nil
		}
		select {
		case <-again.C:
		case <-late:
			return fmt.Errorf("after 15 s still: %w", err)
		}
	}
}
