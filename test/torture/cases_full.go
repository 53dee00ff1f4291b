package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mayfly/admin"
)

// smallDisk is a file system of its own that can be filled without harm to others.
type smallDisk struct{ dir string }

func newSmallDisk(dir string, bytes int64) (*smallDisk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("torture", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w; a full disk needs root", err)
	}
	return &smallDisk{dir}, nil
}

// fill leaves that many bytes free.
func (d *smallDisk) fill(leave int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.dir, &fs); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	free := int64(fs.Bavail) * fs.Bsize
	block := make([]byte, 64<<10)
	for ; free > leave && err == nil; free -= int64(len(block)) {
		_, err = f.Write(block[:min(int64(len(block)), free-leave)])
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil // somebody else took the rest
	}
	return errors.Join(err, f.Close())
}

func (d *smallDisk) free() error  { return os.Remove(filepath.Join(d.dir, "filler")) }
func (d *smallDisk) close() error { return unix.Unmount(d.dir, unix.MNT_DETACH) }

// soon is how long after there is room again, or after a damaged start, events must flow.
const soon = 5 * time.Second

// fullDisk: nothing crashes, nothing acknowledged is lost, and it goes on within 5 s of there being room, also when the disk is
// full at the start.
func fullDisk(t *trial) error {
	disk, err := newSmallDisk(filepath.Join(t.dir, "small"), 160<<20)
	if err != nil {
		return err
	}
	defer func() {
		if t.agent != nil {
			t.agent.close()
		}
		if err := disk.close(); err != nil {
			t.faults = append(t.faults, err.Error())
		}
	}()
	if err := t.begin(world{data: filepath.Join(disk.dir, "data"), config: "[store]\nfloor = \"32MiB\"\nballast = \"2MiB\"\n"}); err != nil {
		return err
	}
	for _, leave := range []int64{24 << 20, 1 << 20, 0} {
		t.sleep(time.Second)
		if err := disk.fill(leave); err != nil {
			return err
		}
		t.sleep(pick(t.workshop, 2*time.Second, 10*time.Second))
		if ends := t.agent.ends(); len(ends) > 0 {
			return fmt.Errorf("with %d bytes free: %v", leave, ends)
		}
		if err := disk.free(); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), 60*time.Second); err != nil {
			return fmt.Errorf("after %d bytes free: %w", leave, err)
		}
	}
	if err := t.fullAtBoot(disk); err != nil {
		return err
	}
	t.bounds.recovery = soon
	return t.settle()
}

// fullAtBoot starts the agent on a full disk: it refuses with a reason and loses nothing, or serves what it can.
func (t *trial) fullAtBoot(disk *smallDisk) error {
	for _, leave := range []int64{20 << 20, 0} {
		if err := t.agent.kill(); err != nil {
			return err
		}
		if err := disk.fill(leave); err != nil {
			return err
		}
		t.expectExits, t.agent.supervised = true, true
		if err := t.agent.start(); err != nil {
			return err
		}
		t.sleep(3 * time.Second)
		if err := disk.free(); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), 60*time.Second); err != nil {
			return fmt.Errorf("started with %d bytes free: %w", leave, err)
		}
		t.agent.supervised = false
	}
	for _, e := range t.agent.ends() {
		if e != "exit status 1" {
			t.faults = append(t.faults, "on a full disk the agent ended with "+e)
		}
	}
	return nil
}

// failingSync: from a random sync on the disk answers with an error. Nothing is acknowledged after it, the agent ends, starts
// again and goes on from what is really there.
func failingSync(t *trial) error {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return errors.New("strace is missing; on Debian: apt-get install strace")
	}
	if err := t.begin(world{expect: true}); err != nil {
		return err
	}
	t.agent.supervised = true
	rounds := pick(t.workshop, 3, max(5, int(10*t.minutes)))
	for range rounds {
		if err := t.agent.kill(); err != nil {
			return err
		}
		died := len(t.agent.ends())
		t.agent.wrap = []string{
			strace, "-f", "--seccomp-bpf", "-q", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,msync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync,msync:error=EIO:when=%d+", 20+t.rng.IntN(150)),
		}
		if err := t.agent.start(); err != nil {
			return err
		}
		began := time.Now()
		for len(t.agent.ends()) == died {
			if t.sleep(10 * time.Millisecond); time.Since(began) > 60*time.Second {
				return errors.New("no sync failed within a minute, or the agent went on without it")
			}
		}
		t.agent.unwrap()
		if err := t.recovered(time.Now(), 30*time.Second); err != nil {
			return err
		}
	}
	for _, e := range t.agent.ends() {
		if e != "exit status 1" {
			t.faults = append(t.faults, "after a failed sync the agent ended with "+e)
		}
	}
	return t.settle()
}

