package artifact

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"mayfly/function"
)

var errReset = errors.New("connection reset")

// cut is a source that breaks after text.
func cut(text string) io.Reader {
	return io.MultiReader(strings.NewReader(text), iotest.ErrReader(errReset))
}

func TestPartIsResumedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	d := function.DigestOf([]byte("module"))
	err := s.Extend(d, 0, cut("mod"))
	wantKind(t, err, "source")
	if !errors.Is(err, errReset) || s.Part(d) != 3 || s.Has(d) {
		t.Errorf("%v, %d bytes", err, s.Part(d))
	}
	if st := s.Stats(); st.Parts != 1 || st.Bytes != 3 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if s.Part(d) != 3 {
		t.Fatalf("%d bytes after a restart", s.Part(d))
	}
	wantKind(t, s.Extend(d, 2, strings.NewReader("dule")), "position")
	if err := s.Extend(d, 3, strings.NewReader("ule")); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(d, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Read(d); err != nil || string(b) != "module" || s.Part(d) != 0 || len(files(t, dir)) != 1 {
		t.Errorf("%q %v, files %v", b, err, files(t, dir))
	}
}

func TestWrongPartIsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxSize: 10})
	d := function.DigestOf([]byte("module"))
	for _, text := range []string{"modulE", "mod", "module and", ""} {
		if err := s.Extend(d, 0, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.Publish(d, nil), "digest")
		if s.Has(d) || s.Part(d) != 0 || len(files(t, dir)) != 0 {
			t.Errorf("%q: left %v", text, files(t, dir))
		}
	}
	wantKind(t, s.Extend(d, 0, strings.NewReader("more than ten")), "too-large")
	if err := s.Discard(d); err != nil || s.Part(d) != 0 || len(files(t, dir)) != 0 {
		t.Errorf("%v, left %v", err, files(t, dir))
	}
	if err := s.Discard(d); err != nil {
		t.Error(err)
	}
}

func TestPartsAreBoundedAndGoBeforeModules(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Quota: 100})
	var all []function.Digest
	for i := range maxParts + 1 {
		d := function.DigestOf(fmt.Append(nil, i))
		all = append(all, d)
		wantKind(t, s.Extend(d, 0, cut("0123456789")), "source")
	}
	if s.Part(all[0]) != 0 || s.Part(all[1]) != 10 || s.Stats().Parts != maxParts || len(files(t, dir)) != maxParts {
		t.Errorf("%+v, files %v", s.Stats(), files(t, dir))
	}
	keep := put(t, s, strings.Repeat("k", 60)) // 140 with the parts
	if st := s.Stats(); !s.Has(keep) || st.Bytes > 100 || st.Evicted != 0 {
		t.Errorf("%+v", st)
	}
	// What is published takes no room twice.
	text := strings.Repeat("n", 40)
	d := function.DigestOf([]byte(text))
	if err := s.Extend(d, 0, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(d, func(x function.Digest) bool { return x == keep }); err != nil || !s.Has(keep) || !s.Has(d) {
		t.Errorf("%v %+v", err, s.Stats())
	}
	big := strings.Repeat("b", 70)
	d = function.DigestOf([]byte(big))
	if err := s.Extend(d, 0, strings.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Publish(d, nil), "quota")
	if s.Part(d) != 0 || len(files(t, dir)) != 2 {
		t.Errorf("left %v", files(t, dir))
	}
}

func TestOnePartOneWriter(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	d := function.DigestOf([]byte("module"))
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.Extend(d, 0, r) }()
	if _, err := w.Write([]byte("mod")); err != nil { // it is being extended now
		t.Fatal(err)
	}
	wantKind(t, s.Extend(d, 0, strings.NewReader("x")), "busy")
	wantKind(t, s.Publish(d, nil), "busy")
	if err := s.Discard(d); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("ule")); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(d, nil); err != nil || !s.Has(d) {
		t.Errorf("%v", err)
	}
}

// Every step of fetching may fail, or be the last before the process dies: the module is there whole or not at all, and the
// next process can fetch it.
func TestEveryStepOfAPartMayFail(t *testing.T) {
	for _, dead := range []bool{false, true} {
		for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
			done := false
			for steps := 0; !done; steps++ {
				if steps > 20 {
					t.Fatal("more steps than expected")
				}
				done = fetchWithFault(t, steps, dead, fault)
			}
		}
	}
}

func fetchWithFault(t *testing.T, steps int, dead bool, fault error) bool {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	const text = "the whole module"
	d := function.DigestOf([]byte(text))
	whole := s.disk
	s.disk = &faultyDisk{disk: whole, steps: steps, dead: dead, fault: fault, torn: true}
	err := s.Extend(d, 0, cut(text[:5]))
	if function.KindOf(err) == "source" {
		err = s.Extend(d, s.Part(d), strings.NewReader(text[s.Part(d):]))
	}
	if err == nil {
		err = s.Publish(d, nil)
	}
	if err != nil && (!errors.Is(err, fault) || s.Has(d)) {
		t.Errorf("step %d: %v, there: %t", steps, err, s.Has(d))
	}
	again := open(t, dir, Options{})
	if b, rerr := again.Read(d); rerr == nil && string(b) != text || rerr != nil && err == nil {
		t.Fatalf("step %d: %q %v", steps, b, rerr)
	} else if rerr == nil {
		return err == nil
	}
	if at := again.Part(d); at > int64(len(text)) {
		t.Errorf("step %d: %d bytes", steps, at)
	} else if err := again.Extend(d, at, strings.NewReader(text[at:])); err != nil {
		t.Errorf("step %d: %v", steps, err)
	}
	if perr := again.Publish(d, nil); perr != nil || !again.Has(d) {
		t.Errorf("step %d: fetched again: %v", steps, perr)
	}
	return false
}

// A power cut may leave a part longer than what was written of it.
func TestTornPartIsFound(t *testing.T) {
	dir := t.TempDir()
	d := function.DigestOf([]byte("module"))
	if err := os.WriteFile(filepath.Join(dir, partOf(d)), []byte{0, 0, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Options{})
	if err := s.Extend(d, s.Part(d), strings.NewReader("ule")); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Publish(d, nil), "digest")
	if s.Has(d) || s.Part(d) != 0 {
		t.Error("it is there")
	}
}
