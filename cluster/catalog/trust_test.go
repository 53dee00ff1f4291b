package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mayfly/function"
	"mayfly/store"
)

// signature is that of whoever knows the word.
func signature(word string, r Record) []byte {
	sum := sha256.Sum256(append([]byte(word), r.Signed()...))
	return sum[:]
}

// signed makes a catalog ask for signatures, and able to give them.
func signed(o *Options) {
	o.Verify = func(r Record) error {
		if !bytes.Equal(r.Sig, signature("word", r)) {
			return errors.New("it is not signed")
		}
		return nil
	}
	o.Sign = func(_ context.Context, r Record) ([]byte, error) { return signature("word", r), nil }
}

func bodyOf(t tester, name string) []byte {
	c, err := Open(newMemory(), Options{Node: "x", Now: timeNow, Log: discard()})
	if err != nil {
		t.Fatalf("%v", err)
	}
	f := manifestOf(t, name, "")
	if _, err := c.Put(context.Background(), f); err != nil {
		t.Fatalf("%v", err)
	}
	r, _ := c.Snapshot().Record(KindFunction, name)
	return r.Body
}

// Nothing that is forged is taken over, by whatever way it comes, nor passed on.
func TestForgedRecords(t *testing.T) {
	m := newMesh(t, "")
	a, forger := m.add("a", signed), m.add("forger", nil)
	a.deploy("f", "")
	good := a.catalog.Snapshot().entry(ident{KindFunction, "f"}).Record
	body := bodyOf(t, "g")
	ver := versionAt(m.wall) + 1000
	forged := []Record{
		{Kind: KindFunction, Key: "g", Ver: ver, Writer: "forger", Body: body},
		{Kind: KindFunction, Key: "g", Ver: ver, Writer: "forger", Body: body, Sig: []byte("x")},
		{Kind: KindFunction, Key: "f", Ver: ver, Writer: "a", Deleted: true},
		{Kind: KindFunction, Key: "f", Ver: good.Ver + 1, Writer: good.Writer, Body: good.Body, Sig: good.Sig},
		{Kind: KindConfig, Key: "site", Ver: ver, Writer: "a", Body: []byte("x")},
		{Kind: KindNode, Key: "a", Ver: ver, Writer: "forger", Body: []byte("{}")},
	}
	wrong := Record{Kind: KindNode, Key: "a", Ver: ver, Writer: "forger", Body: []byte("{}")}
	wrong.Sig = signature("word", wrong) // signed, and still not the node itself
	forged = append(forged, wrong)
	before := a.held()
	for i, r := range forged {
		if changed, err := a.catalog.Apply(t.Context(), []Record{r}, "forger"); changed != 0 || err != nil {
			t.Errorf("forged record %d: %d changed, %v", i, changed, err)
		}
		if r.check() != nil {
			continue
		}
		if _, err := forger.catalog.Apply(t.Context(), []Record{r}, "x"); err != nil {
			t.Fatal(err)
		}
		if news, _ := a.Heard("forger", append([]byte{wireVersion, saidRecord}, r.Encode()...)); news && len(r.Sig) > 0 {
			t.Errorf("forged record %d is passed on", i)
		}
	}
	a.compare("forger")
	if !slices.EqualFunc(before, a.held(), bytes.Equal) {
		t.Errorf("something was taken over")
	}
	if a.catalog.Refused()[RefusedUnsigned] < 5 || a.catalog.Refused()[RefusedMalformed] == 0 {
		t.Errorf("it is not counted: %v", a.catalog.Refused())
	}
}

// An operator's change that nobody here can sign is refused, with what to do.
func TestUnsignedChangesAreRefused(t *testing.T) {
	m := newMesh(t, "")
	a := m.add("a", func(o *Options) { signed(o); o.Sign = nil })
	_, err := a.catalog.Put(t.Context(), manifestOf(t, "f", ""))
	if function.KindOf(err) != "unsigned" || hint(err) == "" || len(a.catalog.List()) != 0 {
		t.Errorf("%v", err)
	}
}

