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

// What is not a message of the cluster is refused, and what is one is the one it was made of.
func FuzzMessages(f *testing.F) {
	f.Add(frame{kind: kindAnnounce, origin: "a", key: "catalog", body: []byte("x")}.encode())
	f.Add(frame{kind: kindSync, origin: "a", body: appendDigest(appendDigest(nil, "one", []byte("1")), "two", nil)}.encode())
	load, _ := Load{Queued: 1, boot: 2, seq: 3}.MarshalBinary()
	f.Add(frame{kind: kindLoad, origin: "a", body: load}.encode())
	meta, _ := Meta{Arch: ArchARM64, Slots: 4, Draining: true}.MarshalBinary()
	f.Add(meta)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decode(b); err == nil {
			if !bytes.Equal(got.encode(), b) {
				t.Errorf("%x was read as %+v", b, got)
			}
			var again []byte
			whole := digests(got.body, func(key string, digest []byte) { again = appendDigest(again, key, digest) })
			if whole == nil && !bytes.Equal(again, got.body) {
				t.Errorf("%x was read as the digests %x", got.body, again)
			}
		}
		var l Load
		if l.UnmarshalBinary(b) == nil && (l.CPU > 7 || l.Memory > 7 || l.Battery > 7) {
			t.Errorf("%+v", l)
		}
		p := newPeers("self", nil)
		_ = p.load(b) // whatever is in the file
		if len(p.known) > peersMax {
			t.Errorf("%d peers", len(p.known))
		}
		var m, back Meta
		if m.UnmarshalBinary(b) != nil {
			return
		}
		again, _ := m.MarshalBinary()
		if err := back.UnmarshalBinary(again); err != nil || back != m {
			t.Errorf("%+v, again %+v, %v", m, back, err)
		}
	})
}
