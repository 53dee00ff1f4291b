package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The part of the FUSE protocol (include/uapi/linux/fuse.h, 7.31) that one file in one directory needs.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReleasedir  = 29
	opAccess      = 34
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42

	inHeader = 40
	maxWrite = 128 << 10

	rootNode, fileNode = 1, 2
	fileName           = "disk"
)

// server answers the kernel for one mount.
type server struct {
	fd    int
	dir   string
	disk  *Device
	ended sync.WaitGroup
}

// serve mounts a directory that holds the device as the file "disk".
func serve(dir string, d *Device) (*server, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/fuse: %w; a power cut needs FUSE, loop devices and root", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("torture", dir, "fuse.torture", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, errors.Join(fmt.Errorf("mount fuse: %w; a power cut needs root", err), unix.Close(fd))
	}
	s := &server{fd: fd, dir: dir, disk: d}
	s.ended.Go(s.run)
	return s, nil
}

// close unmounts and waits for the server's end.
func (s *server) close() error {
	err := unix.Unmount(s.dir, unix.MNT_DETACH)
	s.ended.Wait()
	return errors.Join(err, unix.Close(s.fd))
}

func (s *server) run() {
	buf := make([]byte, maxWrite+4096)
	for {
		n, err := unix.Read(s.fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < inHeader {
			return // unmounted
		}
		op, id := binary.LittleEndian.Uint32(buf[4:]), binary.LittleEndian.Uint64(buf[8:])
		node := binary.LittleEndian.Uint64(buf[16:])
		body, errno := s.answer(op, node, buf[inHeader:n])
		switch op {
		case opForget, opBatchForget, opInterrupt:
			continue // not to be answered
		}
		out := make([]byte, 16, 16+len(body))
		if errno != 0 {
			body = nil
		}
		binary.LittleEndian.PutUint32(out, uint32(16+len(body)))
		binary.LittleEndian.PutUint32(out[4:], uint32(-int32(errno)))
		binary.LittleEndian.PutUint64(out[8:], id)
		if _, err := unix.Write(s.fd, append(out, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

func (s *server) answer(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	le := binary.LittleEndian
	switch op {
	case opInit:
		out := make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[8:], 128<<10) // readahead
		le.PutUint32(out[12:], 1<<5)   // FUSE_BIG_WRITES
		le.PutUint16(out[16:], 16)
		le.PutUint16(out[18:], 12)
		le.PutUint32(out[20:], maxWrite)
		return out, 0
	case opLookup:
		if node != rootNode || string(in) != fileName+"\x00" {
			return nil, unix.ENOENT
		}
		out := make([]byte, 40, 128)
		le.PutUint64(out, fileNode)
		le.PutUint64(out[16:], 3600)
		le.PutUint64(out[24:], 3600)
		return append(out, s.attributes(fileNode)...), 0
	case opGetattr, opSetattr:
		out := make([]byte, 16, 104)
		le.PutUint64(out, 3600)
		return append(out, s.attributes(node)...), 0
	case opOpen, opOpendir:
		return make([]byte, 16), 0
	case opRead:
		return s.read(int64(le.Uint64(in[8:])), int64(le.Uint32(in[16:])))
	case opWrite:
		return s.write(int64(le.Uint64(in[8:])), in[40:40+le.Uint32(in[16:])])
	case opFsync:
		if s.disk.Flush() != nil {
			return nil, unix.EIO
		}
		return nil, 0
	case opStatfs:
		return make([]byte, 80), 0
	case opRelease, opReleasedir, opFlush, opAccess, opDestroy, opForget, opBatchForget, opInterrupt:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

func (s *server) attributes(node uint64) []byte {
	le := binary.LittleEndian
	out := make([]byte, 88)
	le.PutUint64(out, node)
	mode, links := uint32(unix.S_IFDIR|0o700), uint32(2)
	if node == fileNode {
		mode, links = unix.S_IFREG|0o600, 1
		le.PutUint64(out[8:], uint64(s.disk.size))
		le.PutUint64(out[16:], uint64(s.disk.size/sector))
	}
	le.PutUint32(out[60:], mode)
	le.PutUint32(out[64:], links)
	le.PutUint32(out[80:], 4096)
	return out
}

func (s *server) read(at, n int64) ([]byte, unix.Errno) {
	p := make([]byte, max(0, min(n, s.disk.size-at)))
	if len(p) == 0 {
		return nil, 0
	}
	if _, err := s.disk.ReadAt(p, at); err != nil {
		return nil, unix.EIO
	}
	return p, 0
}

func (s *server) write(at int64, data []byte) ([]byte, unix.Errno) {
	if at+int64(len(data)) > s.disk.size {
		return nil, unix.ENOSPC
	}
	if _, err := s.disk.WriteAt(data, at); err != nil {
		return nil, unix.EIO
	}
	out := make([]byte, 8)
	binary.LittleEndian.PutUint32(out, uint32(len(data)))
	return out, 0
}
