package cluster

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestMetaSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Meta{
			Arch: Arch(rapid.Byte().Draw(t, "arch")), OS: OS(rapid.Byte().Draw(t, "os")), Roles: rapid.Byte().Draw(t, "roles"),
			Slots: rapid.Uint16().Draw(t, "slots"), Speed: rapid.Byte().Draw(t, "speed"), Memory: rapid.Byte().Draw(t, "memory"),
			Port: rapid.Uint16().Draw(t, "port"), Brokers: rapid.Uint16().Draw(t, "brokers"), Power: rapid.Byte().Draw(t, "power"),
			Draining: rapid.Bool().Draw(t, "draining"), Labels: rapid.Uint64().Draw(t, "labels"), Zone: rapid.Uint64().Draw(t, "zone"),
			Fingerprint: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "fingerprint")),
		}
		b, err := want.MarshalBinary()
		if err != nil || len(b) > MetaMax {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		b = append(b, rapid.SliceOfN(rapid.Byte(), 0, MetaMax-len(b)).Draw(t, "later")...)
		var got Meta
		if err := got.UnmarshalBinary(b); err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		b[0]++
		if got.UnmarshalBinary(b) == nil || got.UnmarshalBinary(b[:metaSize-1]) == nil || got.UnmarshalBinary(make([]byte, MetaMax+1)) == nil {
			t.Fatal("what is no description was read as one")
		}
	})
}

func TestLoadSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		class := rapid.Uint8Range(0, 7)
		want := Load{
			Queued: rapid.Uint16().Draw(t, "queued"), Running: rapid.Uint16().Draw(t, "running"),
			CPU: class.Draw(t, "cpu"), Memory: class.Draw(t, "memory"), Battery: class.Draw(t, "battery"),
			Modules: rapid.Uint64().Draw(t, "modules"), boot: rapid.Uint16().Draw(t, "boot"), seq: rapid.Uint32().Draw(t, "seq"),
		}
		b, err := want.MarshalBinary()
		var got Load
		if err != nil || len(b) != 24 || got.UnmarshalBinary(b) != nil || got != want {
			t.Fatalf("%d bytes, %v: %+v, want %+v", len(b), err, got, want)
		}
		if got.UnmarshalBinary(b[:23]) == nil || got.UnmarshalBinary(nil) == nil {
			t.Fatal("what is no load was read as one")
		}
	})
}

func TestFramesSurviveTheWireAndGarbageIsRefused(t *testing.T) {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("abc123-")), 1, 32, 32)
	rapid.Check(t, func(t *rapid.T) {
		want := frame{
			kind: rapid.SampledFrom([]byte{kindLoad, kindAnnounce, kindSync}).Draw(t, "kind"), origin: name.Draw(t, "origin"),
			body: rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "body"),
		}
		if want.kind == kindAnnounce {
			want.key = name.Draw(t, "key")
		}
		b := want.encode()
		got, err := decode(b)
		if err != nil || got.kind != want.kind || got.origin != want.origin || got.key != want.key || !bytes.Equal(got.body, want.body) {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		cut := rapid.IntRange(0, 2+len(want.origin)).Draw(t, "cut")
		if _, err := decode(b[:cut]); err == nil {
			t.Fatalf("the first %d bytes of a frame were read as one", cut)
		}
		_ = digests(want.body, func(key string, digest []byte) { // it must not panic, whatever it says
			if key == "" || len(digest) > digestMax {
				t.Fatal("a digest out of bounds")
			}
		})
	})
}

func TestDigestsSurviveTheWire(t *testing.T) {
	b := appendDigest(appendDigest(nil, "one", []byte("1")), "two", nil)
	got := map[string]string{}
	if err := digests(b, func(key string, digest []byte) { got[key] = string(digest) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["one"] != "1" || got["two"] != "" {
		t.Errorf("%v", got)
	}
	if digests(b[:len(b)-1], func(string, []byte) {}) == nil {
		t.Error("a digest that ends early was read")
	}
}

// The newest word of a boot counts; words of the boot before are old, however they number themselves.
func TestOldLoadsAreNoNews(t *testing.T) {
	l := loads{known: map[string]known{}}
	word := func(boot uint16, seq uint32) Load { return Load{boot: boot, seq: seq, Queued: uint16(seq)} }
	for i, step := range []struct {
		word Load
		news bool
	}{
		{word(7, 5), true},
		{word(7, 5), false},
		{word(7, 4), false},
		{word(7, 6), true},
		{word(9, 1), true},
		{word(7, 8), false},
		{word(9, 2), true},
		{word(9, 1), false},
	} {
		if got := l.heard("a", step.word); got != step.news {
			t.Errorf("step %d: news = %v", i, got)
		}
	}
	l.answered("a", word(9, 1), 0)
	if k, _ := l.of("a"); k.load.seq != 1 {
		t.Error("the answer to a probe is what counts")
	}
	l.forget("a")
	if _, ok := l.of("a"); ok {
		t.Error("not forgotten")
	}
}
