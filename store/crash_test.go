package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const childEnv = "MAYFLY_STORE_TEST_CHILD"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	switch role, arg, _ := strings.Cut(os.Getenv(childEnv), "="); role {
	case "writer":
		writer(arg)
	case "tiny-disk":
		os.Exit(tinyDisk(arg))
	default:
		os.Exit(m.Run())
	}
}

func crashKey(n int) []byte { return State.SeqKey("crash", uint64(n)) }

// writer writes records for ever and says which are synced. Each batch also rewrites a counter, so atomicity shows.
func writer(dir string) {
	s, report, err := Open(Config{Dir: dir, MemTable: 2 << 20, Floor: 1, Ballast: -1}, quiet())
	if err != nil || !report.Clean() {
		fmt.Printf("! %v %+v\n", err, report)
		os.Exit(1)
	}
	raw, _, err := s.Get([]byte("s/count"))
	if err != nil {
		fmt.Printf("! %v\n", err)
		os.Exit(1)
	}
	n, _ := strconv.Atoi(string(raw))
	go func() { _ = s.Run(context.Background()) }()
	slots := make(chan struct{}, 64)
	out := bufio.NewWriter(os.Stdout)
	var mu sync.Mutex
	for n := n + 1; ; n++ {
		slots <- struct{}{}
		ops := []Op{
			{Key: crashKey(n), Value: bytes.Repeat([]byte{byte(n)}, 700)},
			{Key: []byte("s/count"), Value: []byte(strconv.Itoa(n))},
		}
		if err := s.Submit(ops, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				fmt.Fprintln(out, n)
				out.Flush()
			}
			<-slots
		}); err != nil {
			fmt.Printf("! %v\n", err)
			os.Exit(1)
		}
	}
}

// TestKilledWriterLosesNothing (promise D1): what was acknowledged before kill -9 is there afterwards, round after round
// on the same directory, across log rotations and compactions. It says nothing about power cuts, see TestPowerCut.
func TestKilledWriterLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acked := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"=writer="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		goal := acked + 1500 + rand.IntN(1500)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("round %d: the writer says %q", round, lines.Text())
			}
			if acked = n; acked == goal {
				_ = cmd.Process.Kill() // checked by the end of its output
			}
		}
		_, _ = io.Copy(io.Discard, pipe)
		_ = cmd.Wait() // killed
		if acked < goal {
			t.Fatalf("round %d: the writer ended by itself at %d", round, acked)
		}
		verifyCrash(t, dir, acked)
	}
	t.Logf("%d acknowledged, none lost", acked)
}

// verifyCrash checks that all records up to the counter are there, and the counter is at least acked.
func verifyCrash(t *testing.T, dir string, acked int) {
	t.Helper()
	s, report, err := Open(Config{Dir: dir, MemTable: 2 << 20, Floor: 1, Ballast: -1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !report.Clean() {
		t.Fatalf("report: %+v", report)
	}
	raw, _, err := s.Get([]byte("s/count"))
	if err != nil {
		t.Fatal(err)
	}
	count, _ := strconv.Atoi(string(raw))
	if count < acked || report.Records != uint64(count)+1 {
		t.Fatalf("%d acknowledged, counter %d, %d records", acked, count, report.Records)
	}
	for n := 1; n <= count; n++ {
		v, _, err := s.Get(crashKey(n))
		if err != nil || len(v) != 700 || v[0] != byte(n) {
			t.Fatalf("record %d of %d: %d bytes, %v", n, count, len(v), err)
		}
	}
}

// TestPowerCut plays a power cut at every fifth sync: the log is as it was at the end of one sync with any subset of the pages
// written until the next one, the mark is any that was ever written, all other files are as the database synced them. Everything
// acknowledged by that sync must be there.
func TestPowerCut(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MemTable: 2 << 20}
	var images []cut
	var before cut // after the last sync
	acked, syncs := 0, 0
	cfg.seam.sync = func(f *os.File) error {
		now, err := os.ReadFile(f.Name())
		if err != nil {
			return err
		}
		if syncs++; syncs%5 == 0 && before.name == f.Name() {
			image := before
			image.log = tear(before.log, now)
			images = append(images, image)
		}
		if err := fdatasync(f); err != nil {
			return err
		}
		before = cut{name: f.Name(), log: now, acked: acked, files: readFiles(t, cfg.Dir, f.Name())}
		return nil
	}
	r, _ := open(t, cfg)
	for n := 1; n <= 60; n++ {
		r.put(t, Op{Key: crashKey(n), Value: bytes.Repeat([]byte{byte(n)}, 700)},
			Op{Key: []byte("s/count"), Value: []byte(strconv.Itoa(n))})
		acked = n
	}
	r.shutdown(t)
	if len(images) < 8 {
		t.Fatalf("only %d images", len(images))
	}
	for _, image := range images {
		dir := t.TempDir()
		image.restore(t, cfg.Dir, dir)
		verifyCrash(t, dir, image.acked)
	}
}

type cut struct {
	name  string // of the log
	log   []byte
	acked int
	files map[string][]byte
}

// tear returns old with a random subset of the pages of now.
func tear(old, now []byte) []byte {
	b := bytes.Clone(old)
	for at := 0; at < min(len(b), len(now)); at += 4096 {
		if rand.IntN(2) == 0 {
			copy(b[at:min(at+4096, len(b))], now[at:])
		}
	}
	return b
}

// readFiles reads all small files of a store but the log.
func readFiles(t *testing.T, dir, log string) map[string][]byte {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || path == log {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = b
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

func (c *cut) restore(t *testing.T, from, to string) {
	t.Helper()
	c.files[c.name] = c.log
	for path, b := range c.files {
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