// damage is one way to spoil a file.
type damage struct {
	name  string
	spoil func(t *trial, file string) error
}

func damages() []damage {
	return []damage{
		{"flip", func(t *trial, file string) error {
			b, err := os.ReadFile(file)
			if err != nil || len(b) == 0 {
				return err
			}
			b[t.rng.IntN(used(b))] ^= 1 << t.rng.IntN(8)
			return os.WriteFile(file, b, 0o600)
		}},
		{"truncate", func(t *trial, file string) error {
			b, err := os.ReadFile(file)
			if err != nil || used(b) < 2 {
				return err
			}
			return os.Truncate(file, 1+t.rng.Int64N(int64(used(b)-1)))
		}},
		{"empty", func(_ *trial, file string) error { return os.Truncate(file, 0) }},
		{"missing", func(_ *trial, file string) error { return os.Remove(file) }},
	}
}

// used returns how much of a file is in use: logs are longer than what is in them.
func used(b []byte) int {
	n := len(b)
	for n > 1 && b[n-1] == 0 {
		n--
	}
	return n
}

// kinds of files below the data directory.
func fileKinds() [][2]string {
	return [][2]string{
		{"log", "store/db/*.mem"},
		{"table", "store/db/*.sst"},
		{"manifest", "store/db/MANIFEST"},
		{"valuelog", "store/db/*.vlog"},
		{"registry", "store/db/KEYREGISTRY"},
		{"statistics", "store/db/DISCARD"},
		{"mark", "store/mark"},
		{"format", "store/FORMAT"},
		{"ballast", "store/ballast"},
		{"native", "native/*"},
		{"module", "modules/*"},
	}
}

// damaged are one case for each kind of file and way to spoil it.
func damaged() []torment {
	var all []torment
	for i, k := range fileKinds() {
		for _, d := range damages() {
			all = append(all, torment{"damage-" + k[0] + "-" + d.name, k[1] + ": " + d.name, i > 2, func(t *trial) error { return spoil(t, k[1], d) }})
		}
	}
	return all
}

// spoil damages one file of a kind while the agent is down. Afterwards everything is there, or the loss is reported, and events flow
// within 5 s.
func spoil(t *trial, pattern string, d damage) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	t.load.rate.Store(3000)
	t.sleep(time.Second)
	if err := t.agent.kill(); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(t.dir, "data", pattern))
	if err != nil {
		return err
	}
	if len(files) == 0 && pattern == "store/db/*.sst" { // they come with more load, or with a restart
		if files, err = t.untilThere(pattern); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		t.notes = append(t.notes, "there is no "+pattern)
	} else if err := d.spoil(t, files[t.rng.IntN(len(files))]); err != nil {
		return err
	}
	began := time.Now()
	t.expectExits = true
	if err := t.agent.start(); err != nil {
		return err
	}
	if err := t.agent.ready(t.ctx, soon, isReady); err != nil {
		return err
	}
	if err := t.reported(); err != nil {
		return err
	}
	if err := t.recovered(began, 20*time.Second); err != nil {
		return err
	}
	t.bounds.recovery = soon
	return t.settle()
}

// untilThere restarts the agent in good order until such a file exists.
func (t *trial) untilThere(pattern string) (files []string, err error) {
	for range 5 {
		if err = t.again(); err == nil {
			t.sleep(500 * time.Millisecond)
			err = t.agent.stop()
		}
		if err != nil {
			return nil, err
		}
		if files, err = filepath.Glob(filepath.Join(t.dir, "data", pattern)); err != nil || len(files) > 0 {
			return files, err
		}
	}
	return nil, fmt.Errorf("no %s came to be", pattern)
}

// reported notes what the agent says it lost, and deploys again what is gone: after a reported loss that is for people to do.
func (t *trial) reported() error {
	s, err := t.agent.client.Status(t.ctx)
	if err != nil {
		return err
	}
	for _, f := range s.Store.Findings {
		t.notes = append(t.notes, "reported: "+f.Text)
		t.excused = t.excused || f.Lost > 0
	}
	there := map[string]string{}
	for _, f := range s.Functions {
		there[f.Name] = string(f.State)
	}
	for _, g := range usual(false) {
		if there[g.name] == string(admin.StateReady) {
			continue
		}
		if !t.excused && there[g.name] == "" {
			t.faults = append(t.faults, g.name+" is gone and nothing was reported")
		}
		if there[g.name] != "" {
			t.notes = append(t.notes, fmt.Sprintf("%s was %s", g.name, there[g.name]))
		}
		if err := t.deploy(g); err != nil {
			return err
		}
	}
	return nil
}
