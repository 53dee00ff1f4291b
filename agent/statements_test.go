package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/cluster/peer"
	"mayfly/store"
)

// founder is the first node of a cluster as far as the authority's statements are concerned: nothing runs.
type founder struct {
	*pool
	dir  string
	node identity.Node
	a    *identity.Authority
}

func founded(t *testing.T, listen func() (cluster.Network, error)) *founder {
	t.Helper()
	st, _ := opened(t, filepath.Join(t.TempDir(), "store"))
	f := &founder{dir: t.TempDir()}
	var err error
	if f.node, err = identity.Load(f.dir); err != nil {
		t.Fatal(err)
	}
	p := &pool{cfg: &ClusterConfig{}, log: slog.New(slog.DiscardHandler)}
	if p.member, err = identity.Found(filepath.Join(f.dir, "cluster"), f.node, "site", nil); err != nil {
		t.Fatal(err)
	}
	if f.a, err = identity.OpenAuthority(filepath.Join(f.dir, "cluster"), p.member); err != nil {
		t.Fatal(err)
	}
	if p.known, err = openAddresses(st); err != nil {
		t.Fatal(err)
	}
	p.meta = cluster.Meta{Arch: cluster.ArchAMD64, Slots: 3, Speed: 16, Memory: 4, Port: 7947}
	p.gossip, err = cluster.New(cluster.Config{Name: f.node.ID, Cluster: "site", Keys: [][]byte{make([]byte, 32)}, Listen: listen, Meta: p.meta}, p.log)
	if err != nil {
		t.Fatal(err)
	}
	if p.catalog, err = catalog.Open(st, catalog.Options{Node: f.node.ID, Now: time.Now, Log: p.log}); err != nil {
		t.Fatal(err)
	}
	p.peers = peer.NewPeers(peer.Config{TLS: p.member.ClientTLS, NodeOf: nodeOf, Resolve: p.resolve}, p.log)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	p.words = newStatements(p)
	f.pool = p
	return f
}

// cut is a node whose cable is out.
func cut() (cluster.Network, error) { return nil, cluster.ErrNoAddress }

