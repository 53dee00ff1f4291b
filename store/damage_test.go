package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const damageRecords = 1500

func damageValue(n int) string { return fmt.Sprintf("%06d-%s", n, strings.Repeat("x", 3600)) }

// damageStore makes a store with tables, a manifest with history, and, when killed, a log with records in it.
func damageStore(t *testing.T, killed bool) string {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), MemTable: 2 << 20}
	r, _ := open(t, cfg)
	last := make(chan error, 1)
	for n := range damageRecords {
		done := func(error) {}
		if n == damageRecords-1 {
			done = func(err error) { last <- err }
		}
		for {
			err := r.Submit([]Op{{Key: crashKey(n), Value: []byte(damageValue(n))}}, done)
			if err == nil {
				break
			} else if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			r.put(t, set("s/wait", ""))
		}
	}
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	if !killed {
		r.shutdown(t)
		return cfg.Dir
	}
	defer r.shutdown(t)
	for range 100 { // a copy of the files while it runs, until nothing was going on meanwhile
		copied, tried := t.TempDir(), t.TempDir()
		if os.CopyFS(copied, os.DirFS(cfg.Dir)) != nil || os.CopyFS(tried, os.DirFS(copied)) != nil {
			continue
		}
		s, report, err := Open(Config{Dir: tried, MemTable: 2 << 20, Floor: 1, Ballast: -1}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if report.Clean() && report.Records >= damageRecords {
			return copied
		}
	}
	t.Fatal("it never came to rest")
	return ""
}

// TestDamage (promise D8): whatever happens to any file, the store opens again and serves; a record is either right, or reading
// it is an error, or its loss is in the report. Wrong values are never returned.
func TestDamage(t *testing.T) {
	harm := map[string]func(b []byte) []byte{
		"flip a bit": func(b []byte) []byte {
			if len(b) > 0 {
				b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
			}
			return b
		},
		"flip near the end": func(b []byte) []byte {
			if len(b) > 0 {
				b[len(b)-1-rand.IntN(min(len(b), 60))] ^= 1 << rand.IntN(8)
			}
			return b
		},
		"flip near the start": func(b []byte) []byte {
			if len(b) > 0 {
				b[rand.IntN(min(len(b), 3000))] ^= 1 << rand.IntN(8)
			}
			return b
		},
		"cut 3 bytes":    func(b []byte) []byte { return b[:max(len(b)-3, 0)] },
		"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"cut to nothing": func(b []byte) []byte { return nil },
		"zero a page": func(b []byte) []byte {
			at := rand.IntN(len(b) + 1)
			clear(b[at:min(at+4096, len(b))])
			return b
		},
		"delete": nil,
	}
	for _, killed := range []bool{false, true} {
		source := damageStore(t, killed)
		for _, kind := range []string{"db/*.sst", "db/*.mem", "db/MANIFEST", "db/KEYREGISTRY", "db/*.vlog", "db/DISCARD", "mark"} {
			for name, do := range harm {
				if !slices.Contains([]string{"db/*.sst", "db/*.mem", "db/MANIFEST"}, kind) && strings.Contains(name, "near") {
					continue // small, or full of zeros
				}
				if files, _ := filepath.Glob(filepath.Join(source, kind)); len(files) > 0 {
					t.Run(fmt.Sprintf("killed=%v/%s/%s", killed, filepath.Base(kind), name), func(t *testing.T) {
						damageOne(t, source, files[rand.IntN(len(files))], do)
					})
				}
			}
		}
	}
}

func damageOne(t *testing.T, source, file string, do func([]byte) []byte) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(dir, strings.TrimPrefix(file, source))
	b, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	if do == nil {
		err = os.Remove(victim)
	} else {
		err = os.WriteFile(victim, do(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, report := open(t, Config{Dir: dir, MemTable: 2 << 20})
	defer r.shutdown(t)
	missing, errs := 0, 0
	for n := range damageRecords {
		v, version, err := r.Get(crashKey(n))
		switch {
		case err != nil:
			errs++
		case version == 0:
			missing++
		case string(v) != damageValue(n):
			t.Fatalf("record %d has a wrong value", n)
		}
	}
	if missing > 0 && report.Lost+report.LostWrites < uint64(missing) && report.Quarantined == "" {
		t.Errorf("%d records are missing, the report says %+v", missing, report)
	}
	if uint64(errs) > report.Corrupt {
		t.Errorf("%d records are damaged, the report says %+v", errs, report)
	}
	r.put(t, set("s/after", "works"))
	want(t, r.Store, "s/after", "works")
	if missing+errs > 0 || !report.Clean() {
		t.Logf("%s: %d missing, %d damaged: %+v", filepath.Base(file), missing, errs, report)
	}
}
