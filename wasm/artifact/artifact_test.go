package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"mayfly/function"
)

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Floor == 0 {
		o.Floor = 1
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s *Store, text string) function.Digest {
	t.Helper()
	d := function.DigestOf([]byte(text))
	if err := s.Put(d, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	return d
}

func wantKind(t testing.TB, err error, kind string) {
	t.Helper()
	var e *function.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Hint == "" || e.Class == function.ClassNone {
		t.Errorf("error %v of kind %q, want %q with class and hint", err, function.KindOf(err), kind)
	}
}

// files returns the names in a directory.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPutReadRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir, Options{})
	d := put(t, s, "module")
	put(t, s, "module") // again
	if b, err := s.Read(d); err != nil || string(b) != "module" {
		t.Errorf("read %q, %v", b, err)
	}
	if st := s.Stats(); st.Count != 1 || st.Bytes != 6 || st.Quota != 256<<20 {
		t.Errorf("stats %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if l := s.List(); len(l) != 1 || l[0].Digest != d || l[0].Size != 6 || l[0].Used.IsZero() || !s.Has(d) {
		t.Errorf("after opening again: %+v", l)
	}
	for range 2 {
		if err := s.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Read(d)
	wantKind(t, err, "absent")
	if !errors.Is(err, fs.ErrNotExist) || s.Has(d) || len(files(t, dir)) != 0 {
		t.Errorf("after removal: %v, %v", err, files(t, dir))
	}
}

func TestPutRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxSize: 10})
	d := function.DigestOf([]byte("module"))
	wantKind(t, s.Put(d, strings.NewReader("modulE"), nil), "digest")
	wantKind(t, s.Put(d, strings.NewReader("mod"), nil), "digest")
	wantKind(t, s.Put(d, strings.NewReader("more than ten"), nil), "too-large")
	wantKind(t, s.Put(d, io.MultiReader(strings.NewReader("mod"), iotest.ErrReader(errors.New("connection reset"))), nil), "source")
	if len(files(t, dir)) != 0 || s.Has(d) {
		t.Errorf("left behind: %v", files(t, dir))
	}
	put(t, s, "ten bytes!")
	s.free = func() (int64, error) { return 10, nil }
	wantKind(t, s.Put(d, strings.NewReader("module"), nil), "disk-full")
	s.free = func() (int64, error) { return 0, syscall.EIO }
	wantKind(t, s.Put(d, strings.NewReader("module"), nil), "disk")
}

func TestDamagedFileIsNeverServed(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[3] ^= 1; return b },
		"cut":         func(b []byte) []byte { return b[:4] },
		"empty":       func([]byte) []byte { return nil },
		"longer":      func(b []byte) []byte { return append(b, bytes.Repeat([]byte("x"), 100)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Options{MaxSize: 64})
			d := put(t, s, "module")
			path := filepath.Join(dir, fileOf(d))
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage([]byte("module")), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Read(d)
			wantKind(t, err, "corrupt")
			_, err = s.Read(d)
			wantKind(t, err, "absent")
			if st := s.Stats(); st.Corrupt != 1 || st.Quarantine != 1 || st.Count != 0 {
				t.Errorf("stats %+v", st)
			}
			put(t, s, "module")
			if b, err := s.Read(d); err != nil || string(b) != "module" {
				t.Errorf("put again: %q, %v", b, err)
			}
			if s = open(t, dir, Options{}); s.Stats().Quarantine != 1 || s.Stats().Count != 1 {
				t.Errorf("after opening again: %+v", s.Stats())
			}
		})
	}
}

func TestVanishedFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	d := put(t, s, "module")
	if err := os.Remove(filepath.Join(dir, fileOf(d))); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(d)
	wantKind(t, err, "absent")
	if s.Has(d) {
		t.Error("it is still listed")
	}
}

func TestOpenCleansUp(t *testing.T) {
	dir := t.TempDir()
	d := function.DigestOf([]byte("m"))
	for _, name := range []string{"abc-1.tmp", fileOf(d), "notes.txt", "short.wasm", strings.ToUpper(fileOf(d)[:64]) + ".wasm"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("m"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Options{})
	if st := s.Stats(); st.Leftovers != 1 || st.Count != 1 {
		t.Errorf("stats %+v", st)
	}
	if got := files(t, dir); len(got) != 5 {
		t.Errorf("what is not ours was touched: %v", got)
	}
}

func TestOpenFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, Options{})
	wantKind(t, err, "disk")
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the directory: %v", err)
	}
}

