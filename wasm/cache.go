package wasm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"mayfly/function"
)

// cache keeps native code on disk, one file per module and engine fingerprint, each authenticated with a key that never
// leaves the node: native code runs with the rights of the agent, so what this node did not compile itself is refused.
//
// A file is magic, MAC, native code; the MAC covers the fingerprint, the module's digest and the code.
type cache struct {
	dir         string
	fingerprint string
	suffix      string // of the files for this fingerprint
	key         []byte
	quota       int64
	log         *slog.Logger
	mu          sync.Mutex // one writer
	hits        atomic.Int64
	refused     atomic.Int64
}

const (
	cacheMagic  = "mayfly native 1\n"
	cacheHeader = len(cacheMagic) + sha256.Size
	cacheExt    = ".native"
	keyName     = "node.key"
)

// openCache makes the directory and the key when they are absent, and removes what a crash left half-written.
func openCache(dir, fingerprint string, quota int64, log *slog.Logger) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("wasm: native code cache: %w", err)
	}
	sum := sha256.Sum256([]byte(fingerprint))
	c := &cache{dir: dir, fingerprint: fingerprint, suffix: "-" + hex.EncodeToString(sum[:4]) + cacheExt, quota: quota, log: log}
	if err := c.sweep(); err != nil {
		return nil, fmt.Errorf("wasm: native code cache: %w", err)
	}
	key, err := c.loadKey()
	if err != nil {
		return nil, fmt.Errorf("wasm: key of the native code cache: %w", err)
	}
	c.key = key
	return c, nil
}

// sweep removes temporary files.
func (c *cache) sweep() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "tmp-") {
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadKey reads the key, or makes a new one when there is none or others could have read it; every entry is then refused
// and made again.
func (c *cache) loadKey() ([]byte, error) {
	path := filepath.Join(c.dir, keyName)
	key, err := os.ReadFile(path)
	if err == nil {
		st, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		if len(key) == sha256.Size && st.Mode().IsRegular() && st.Mode().Perm()&0o077 == 0 {
			return key, nil
		}
		c.log.Warn("key of the native code cache is damaged or was readable by others, making a new one", "file", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	return key, c.write(keyName, 0o600, key)
}

func (c *cache) path(d function.Digest) string {
	return filepath.Join(c.dir, hex.EncodeToString(d[:])+c.suffix)
}

func (c *cache) has(d function.Digest) bool {
	st, err := os.Stat(c.path(d))
	return err == nil && st.Size() > int64(cacheHeader)
}

// get returns the native code of a module. What does not carry this node's MAC is removed and reported as absent.
func (c *cache) get(d function.Digest) ([]byte, bool) {
	file, err := c.read(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err == nil && len(file) > cacheHeader && string(file[:len(cacheMagic)]) == cacheMagic {
		native := file[cacheHeader:]
		if hmac.Equal(file[len(cacheMagic):cacheHeader], c.mac(d, native)) {
			c.hits.Add(1)
			return native, true
		}
	}
	c.refused.Add(1)
	c.log.Warn("native code is damaged or forged, removing it", "module", d.Short(), "error", err)
	c.drop(d)
	return nil, false
}

// read reads a file once, through one descriptor: what is checked is what is loaded.
func (c *cache) read(d function.Digest) ([]byte, error) {
	f, err := os.Open(c.path(d))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > int64(cacheHeader)+maxNative {
		return nil, fmt.Errorf("not a file of native code: %v, %d bytes", st.Mode(), st.Size())
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

func (c *cache) mac(d function.Digest, native []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(c.fingerprint)))
	h.Write(n[:])
	h.Write([]byte(c.fingerprint))
	h.Write(d[:])
	h.Write(native)
	return h.Sum(nil)
}

// put keeps native code that this node's compiler just made. A failure costs only time: the module is compiled again
// after the next start.
func (c *cache) put(d function.Digest, native []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.write(filepath.Base(c.path(d)), 0o400, []byte(cacheMagic), c.mac(d, native), native)
	if err != nil {
		return err
	}
	return c.trim(filepath.Base(c.path(d)))
}

// write makes a file whole or not at all, also when the power goes.
func (c *cache) write(name string, mode fs.FileMode, parts ...[]byte) error {
	f, err := os.CreateTemp(c.dir, "tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left under this name on success
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, name))
	}
	if err == nil {
		err = syncDir(c.dir)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// trim removes files of other fingerprints, which this engine can never use, then the oldest, until the quota holds. It
// spares the one just written.
func (c *cache) trim(spare string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), cacheExt) || e.Name() == spare {
			continue
		}
		if !strings.HasSuffix(e.Name(), c.suffix) {
			os.Remove(filepath.Join(c.dir, e.Name()))
			continue
		}
		files, total = append(files, info), total+info.Size()
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= c.quota {
			break
		}
		if err := os.Remove(filepath.Join(c.dir, f.Name())); err != nil {
			return err
		}
		total -= f.Size()
	}
	return nil
}

// drop removes a module's native code.
func (c *cache) drop(d function.Digest) {
	if err := os.Remove(c.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("cannot remove native code", "module", d.Short(), "error", err)
	}
}
