package wasm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/function"
	"mayfly/wasm/admission"
)

func testCache(t *testing.T, dir, fingerprint string, quota int64) *cache {
	t.Helper()
	c, err := openCache(dir, fingerprint, quota, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCacheGivesBackWhatItGot(t *testing.T) {
	dir := t.TempDir()
	c := testCache(t, dir, "f", 1<<20)
	d := function.DigestOf([]byte("module"))
	if _, ok := c.get(d); ok || c.has(d) {
		t.Fatal("an empty cache has it")
	}
	if err := c.put(d, []byte("native")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*cache{c, testCache(t, dir, "f", 1<<20)} { // and after a restart
		if got, ok := c.get(d); !ok || string(got) != "native" || !c.has(d) {
			t.Errorf("got %q, %v", got, ok)
		}
	}
	if _, ok := testCache(t, dir, "another engine", 1<<20).get(d); ok {
		t.Error("another engine gets it")
	}
	for name, want := range map[string]os.FileMode{keyName: 0o600, filepath.Base(c.path(d)): 0o400, ".": 0o700} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || name != "." && st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", name, st.Mode(), err, want)
		}
	}
}

// Native code is only ever taken from this node's own compiler. Every other file is refused, counted and removed.
func TestForgedAndDamagedEntriesAreRefused(t *testing.T) {
	d, other := function.DigestOf([]byte("module")), function.DigestOf([]byte("other"))
	native := bytes.Repeat([]byte("native code "), 100)
	for name, harm := range map[string]func(dir string, c *cache, file []byte) []byte{
		"bit of the code":  func(_ string, _ *cache, b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"bit of the MAC":   func(_ string, _ *cache, b []byte) []byte { b[len(cacheMagic)] ^= 1; return b },
		"bit of the magic": func(_ string, _ *cache, b []byte) []byte { b[0] ^= 1; return b },
		"cut short":        func(_ string, _ *cache, b []byte) []byte { return b[:len(b)-7] },
		"longer":           func(_ string, _ *cache, b []byte) []byte { return append(b, 0) },
		"only a header":    func(_ string, _ *cache, b []byte) []byte { return b[:cacheHeader] },
		"empty":            func(string, *cache, []byte) []byte { return nil },
		"of another module": func(_ string, c *cache, _ []byte) []byte {
			if err := c.put(other, native); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(c.path(other))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		"of another engine": func(dir string, _ *cache, _ []byte) []byte { return entryOf(t, dir, "another", d, native) },
		"of another node":   func(_ string, _ *cache, _ []byte) []byte { return entryOf(t, t.TempDir(), "f", d, native) },
	} {
		dir := t.TempDir()
		c := testCache(t, dir, "f", 1<<20)
		if err := c.put(d, native); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(c.path(d))
		if err != nil {
			t.Fatal(err)
		}
		file = harm(dir, c, file)
		if err := os.Remove(c.path(d)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path(d), file, 0o400); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.get(d); ok {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Stat(c.path(d)); !errors.Is(err, os.ErrNotExist) || c.refused.Load() != 1 {
			t.Errorf("%s: still there (%v), refused %d", name, err, c.refused.Load())
		}
	}
}

// entryOf is the file that a cache in dir with that fingerprint makes.
func entryOf(t *testing.T, dir, fingerprint string, d function.Digest, native []byte) []byte {
	c := testCache(t, dir, fingerprint, 1<<20)
	if err := c.put(d, native); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.path(d))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyThatOthersCouldReadIsReplaced(t *testing.T) {
	d := function.DigestOf([]byte("module"))
	for name, harm := range map[string]func(path string) error{
		"readable": func(path string) error { return os.Chmod(path, 0o640) },
		"short":    func(path string) error { return os.WriteFile(path, []byte("short"), 0o600) },
		"link": func(path string) error {
			return errors.Join(os.Rename(path, path+".away"), os.Symlink(path+".away", path))
		},
	} {
		dir := t.TempDir()
		c := testCache(t, dir, "f", 1<<20)
		if err := errors.Join(c.put(d, []byte("native")), harm(filepath.Join(dir, keyName))); err != nil {
			t.Fatal(err)
		}
		again := testCache(t, dir, "f", 1<<20)
		if bytes.Equal(again.key, c.key) {
			t.Errorf("%s: the key is still used", name)
		}
		if _, ok := again.get(d); ok {
			t.Errorf("%s: an entry under the old key is accepted", name)
		}
		if st, err := os.Lstat(filepath.Join(dir, keyName)); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: new key: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestQuotaAndLeftovers(t *testing.T) {
	dir := t.TempDir()
	old := testCache(t, dir, "an older engine", 1<<20)
	d := func(i int) function.Digest { return function.DigestOf([]byte{byte(i)}) }
	if err := errors.Join(old.put(d(0), make([]byte, 100)), os.WriteFile(filepath.Join(dir, "tmp-123"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c := testCache(t, dir, "f", 3000)
	for i := range 6 {
		if err := c.put(d(i), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if !c.has(d(5)) || c.has(d(0)) || old.has(d(0)) {
		t.Error("the newest must be there, the oldest and those of other engines must not")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1+3 { // the key, two within the quota, and the newest beside it
		t.Errorf("%d files: %v, %v", len(entries), entries, err)
	}
}

// A directory nobody can write to costs a compilation after each start, nothing else.
func TestInvokeWithoutARoomInTheCache(t *testing.T) {
	r := newRig(t, nil)
	if err := os.RemoveAll(r.cfg.CacheDir); err != nil {
		t.Fatal(err)
	}
	f := r.function(handler(echo))
	if res := r.must(f, "x"); len(res.Publishes) != 1 {
		t.Errorf("%+v", res)
	}
}

func TestSecondStartNeedsNoCompiler(t *testing.T) {
	dir := t.TempDir()
	config := func(c *Config) { c.CacheDir = dir }
	first := newRig(t, config)
	module := wat(t, handler(echo))
	info, err := first.Compile(context.Background(), module, admission.Limits{})
	if err != nil || info.Cached || info.Native == 0 || info.ABI != function.ABIMayfly || info.Took <= 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	if info, err = first.Compile(context.Background(), module, admission.Limits{}); err != nil || !info.Cached {
		t.Fatalf("%+v, %v", info, err)
	}
	first.Close()

	second := newRig(t, func(c *Config) { config(c); c.Modules = nil; c.CompileCommand = []string{"/nonexistent"} })
	f := second.functionOf(module)
	if err := second.Load(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	second.must(f, "x")
	second.Close()

	// A damaged entry is compiled again, and a new start finds it whole.
	path := first.cache.path(f.Module)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o400)); err != nil {
		t.Fatal(err)
	}
	third := newRig(t, config)
	third.must(third.functionOf(module), "x")
	if s := third.Stats(); s.CacheRefused != 1 || s.Compiles != 1 {
		t.Errorf("%+v", s)
	}
	if _, ok := third.cache.get(f.Module); !ok {
		t.Error("not kept again")
	}
}

// Authentic native code that the library refuses (another processor, say) is compiled again.
func TestUnusableNativeCodeIsCompiledAgain(t *testing.T) {
	r := newRig(t, nil)
	f := r.function(handler(echo))
	if err := r.cache.put(f.Module, []byte(strings.Repeat("not an ELF image", 100))); err != nil {
		t.Fatal(err)
	}
	r.must(f, "x")
	if s := r.Stats(); s.Compiles != 1 {
		t.Errorf("%+v", s)
	}
}