// What was deployed without signatures before there was a cluster does not run once it asks for them; the operator deploys it again.
func TestUnsignedFromBefore(t *testing.T) {
	m := newMesh(t, "")
	a := m.add("a", nil)
	a.deploy("f", "")
	a.opts = signed
	a.restart()
	if d := a.catalog.Snapshot().Damaged(); a.has() != "" || len(d) != 1 || a.catalog.Snapshot().Fault("f") == nil {
		t.Errorf("%q runs, damaged %v", a.has(), d)
	}
	a.deploy("f", "")
	if d := a.catalog.Snapshot().Damaged(); a.has() != "f" || len(d) != 0 {
		t.Errorf("%q runs, damaged %v", a.has(), d)
	}
}

// A record this version cannot read is held and passed on, so that all are equal, and does not run.
func TestRecordsOfALaterVersion(t *testing.T) {
	m := newMesh(t, "a b")
	later := []Record{
		{Kind: KindFunction, Key: "f", Ver: versionAt(m.wall), Writer: "x", Body: []byte(`{"format":2}`)},
		{Kind: "hologram", Key: "f", Ver: versionAt(m.wall), Writer: "x", Body: []byte("?")},
	}
	if n, err := m.nodes["a"].catalog.Apply(t.Context(), later, "x"); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	m.settle()
	b := m.nodes["b"].catalog.Snapshot()
	if !m.equal() || len(b.List()) != 0 || len(b.Damaged()) != 1 || len(b.Records("hologram")) != 1 {
		t.Errorf("%v %v", b.Damaged(), b.Records("hologram"))
	}
}

// Two deployments that did not know of each other: the loser is kept, shown, survives a restart and goes when somebody deploys again.
func TestConflictsAreKept(t *testing.T) {
	m := newMesh(t, "a b c")
	a, b := m.nodes["a"], m.nodes["b"]
	for _, f := range []string{"f", "removed", "quiet"} {
		a.deploy(f, "")
	}
	m.settle()
	a.deploy("quiet", "[config]\nx = 1\n")
	m.settle()
	b.deploy("quiet", "[config]\nx = 2\n") // it has seen the one before: no conflict
	a.deploy("f", "[config]\nx = \"a\"\n")
	b.deploy("f", "[config]\nx = \"b\"\n")
	a.deploy("removed", "[config]\nx = \"a\"\n")
	b.remove("removed")
	m.settle()
	for _, name := range m.on() {
		n := m.nodes[name]
		n.restart()
		var lost []string
		for _, c := range n.catalog.Snapshot().Conflicts() {
			lost = append(lost, c.Lost.Key+" of "+c.Lost.Writer)
			if len(c.Lost.Body) == 0 || c.Reason == "" {
				t.Errorf("%+v", c)
			}
		}
		slices.Sort(lost)
		want := "f of a, removed of a"
		if name != "a" { // who never held the loser does not know of it
			continue
		}
		if got := strings.Join(lost, ", "); got != want {
			t.Errorf("%s shows %q, want %q", name, got, want)
		}
	}
	b.deploy("f", "[config]\nx = \"both\"\n")
	m.settle()
	for _, c := range a.catalog.Snapshot().Conflicts() {
		if c.Lost.Key == "f" {
			t.Error("a conflict that was resolved is still shown")
		}
	}
}

func TestConflictsAreBounded(t *testing.T) {
	m := newMesh(t, "a b")
	for i := range 3 * maxConflicts {
		for _, n := range []string{"a", "b"} {
			m.nodes[n].deploy(fmt.Sprintf("f%d", i), "[config]\nx = \""+n+strings.Repeat("y", 20_000)+"\"\n")
		}
	}
	m.settle()
	b := m.nodes["b"] // the founder has seen a version, so its own are newer
	before := len(b.catalog.Snapshot().Conflicts())
	b.restart()
	if n := len(b.catalog.Snapshot().Conflicts()); n != maxConflicts || before != n {
		t.Errorf("%d conflicts, %d on disk", before, n)
	}
	if b.disk.largest > 300_000 {
		t.Errorf("a batch of %d bytes", b.disk.largest)
	}
}