func (f *founder) digest(t testing.TB) []byte {
	t.Helper()
	b, err := f.words.MarshalBinary()
	if err != nil || len(b) != progressSize {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	return b
}

// asked is whom the node wants to ask, in that order.
func (s *statements) asked() string {
	var all []string
	for len(s.ask) > 0 {
		all = append(all, <-s.ask)
	}
	return strings.Join(all, " ")
}

func (at progress) bytes() []byte {
	s := []uint64{at.keys, at.trust, at.revoked}
	var b []byte
	for _, n := range s {
		b = append(b, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, at.hash[:]...)
}

// Whatever the authority says changes how far a node is, and makes who has not heard it ask.
func TestWhatTheAuthoritySaysIsAskedFor(t *testing.T) {
	f := founded(t, cut)
	for _, step := range []struct {
		what string
		do   func() ([]byte, error)
	}{
		{"a staged key", f.a.StageKey},
		{"its use", f.a.UseKey},
		{"the end of the old one", f.a.DropOldKey},
		{"operators", func() ([]byte, error) { return f.a.SetTrust(1) }},
		{"a revocation", func() ([]byte, error) { return f.a.Revoke(other(t)) }},
		{"another", func() ([]byte, error) { return f.a.Revoke(other(t)) }},
	} {
		before, was := f.digest(t), f.words.progress()
		if _, err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		now := f.words.progress()
		if bytes.Equal(before, f.digest(t)) || !was.behind(now) || now.behind(was) || now.behind(now) {
			t.Errorf("%s: from %+v to %+v", step.what, was, now)
		}
		if back, err := parseProgress(f.digest(t)); err != nil || back != now {
			t.Errorf("%s: it is sent as %+v, %v", step.what, back, err)
		}
		if err := f.words.Merge("old", before); err != nil || f.words.asked() != "" {
			t.Errorf("%s: somebody who has not heard it is asked, %v", step.what, err)
		}
		further := now
		further.keys++
		if err := f.words.Merge("new", further.bytes()); err != nil || f.words.asked() != "new" {
			t.Errorf("%s: somebody who has heard more is not asked, %v", step.what, err)
		}
	}
}

// A node that accepts connections and says nothing is asked what the authority says. Meanwhile somebody is shut out, and that takes effect.
func TestWhoDoesNotAnswerHoldsUpNothing(t *testing.T) {
	f := founded(t, cut)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	victim := other(t)
	f.known.saw(map[string]whereabouts{"silent": {Calls: silent.Addr().String()}, victim: {Calls: "127.0.0.1:1"}})
	ctx, stop := context.WithCancel(t.Context())
	saved, ended := make(chan struct{}, 10), make(chan error, 1)
	go func() {
		ended <- f.keep(ctx, func([]store.Op) error {
			saved <- struct{}{}
			return nil
		})
	}()
	f.words.ask <- "silent"
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.a.Revoke(victim); err != nil {
		t.Fatal(err)
	}
	select {
	case <-saved:
	case <-time.After(1500 * time.Millisecond): // half of what an attempt to connect may take
		t.Error("it is not forgotten who was shut out, while somebody does not answer")
	}
	stop()
	if err := errors.Join(conn.Close(), silent.Close(), <-ended); err != nil {
		t.Error(err)
	}
}

// other is the id of a device nobody has met.
func other(t *testing.T) string {
	t.Helper()
	n, err := identity.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return n.ID
}

// Two nodes that know of as many revocations, but not of the same, both have something to learn.
func TestAsManyRevocationsNeedNotBeTheSame(t *testing.T) {
	one, two := progress{keys: 3, trust: 1, revoked: 2, hash: [8]byte{1}}, progress{keys: 3, trust: 1, revoked: 2, hash: [8]byte{2}}
	if !one.behind(two) || !two.behind(one) || one.behind(one) {
		t.Error("they would never ask each other")
	}
}

// An announcement is passed on once by each node, however often and in whatever order its copies come, whether or not the node is known, and
// though this one cannot catch up: one packet must not go round for ever.
func TestAnAnnouncementEnds(t *testing.T) {
	f := founded(t, cut)
	first, second := progress{keys: 7, trust: 1}, progress{keys: 9, trust: 1, revoked: 1}
	odd := progress{keys: 8, trust: 2} // who lies may say less of one thing and more of another
	news := 0
	for range 50 {
		for _, at := range []progress{first, second, odd, first} {
			passed, err := f.words.Heard("x", at.bytes())
			if err != nil {
				t.Fatal(err)
			}
			if passed {
				news++
			}
		}
	}
	if news != 3 {
		t.Errorf("passed on %d times, not once each", news)
	}
	for i := range 2 * maxPassed {
		if _, err := f.words.Heard(fmt.Sprint("invented", i), second.bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.words.passed) > maxPassed || len(f.words.at) != 0 || len(f.words.ask) > cap(f.words.ask) {
		t.Errorf("%d and %d nodes are remembered", len(f.words.passed), len(f.words.at))
	}
	if passed, _ := f.words.Heard("x", progress{keys: 10, trust: 2, revoked: 1}.bytes()); !passed {
		t.Error("news of a node that was known are not passed on any more")
	}
}

// How far a node says it is counts only of nodes that were members once; keys are changed by it.
func TestHowFarTheOthersAre(t *testing.T) {
	f := founded(t, cut)
	f.known.saw(map[string]whereabouts{"known": {Gossip: "10.0.0.1:7946", Calls: "10.0.0.1:7947"}})
	at := progress{keys: 1, trust: 1}
	for _, node := range []string{"known", "unknown"} {
		if err := f.words.Merge(node, at.bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if w, ok := f.words.of("known"); !ok || w.progress != at || w.when.IsZero() {
		t.Errorf("%+v, %v", w, ok)
	}
	if _, ok := f.words.of("unknown"); ok {
		t.Error("what strangers say is remembered")
	}
	for _, b := range [][]byte{nil, make([]byte, progressSize-1)} {
		if news, err := f.words.Heard("known", b); err == nil || news {
			t.Errorf("%d bytes are a word of the authority", len(b))
		}
	}
}

// What one node answers is what another one learns, and it is all: keys, operators, revocations.
func TestWhatIsAnsweredIsLearned(t *testing.T) {
	f := founded(t, cut)
	gone := other(t)
	if _, err := f.a.Revoke(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := f.a.StageKey(); err != nil {
		t.Fatal(err)
	}
	answer, err := f.words.answer(t.Context(), "anybody", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range [][]byte{f.member.KeysStatement(), f.member.TrustStatement(), f.member.RevocationStatements()[0]} {
		if len(statement) == 0 || !bytes.Contains(answer, encoded(t, statement)) {
			t.Error("something is missing")
		}
	}
}

func FuzzStatementsAndTicks(f *testing.F) {
	f.Add(progress{keys: 1, trust: 2, revoked: 3, hash: [8]byte{4}}.bytes())
	f.Add(encodeTicks(map[tickID]int64{{1}: 1, {2}: 1 << 62}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, err := parseProgress(b); err == nil && !bytes.Equal(at.bytes(), b[:progressSize]) {
			t.Errorf("%x is read as %+v", b, at)
		}
		all, err := decodeTicks(b)
		if err != nil {
			return
		}
		if len(all) > maxTicks {
			t.Errorf("%d ticks", len(all))
		}
		if again, err := decodeTicks(encodeTicks(all)); err != nil || len(again) > len(all) {
			t.Errorf("%v, %v", again, err)
		}
		ticks := fired{known: map[tickID]int64{{1}: 5}}
		if _, err := ticks.Heard("x", b); err != nil || ticks.known[tickID{1}] < 5 || len(ticks.known) != 1 {
			t.Errorf("%v, %v", ticks.known, err)
		}
	})
}

// encoded is a statement as it is in an answer.
func encoded(t *testing.T, statement []byte) []byte {
	t.Helper()
	return fmt.Appendf(nil, "%q", base64.StdEncoding.EncodeToString(statement))
}

// Who is shut out can ask nobody any more: the announcement itself says so, signed by the authority or not at all.
func TestARevocationIsSaidOutright(t *testing.T) {
	f := founded(t, cut)
	elsewhere := filepath.Join(t.TempDir(), "cluster")
	if err := os.CopyFS(elsewhere, os.DirFS(filepath.Join(f.dir, "cluster"))); err != nil {
		t.Fatal(err)
	}
	m, err := identity.Open(elsewhere, f.node, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.OpenAuthority(elsewhere, m)
	if err != nil {
		t.Fatal(err)
	}
	out := other(t)
	said, err := a.Revoke(out)
	if err != nil {
		t.Fatal(err)
	}
	at := progress{keys: 1, trust: 1, revoked: 1}
	forged := bytes.Clone(said)
	forged[len(forged)-1] ^= 1
	if news, err := f.words.Heard("mf1", append(at.bytes(), forged...)); err == nil || news || f.member.Revoked(out) {
		t.Fatalf("forged: news %v, %v, revoked %v", news, err, f.member.Revoked(out))
	}
	if news, err := f.words.Heard("mf1", append(at.bytes(), said...)); err != nil || !news || !f.member.Revoked(out) {
		t.Fatalf("news %v, %v, revoked %v", news, err, f.member.Revoked(out))
	}
}