func TestQuota(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Quota: 30})
	a, b, c := put(t, s, strings.Repeat("a", 10)), put(t, s, strings.Repeat("b", 10)), put(t, s, strings.Repeat("c", 10))
	if _, err := s.Read(a); err != nil { // b is now the least recently used
		t.Fatal(err)
	}
	text := strings.Repeat("d", 10)
	d := function.DigestOf([]byte(text))
	deployed := func(x function.Digest) bool { return x == c }
	if err := s.Put(d, strings.NewReader(text), deployed); err != nil {
		t.Fatal(err)
	}
	if !s.Has(a) || s.Has(b) || !s.Has(c) || !s.Has(d) || s.Stats().Evicted != 1 {
		t.Errorf("after eviction: %+v, %+v", s.List(), s.Stats())
	}
	big := strings.Repeat("e", 21)
	err := s.Put(function.DigestOf([]byte(big)), strings.NewReader(big), deployed)
	wantKind(t, err, "quota")
	if len(s.List()) != 3 || s.Stats().Evicted != 1 {
		t.Errorf("something was evicted in vain: %+v", s.List())
	}
	wantKind(t, s.Put(function.DigestOf([]byte("x")), strings.NewReader("x"), nil), "quota")
	if got := files(t, dir); len(got) != 3 {
		t.Errorf("files %v", got)
	}
}

func TestQuarantineGoesFirst(t *testing.T) {
	s := open(t, t.TempDir(), Options{Quota: 20})
	a, b := put(t, s, strings.Repeat("a", 10)), put(t, s, strings.Repeat("b", 10))
	if err := s.root.Remove(fileOf(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.root.WriteFile(fileOf(a), []byte("damaged it"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(a)
	wantKind(t, err, "corrupt")
	put(t, s, strings.Repeat("c", 10))
	if st := s.Stats(); !s.Has(b) || st.Quarantine != 0 || st.Evicted != 0 || st.Bytes != 20 {
		t.Errorf("stats %+v", st)
	}
}

// TestDiskErrors checks that a person is told what is wrong with the disk.
func TestDiskErrors(t *testing.T) {
	for err, kind := range map[error]string{
		syscall.ENOSPC: "disk-full", syscall.EDQUOT: "disk-full", syscall.EROFS: "read-only", syscall.EACCES: "permission", syscall.EIO: "disk",
	} {
		got := diskError("put artifact", "x", &fs.PathError{Op: "write", Path: "x", Err: err})
		wantKind(t, got, kind)
		if !errors.Is(got, err) {
			t.Errorf("%v lost its cause", got)
		}
	}
	if diskError("x", "y", nil) != nil {
		t.Error("no error became one")
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir(), Options{Quota: 3000})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				text := strings.Repeat(fmt.Sprint((i+j)%5), 500)
				d := function.DigestOf([]byte(text))
				if err := s.Put(d, strings.NewReader(text), func(function.Digest) bool { return false }); err != nil {
					t.Error(err)
				}
				if b, err := s.Read(d); err == nil && string(b) != text {
					t.Errorf("read %q", b)
				} else if err != nil && function.KindOf(err) != "absent" {
					t.Error(err)
				}
				_ = s.Remove(d)
			}
		})
	}
	wg.Wait()
}

// TestModel runs random operations, with the store closed and opened between them, against a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		s := open(t, dir, Options{Quota: 40})
		model := map[string]bool{}
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			text := strings.Repeat(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(rt, "module"), 10)
			d := function.DigestOf([]byte(text))
			switch rapid.IntRange(0, 3).Draw(rt, "op") {
			case 0:
				err := s.Put(d, strings.NewReader(text), nil)
				if fits := model[text] || len(model) < 4; fits != (err == nil) {
					rt.Fatalf("put with %d modules there: %v", len(model), err)
				}
				if err == nil {
					model[text] = true
				}
			case 1:
				if b, err := s.Read(d); (err == nil) != model[text] || err == nil && string(b) != text {
					rt.Fatalf("read %q, %v; there: %t", b, err, model[text])
				}
			case 2:
				if err := s.Remove(d); err != nil {
					rt.Fatal(err)
				}
				delete(model, text)
			case 3:
				_ = s.Close()
				s = open(t, dir, Options{Quota: 40})
			}
			if st := s.Stats(); st.Count != len(model) || st.Bytes != int64(10*len(model)) {
				rt.Fatalf("stats %+v, model %v", st, model)
			}
		}
	})
}
