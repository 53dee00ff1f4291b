package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Drive is a device with an ext4 on it, mounted at Dir. Its methods must not be called concurrently.
type Drive struct {
	Dir string

	device *Device
	fuse   *server
	below  string // where the device is served
	loop   string
}

// New makes a drive of that size below dir and mounts it. It needs root, /dev/fuse, a free loop device and mkfs.ext4, and says
// which is missing.
func New(ctx context.Context, dir string, size int64) (*Drive, error) {
	d := &Drive{Dir: filepath.Join(dir, "mounted"), below: filepath.Join(dir, "device")}
	for _, sub := range []string{d.Dir, d.below} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, err
		}
	}
	image := filepath.Join(dir, "image")
	var err error
	if d.device, err = NewDevice(image, size); err != nil {
		return nil, err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return nil, errors.Join(err, d.device.Close())
	}
	return d, d.attach(ctx)
}

func command(ctx context.Context, name string, args ...string) error {
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/bin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			name = dir + name
			break
		}
	}
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// attach serves the device and mounts what is on it, which replays the file system's journal.
func (d *Drive) attach(ctx context.Context) (err error) {
	if d.fuse, err = serve(d.below, d.device); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "/usr/sbin/losetup", "--find", "--show", filepath.Join(d.below, fileName)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("losetup: %w: %s; a power cut needs a free loop device and root", err, out)
	}
	d.loop = strings.TrimSpace(string(out))
	if err := unix.Mount(d.loop, d.Dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", d.loop, err)
	}
	return nil
}

// detach gives everything but the device up.
func (d *Drive) detach(ctx context.Context) error {
	var faults []error
	if err := unix.Unmount(d.Dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		faults = append(faults, fmt.Errorf("unmount: %w", err))
	}
	if d.loop != "" {
		faults = append(faults, command(ctx, "losetup", "--detach", d.loop))
		d.loop = ""
	}
	if d.fuse != nil {
		faults = append(faults, d.fuse.close())
		d.fuse = nil
	}
	return errors.Join(faults...)
}

// Cut takes the power away, has those who use the drive killed, and gives the power back. It returns how many writes were at stake.
func (d *Drive) Cut(ctx context.Context, chance *rand.Rand, kill func() error, gone func() error) (int, error) {
	n, err := d.device.Cut(chance)
	if err != nil {
		return 0, err
	}
	err = kill()
	d.device.Release()
	if err = errors.Join(err, gone()); err == nil {
		err = d.detach(ctx)
	}
	d.device.Power()
	if err != nil {
		return n, err
	}
	return n, d.attach(ctx)
}

// Flushes returns how often the device was flushed.
func (d *Drive) Flushes() int { return d.device.Flushes() }

// Close unmounts everything. Nobody may be using the drive.
func (d *Drive) Close(ctx context.Context) error {
	d.device.Release()
	return errors.Join(d.detach(ctx), d.device.Close())
}
