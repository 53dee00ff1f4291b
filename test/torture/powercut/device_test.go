package powercut

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

func device(t *testing.T) *Device {
	t.Helper()
	d, err := NewDevice(filepath.Join(t.TempDir(), "image"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func put(t *testing.T, d *Device, at int64, b byte, n int) {
	t.Helper()
	if _, err := d.WriteAt(bytes.Repeat([]byte{b}, n), at); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, d *Device, at int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := d.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFlushedSurvivesAndTheRestIsChance(t *testing.T) {
	kept, lost, torn := 0, 0, 0
	for seed := range uint64(60) {
		d := device(t)
		put(t, d, 0, 1, 4096)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		put(t, d, 4096, 2, 4096)
		if got := get(t, d, 4096, 4096); got[0] != 2 || got[4095] != 2 {
			t.Fatal("what was written is not read back")
		}
		if n, err := d.Cut(rand.New(rand.NewPCG(seed, 1))); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		d.Power()
		if !bytes.Equal(get(t, d, 0, 4096), bytes.Repeat([]byte{1}, 4096)) {
			t.Fatal("flushed data is gone")
		}
		switch p := get(t, d, 4096, 4096); {
		case p[0] == 0 && p[4095] == 0:
			lost++
		case p[0] == 2 && p[4095] == 2:
			kept++
		case p[0] == 2 && bytes.Count(p, []byte{2})%sector == 0:
			torn++
		default:
			t.Fatalf("neither kept, lost nor torn: %d twos", bytes.Count(p, []byte{2}))
		}
	}
	if kept == 0 || lost == 0 || torn == 0 {
		t.Fatalf("kept %d, lost %d, torn %d", kept, lost, torn)
	}
}

func TestNothingIsAnsweredOrKeptAfterTheCut(t *testing.T) {
	d := device(t)
	if _, err := d.Cut(rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := d.WriteAt([]byte{7}, 0)
		answered <- err
	}()
	select {
	case <-answered:
		t.Fatal("answered without power")
	default:
	}
	d.Release()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	d.Power()
	if get(t, d, 0, 1)[0] != 0 {
		t.Fatal("kept what was written without power")
	}
}
