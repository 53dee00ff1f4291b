package catalog

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// scripted answers every request with the same bytes.
type scripted []byte

// Pull implements Peers.
func (s scripted) Pull(context.Context, string, []byte) ([]byte, error) { return s, nil }

func fuzzed(t tester, answers Peers) *Replica {
	c, err := Open(newMemory(), Options{Node: "a", Now: func() time.Time { return time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC) }, Log: discard()})
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := NewReplica(c, Exchange{Cluster: "site", Peers: answers, Log: discard(), Announce: func([]byte) error { return nil }})
	f := manifestOf(t, "f", "")
	if _, err := c.Put(context.Background(), f); err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

// request is one with the right greeting.
func request(op byte, body ...byte) []byte {
	return append(appendGreeting(nil, op, greeting{cluster: clusterID("site"), clock: time.UnixMilli(1 << 40)}), body...)
}

// Requests: an answer or an error, of bounded size, and the catalog stays as it was.
func FuzzServe(f *testing.F) {
	r := fuzzed(f, scripted(nil))
	f.Add(request(opCompare, append(make([]byte, buckets*bucketSize), 0, 0)...))
	f.Add(request(opFetch, encodeIdents([]ident{{KindFunction, "f"}, {KindFunction, "g"}})...))
	f.Add(request(opVersions, encodeIdents([]ident{{KindFunction, "f"}})...))
	f.Add(request(opFetch, 255, 255))
	root := r.catalog.Snapshot().Root()
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, err := r.Serve(t.Context(), "b", b)
		if err == nil && len(answer) > pageBytes+MaxBody+maxSig+1000 || err != nil && answer != nil {
			t.Errorf("%d bytes, %v", len(answer), err)
		}
		if r.catalog.Snapshot().Root() != root {
			t.Error("a request changed the catalog")
		}
	})
}

// Gossip: nothing is believed that is not signed.
func FuzzGossip(f *testing.F) {
	r := fuzzed(f, scripted(nil))
	e := r.catalog.Snapshot().entry(ident{KindFunction, "f"})
	newer := *e
	newer.Ver++
	f.Add(announcement(e, true))
	f.Add(announcement(&newer, true))
	f.Add(announcement(&newer, false))
	f.Add(append([]byte{wireVersion, saidRoot}, make([]byte, hashSize)...))
	digest, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(digest)
	root := r.catalog.Snapshot().Root()
	f.Fuzz(func(t *testing.T, b []byte) {
		if news, err := r.Heard("b", b); news && err != nil {
			t.Error("news and an error")
		}
		if r.Merge("b", b) == nil && len(b) != len(digest) {
			t.Errorf("a digest of %d bytes", len(b))
		}
		if r.catalog.Snapshot().Root() != root || len(r.inline) > 0 {
			t.Error("gossip was believed")
		}
	})
}

// Answers: what is not an answer changes nothing; what is one changes what it says, and no more than a page.
func FuzzAnswers(f *testing.F) {
	r := fuzzed(f, scripted(nil))
	full, err := r.Serve(f.Context(), "b", request(opCompare, append(bytes.Repeat([]byte{7}, buckets*bucketSize), 0, 0)...))
	if err != nil {
		f.Fatal(err)
	}
	records, err := r.Serve(f.Context(), "b", request(opFetch, encodeIdents([]ident{{KindFunction, "f"}})...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add(records)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := fuzzed(t, scripted(b))
		if a, _, err := r.exchange(t.Context(), "b"); err == nil && len(a.changed) > pageIdents {
			t.Errorf("%d changes", len(a.changed))
		}
		a, err := r.fetch(t.Context(), "b", []ident{{KindFunction, "f"}, {KindFunction, "g"}})
		if err == nil && len(a.changed) > pageIdents {
			t.Errorf("%d changes", len(a.changed))
		}
		if _, err := r.has(t.Context(), "b", ident{KindFunction, "f"}, 1); err == nil && len(b) < 34 {
			t.Error("nothing is an answer")
		}
	})
}