// Functions from two sides that want the same requests, or would trigger each other for ever: every node comes to the same decision, whatever came
// first; the loser is shown and does not do it; when the winner goes it may.
func TestDisputesAreSettledTheSameEverywhere(t *testing.T) {
	route := func(s string) string { return "[[trigger.http]]\nroute = \"" + s + "\"\nauth = \"public\"\n" }
	m := newMesh(t, "a b c")
	a, b, c := m.nodes["a"], m.nodes["b"], m.nodes["c"]
	for _, d := range []struct {
		on             *member
		name, manifest string
	}{
		{a, "second", route("POST /x/{line}")},
		{b, "first", route("GET /y") + route("POST /x/{row}")}, // later than second, whatever its name
		{a, "ping", chained("a", "b", "")},
		{b, "pong", chained("b", "a", "")},
	} {
		d.on.deploy(d.name, d.manifest)
		m.pass(1e9)
	}
	c.compare("b")
	c.compare("a")
	m.settle()
	m.shows(t, "first ping pong second")
	for _, name := range m.on() {
		s := m.nodes[name].catalog.Snapshot()
		d := s.Disputes()
		if len(d) != 2 || d[0].Function != "first" || d[0].Trigger != "http[1]" || d[0].Winner != "second" || d[1].Function != "pong" || d[1].Winner != "ping" {
			t.Fatalf("%s: %+v", name, d)
		}
		pong, _ := s.Get("pong")
		ping, _ := s.Get("ping")
		if !pong.Paused || ping.Paused {
			t.Errorf("%s: the circle runs", name)
		}
		if _, ok := s.Dispute("first", "http[0]"); ok {
			t.Error("a route nobody else wants is not served")
		}
	}
	c.remove("ping")
	c.remove("second")
	m.settle()
	for _, name := range m.on() {
		pong, _ := m.nodes[name].catalog.Get("pong")
		if d := m.nodes[name].catalog.Snapshot().Disputes(); len(d) != 0 || pong.Paused {
			t.Errorf("%s: %+v, paused %v", name, d, pong.Paused)
		}
	}
}

// However deployments from different sides are put together, no circle runs, no request has two takers, and every order of arrival gives the same.
func TestDisputesDependOnTheRecordsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := []string{"a", "b", "c"}
		var records []Record
		for i := range rapid.IntRange(1, 6).Draw(t, "functions") {
			pick := func(l string) string { return rapid.SampledFrom(topics).Draw(t, l) }
			side, err := Open(newMemory(), Options{Node: fmt.Sprintf("n%d", i%3), Now: timeNow, Log: discard()})
			if err != nil {
				t.Fatal(err)
			}
			text := chained(pick("listens"), pick("publishes"), "") + "[[trigger.http]]\nroute = \"POST /" + pick("route") + "\"\nauth = \"public\"\n"
			name := fmt.Sprintf("f%d", i)
			if _, err := side.Put(context.Background(), manifestOf(t, name, text)); function.KindOf(err) == "loop" {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			r, _ := side.Snapshot().Record(KindFunction, name)
			records = append(records, r)
		}
		take := func(records []Record) *Snapshot {
			c, err := Open(newMemory(), Options{Node: "x", Now: timeNow, Log: discard()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range records {
				if _, err := c.Apply(context.Background(), records[i:i+1], "y"); err != nil {
					t.Fatal(err)
				}
			}
			return c.Snapshot()
		}
		one := take(records)
		if len(records) > 0 {
			other := take(rapid.Permutation(records).Draw(t, "order"))
			if !slices.Equal(one.Disputes(), other.Disputes()) {
				t.Fatalf("%+v\n%+v", one.Disputes(), other.Disputes())
			}
		}
		running := &Snapshot{}
		for _, f := range one.List() {
			if !f.Paused {
				running.functions = append(running.functions, f)
			}
		}
		for _, f := range running.functions {
			if way := running.loop(f); way != nil {
				t.Fatalf("%v", way)
			}
		}
	})
}

