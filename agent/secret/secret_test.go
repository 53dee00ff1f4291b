package secret

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func newKey(t testing.TB, dir string) *Key {
	t.Helper()
	k, _, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Whatever is sealed to whom: who is among them reads it, nobody else does, under no other name, and not after a bit was flipped.
func TestOnlyRecipientsOpen(t *testing.T) {
	keys := make([]*Key, 4)
	for i := range keys {
		keys[i] = newKey(t, t.TempDir())
	}
	node := func(i int) string { return string(rune('a' + i)) }
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		among := rapid.SliceOfN(rapid.Bool(), len(keys), len(keys)).Draw(t, "among")
		var to []Recipient
		for i, is := range among {
			if is {
				to = append(to, Recipient{node(i), keys[i].Public()})
			}
		}
		b, err := Seal("webhook", value, to)
		if err != nil {
			t.Fatal(err)
		}
		text, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if b, err = Decode(text); err != nil || len(b.Shares) != len(to) {
			t.Fatal(err)
		}
		for i, k := range keys {
			got, err := b.Open("webhook", node(i), k)
			if among[i] != (err == nil) || err == nil && !bytes.Equal(got, value) || err != nil && !errors.Is(err, ErrSealed) {
				t.Fatalf("%s: %q, %v", node(i), got, err)
			}
			if _, err := b.Open("other", node(i), k); err == nil {
				t.Fatal("it opens under another name")
			}
			if _, err := b.Open("webhook", "z", k); err == nil {
				t.Fatal("it opens for another node")
			}
		}
		if len(b.Shares) == 0 {
			return
		}
		for _, part := range []*[]byte{&b.Text, &b.Mark, &b.Shares[0].Sealed} {
			at := rapid.IntRange(0, 8*len(*part)-1).Draw(t, "bit")
			(*part)[at/8] ^= 1 << (at % 8)
			for i, k := range keys {
				if i == strings.Index("abcd", b.Shares[0].Node) {
					if _, err := b.Open("webhook", node(i), k); err == nil {
						t.Fatal("a flipped bit was not noticed")
					}
				}
			}
			(*part)[at/8] ^= 1 << (at % 8)
		}
	})
}