// Nobody makes a catalog grow without bound.
func TestTheCatalogIsBounded(t *testing.T) {
	m := newMesh(t, "a")
	a := m.nodes["a"]
	var records []Record
	for i := range maxRecords + 500 {
		records = append(records, Record{Kind: KindConfig, Key: fmt.Sprint(i), Ver: 7, Writer: "x", Body: []byte("x")})
	}
	for page := range slices.Chunk(records, maxStep) {
		if _, err := a.catalog.Apply(t.Context(), page, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.catalog.Snapshot().count; n != maxRecords || a.catalog.Refused()[RefusedFull] != 500 {
		t.Errorf("%d records, %v", n, a.catalog.Refused())
	}
	if _, err := a.catalog.Apply(t.Context(), records[:maxStep+1], "x"); function.KindOf(err) != "too-many" {
		t.Error(err)
	}
}

// A flood of announcements, digests and requests costs no memory to speak of.
func TestAFloodCostsNoMemory(t *testing.T) {
	m := newMesh(t, "a")
	a := m.nodes["a"]
	digest, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	flood := func(n int) {
		for i := range n {
			h := header{ident: ident{KindFunction, fmt.Sprintf("f%d", i)}, ver: versionAt(m.wall), writer: "w"}
			h.hash = [hashSize]byte{byte(i), byte(i >> 8), byte(i >> 16)}
			if _, err := a.Heard(fmt.Sprintf("n%d", i), appendHeader([]byte{wireVersion, saidHeader}, h)); err != nil {
				t.Fatal(err)
			}
			digest[len(digest)-1] = byte(i)
			if err := a.Merge(fmt.Sprintf("m%d", i), digest); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Serve(t.Context(), fmt.Sprintf("x%d", i), []byte("nonsense")); err == nil {
				t.Fatal("nonsense was answered")
			}
		}
	}
	flood(5000)
	before := heap()
	flood(50_000)
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes more", grown)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The disk has what the step says, or nothing: a power cut anywhere in a change, an exchange or a rejoin leaves a node that finds its way.
func TestPowerCutsAnywhere(t *testing.T) {
	for cut := 1; ; cut++ {
		m := newMesh(t, "a b c")
		m.nodes["a"].deploy("old", "")
		m.nodes["a"].deploy("stays", "")
		m.live(2)
		c := m.nodes["c"]
		c.off = true
		m.nodes["a"].remove("old")
		m.live(35)
		m.nodes["a"].deploy("new", "")
		c.off = false
		c.disk.cutAfter = cut
		_, _, err := c.exchange(t.Context(), "a")
		if err == nil {
			err = c.collect(t.Context())
		}
		if err == nil {
			if cut < 3 {
				t.Errorf("only %d writes: the test shows nothing", cut)
			}
			return
		}
		c.disk.cutAfter = 0
		c.restart()
		m.nodes["b"].compare("c")
		if strings.Contains(m.nodes["b"].has(), "old") {
			t.Fatalf("cut %d: it came back", cut)
		}
		m.settle()
		m.shows(t, "new stays")
		if !m.equal() {
			t.Errorf("cut %d: not equal", cut)
		}
	}
}

// What a node knew of deletions is damaged: it counts as one that was away.
func TestDamagedState(t *testing.T) {
	m := newMesh(t, "a b")
	m.nodes["a"].deploy("f", "")
	m.live(2)
	m.nodes["b"].disk.synced[string(store.Catalog.Key("", []byte(stateKey)))] = []byte("{")
	m.nodes["b"].restart()
	if floor, synced := m.nodes["b"].catalog.horizon.marks(); floor != 0 || synced != 0 {
		t.Error(floor, synced)
	}
	m.settle()
	m.shows(t, "f")
}