func TestLimitsOfValues(t *testing.T) {
	k := newKey(t, t.TempDir())
	if _, err := Seal("n", make([]byte, MaxValue+1), nil); err == nil {
		t.Error("a value was sealed that is too long")
	}
	b, err := Seal("n", make([]byte, MaxValue), []Recipient{{"a", k.Public()}, {"bad", []byte("no key")}, {"zero", make([]byte, 32)}})
	if err != nil || len(b.Shares) != 1 {
		t.Errorf("%v, sealed to %d", err, len(b.Shares))
	}
	for _, text := range []string{"", "{}", "null", `{"text":"eA==","mark":"eA=="}`, "[]"} {
		if _, err := Decode([]byte(text)); !errors.Is(err, ErrBox) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A key stays what it is; one that is damaged is an error that names the file; one that is gone is another one.
func TestKeysOfANode(t *testing.T) {
	dir := t.TempDir()
	first := newKey(t, dir)
	path := filepath.Join(dir, KeyFile)
	if again, fresh, err := LoadKey(dir); err != nil || fresh || !bytes.Equal(again.Public(), first.Public()) {
		t.Errorf("fresh %v, %v", fresh, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		k, _, err := LoadKey(dir)
		if err == nil && !bytes.Equal(k.Public(), first.Public()) {
			t.Fatalf("byte %d flipped: another key", i)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again, fresh, err := LoadKey(dir); err != nil || !fresh || bytes.Equal(again.Public(), first.Public()) {
		t.Errorf("fresh %v, %v", fresh, err)
	}
}

// run runs the vaults of nodes until the bubble is idle, and a while longer.
func run(t *testing.T, nodes ...*node) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	for _, n := range nodes {
		go func() { _ = n.vault.Run(ctx) }()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	stop()
	synctest.Wait()
}

const plain, renewed = "the hook's own words", "what the hook says now"

// What an operator sets all nodes read that were there; who was away, or joins later, or has another key, is passed it by one that has it,
// and keeps it over a restart; who was revoked gets nothing that is set after it.
func TestWhoGetsASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b", "c")
		a, b, c := s.up["a"], s.up["b"], s.up["c"]
		c.stop()
		to, err := a.vault.Set(t.Context(), "hook", []byte(plain))
		if err != nil || len(to.Nodes) != 2 || len(to.Later) != 0 {
			t.Fatalf("%+v, %v", to, err)
		}
		a.want("hook", plain)
		b.want("hook", plain)
		c.want("hook", "(sealed)")
		run(t, c)
		c.want("hook", "(sealed)") // who may not call gets nothing
		c.start()
		d := s.join("d")
		run(t, c, d)
		c.want("hook", plain)
		d.want("hook", plain)

		// The key of one is replaced: what is on its disk is of no use, and the others pass it again, though only by way of one that was passed it.
		if err := os.Remove(filepath.Join(c.dir, KeyFile)); err != nil {
			t.Fatal(err)
		}
		a.stop()
		b.stop()
		c.start()
		c.want("hook", "(sealed)")
		run(t, c)
		c.want("hook", plain)
		d.stop()
		c.start() // alone, from its disk
		c.want("hook", plain)

		// b is revoked; what is set then it cannot open, whatever it asks.
		a.start()
		if to, err = a.vault.Set(t.Context(), "hook", []byte(renewed)); err != nil || len(to.Nodes) != 2 {
			t.Fatalf("%+v, %v", to, err)
		}
		run(t, b)
		b.want("hook", "(sealed)")
		c.want("hook", renewed)

		// What is gone is gone from the disks too.
		if err := a.vault.Remove(t.Context(), "hook"); err != nil {
			t.Fatal(err)
		}
		run(t, c)
		c.want("hook", "(absent)")
		if len(c.disk) > 0 {
			t.Errorf("left on disk: %q", c.disk)
		}
		s.shows(t, plain)
		s.shows(t, renewed)
	})
}

// shows looks for a value in everything that was sent, written and logged, as it is and as text encodings have it.
func (s *site) shows(t *testing.T, value string) {
	t.Helper()
	var all strings.Builder
	all.WriteString(s.wire.String() + s.said.String())
	for _, n := range s.up {
		for key, text := range n.disk {
			all.WriteString(key + string(text))
		}
	}
	forms := []string{value, hex.EncodeToString([]byte(value))}
	for offset := range 3 { // in a text encoded as a whole it may begin at any of three places
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(value)[offset:])[:16])
	}
	for _, form := range forms {
		if strings.Contains(all.String(), form) {
			t.Errorf("%q is in %d bytes that others see", form, len(all.String()))
		}
	}
	if s.wire.Len() == 0 {
		t.Error("nothing was sent")
	}
}

// A node that answers with something else cannot make another one take it.
func TestHostileShares(t *testing.T) {
	s := newSite(t, "a", "b")
	a, b := s.up["a"], s.up["b"]
	b.stop()
	for _, name := range []string{"hook", "other"} {
		if _, err := a.vault.Set(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	body, _, _ := s.Get("hook")
	box, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	evil := make([]byte, 32)
	forged, err := box.sealTo("hook", evil, Recipient{"b", b.vault.cfg.Key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	otherBody, _, _ := s.Get("other")
	other, err := Decode(otherBody)
	if err != nil {
		t.Fatal(err)
	}
	key, err := other.key("other", "a", a.vault.cfg.Key)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := other.sealTo("other", key, Recipient{"b", b.vault.cfg.Key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for what, share := range map[string]Share{"another key": forged, "of another secret": swapped, "nothing": {Node: "b", Key: keyID(b.vault.cfg.Key.Public())}} {
		if _, err := box.Open("hook", "b", b.vault.cfg.Key, share); err == nil {
			t.Errorf("a share that is %s opened it", what)
		}
	}
	for _, q := range []string{"", "[]", `{"name":"gone"}`, `{"name":"hook","mark":"eA=="}`} {
		if answer, err := a.vault.Answer(t.Context(), "b", []byte(q)); err == nil {
			t.Errorf("%s is answered: %s", q, answer)
		}
	}
}

// Reading costs no cryptography once it was read.
func BenchmarkRead(b *testing.B) {
	key := newKey(b, b.TempDir())
	s := &site{records: map[string][]byte{}, changed: make(chan struct{})}
	n := &node{site: s, id: "a", disk: map[string][]byte{}}
	v, err := Open(Config{Node: "a", Key: key, Records: s, Notes: n})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := v.Set(b.Context(), "hook", []byte(plain)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok, err := v.Read("hook"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
