package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
)

func withState(state *mapState, quota int64) func(*function.Call) {
	return func(c *function.Call) {
		c.State = state
		c.Function.Manifest.State.Quota = quota
	}
}

func TestStateReadsOwnWrites(t *testing.T) {
	state := newMapState()
	state.set("a", "old")
	g := newGuest(t, function.ABIMayfly, withState(state, 1000))
	if got := g.text("kv_get", "a"); got != "old" {
		t.Errorf("a = %q", got)
	}
	g.want(codeAbsent, "kv_get", "b", room(10))
	g.want(0, "kv_put", "a", "new", 0)
	g.want(3, "kv_get", "a", room(2))
	if got := g.text("kv_get", "a"); got != "new" {
		t.Errorf("a = %q", got)
	}
	g.want(0, "kv_del", "a")
	g.want(codeAbsent, "kv_get", "a", room(10))
	g.want(0, "kv_ver", "a")
	g.want(codeAbsent, "kv_del", "a")
	g.want(0, "kv_put", "a", "newest", 5000)
	clear(g.mem)
	if err := g.s.End(0, nil); err != nil {
		t.Fatal(err)
	}
	if len(g.res.Writes) != 1 {
		t.Fatalf("writes %v", g.res.Writes)
	}
	w := g.res.Writes[0]
	if string(w.Key) != "a" || string(w.Value) != "newest" || w.Delete || w.TTL != 5*time.Second || w.Checked {
		t.Errorf("write %+v", w)
	}
	g.begin()
	if got := g.text("kv_get", "a"); got != "old" {
		t.Errorf("the next event sees uncommitted %q", got)
	}
}

func TestWritesSurviveTheNextEvent(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.want(0, "kv_put", "k", "first", 0)
	_ = g.s.End(0, nil)
	w := g.res.Writes[0]
	g.begin()
	g.want(0, "kv_put", "k", "XXXXX", 0)
	g.want(0, "kv_put", "k", "YYYYY", 0)
	_ = g.s.End(0, nil)
	if string(w.Key) != "k" || string(w.Value) != "first" {
		t.Errorf("the first event's write became %q = %q", w.Key, w.Value)
	}
}

func TestIncrement(t *testing.T) {
	state := newMapState()
	state.set("text", "abc")
	g := newGuest(t, function.ABIMayfly, withState(state, 1000))
	out := g.alloc(8)
	g.want(0, "kv_incr", "n", 5, int(out))
	g.want(0, "kv_incr", "n", -7, int(out))
	if got := int64(g.u64(out)); got != -2 {
		t.Errorf("n = %d", got)
	}
	g.want(codeInvalid, "kv_incr", "text", 1, int(out))
	g.want(0, "kv_incr", "n", math.MinInt64+2, int(out))
	g.want(codeInvalid, "kv_incr", "n", -1, int(out))
	g.want(0, "kv_incr", "n", 0, int(out))
	if got := int64(g.u64(out)); got != math.MinInt64 {
		t.Errorf("n = %d after an overflow was refused", got)
	}
	_ = g.s.End(0, nil)
	if w := g.res.Writes[0]; !w.Checked || w.Expect != 0 || int64(binary.LittleEndian.Uint64(w.Value)) != math.MinInt64 {
		t.Errorf("write %+v", w)
	}
}

func TestCompareAndSwap(t *testing.T) {
	state := newMapState()
	state.last = 6
	state.set("k", "old") // version 7
	g := newGuest(t, function.ABIMayfly, withState(state, 1000))
	g.want(7, "kv_ver", "k")
	g.want(codeConflict, "kv_cas", "k", 6, "x")
	g.want(codeConflict, "kv_cas", "k", 0, "x")
	g.want(codeConflict, "kv_cas", "absent", 1, "x")
	g.want(8, "kv_cas", "k", 7, "x")
	g.want(8, "kv_ver", "k")
	g.want(9, "kv_cas", "k", 8, "y")
	g.want(1, "kv_cas", "absent", 0, "z")
	g.want(0, "kv_put", "k", "blind", 60_000)
	_ = g.s.End(0, nil)
	if w := g.res.Writes[0]; !w.Checked || w.Expect != 7 || string(w.Value) != "blind" || w.TTL != time.Minute {
		t.Errorf("a put after a cas rests on it and must stay checked: %+v", w)
	}
	if w := g.res.Writes[1]; !w.Checked || w.Expect != 0 {
		t.Errorf("creating write %+v", w)
	}
	state.set("k", "moved meanwhile")
	if state.commit(g.res.Writes) == nil {
		t.Error("the commit did not notice that the key moved")
	}
}

func TestStateRefusals(t *testing.T) {
	out := 8
	for name, call := range map[string][]any{
		"kv_get": {"k", room(8)}, "kv_put": {"k", "v", 0}, "kv_del": {"k"}, "kv_incr": {"k", 1, out}, "kv_cas": {"k", 0, "v"},
		"kv_ver": {"k"}, "kv_list": {"", "", room(8)},
	} {
		g := newGuest(t, function.ABIMayfly, func(c *function.Call) { c.State, c.Function.Manifest.State.Scope = nil, function.ScopeNone })
		g.want(codeDenied, name, call...)
		g = newGuest(t, function.ABIMayfly, func(c *function.Call) { c.State = nil })
		g.want(codeUnavailable, name, call...)
		state := newMapState()
		state.fail = &function.Error{Class: function.ClassFatal, Err: errors.New("disk")}
		g = newGuest(t, function.ABIMayfly, withState(state, 100))
		if _, err := g.try(name, call...); function.ClassOf(err) != function.ClassFatal {
			t.Errorf("%s on a broken store: %v", name, err)
		}
		state.fail = errors.New("disk")
		if _, err := g.try(name, call...); function.KindOf(err) != "state" {
			t.Errorf("%s on a broken store: %v", name, err)
		}
		if name != "kv_list" {
			call[0] = ""
			g = newGuest(t, function.ABIMayfly)
			g.want(codeInvalid, name, call...)
		}
		call[0] = strings.Repeat("k", MaxKey+1)
		g = newGuest(t, function.ABIMayfly)
		g.want(codeTooLarge, name, call...)
	}
	g := newGuest(t, function.ABIMayfly)
	g.want(codeInvalid, "kv_put", "k", "v", -1)
	g.want(codeInvalid, "kv_put", "k", "v", math.MaxInt64)
}

func TestQuota(t *testing.T) {
	state := newMapState()
	state.set("old", strings.Repeat("x", 57)) // 60 bytes
	g := newGuest(t, function.ABIMayfly, withState(state, 100))
	g.want(0, "kv_put", "k", strings.Repeat("x", 39), 0) // 100
	g.want(codeOverLimit, "kv_put", "m", "x", 0)
	g.want(codeOverLimit, "kv_put", "k", strings.Repeat("x", 40), 0)
	g.want(codeOverLimit, "kv_incr", "n", 1, 8)
	g.want(codeOverLimit, "kv_cas", "c", 0, "")
	g.want(0, "kv_put", "k", strings.Repeat("y", 39), 0)
	g.want(0, "kv_put", "old", "", 0) // 43
	g.want(0, "kv_put", "m", strings.Repeat("x", 56), 0)
	g.want(codeOverLimit, "kv_put", "z", "", 0)
	g.want(0, "kv_del", "old")
	g.want(0, "kv_put", "z", "", 0)
}

func TestQuotaExceededAlready(t *testing.T) {
	state := newMapState()
	state.set("big", strings.Repeat("x", 200))
	g := newGuest(t, function.ABIMayfly, withState(state, 100))
	g.want(0, "kv_put", "big", strings.Repeat("x", 150), 0) // less than before is always fine
	g.want(codeOverLimit, "kv_put", "small", "", 0)
	g.want(0, "kv_del", "big")
	g.want(0, "kv_put", "small", "", 0)
}

func TestWritesOfOneEventAreBounded(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, withState(newMapState(), 1<<40))
	key := g.alloc(8)
	put := func(i, size int) int64 {
		binary.LittleEndian.PutUint64(g.mem[key:], uint64(i))
		w, err := g.s.Host(idKVPut, []uint64{key, 8, 0, uint64(size), 0}, g.mem)
		if err != nil {
			t.Fatal(err)
		}
		return int64(int32(uint32(w)))
	}
	for i := range MaxWrites {
		if code := put(i, 0); code != 0 {
			t.Fatalf("write %d: %d", i, code)
		}
	}
	if put(MaxWrites, 0) != codeOverLimit || put(0, 1) != 0 {
		t.Error("the number of keys one event may write is not bounded, or keys it has written are refused")
	}
	n := 1
	for ; put(n, 60<<10) == 0; n++ {
		if n > 20 {
			t.Fatal("the bytes one event may write are not bounded")
		}
	}
	g.mem = make([]byte, MaxValue+1024)
	g.begin()
	if put(0, MaxValue+1) != codeTooLarge || put(0, MaxValue) != 0 {
		t.Error("the largest value")
	}
}

func pages(g *guest, prefix string, size int) (keys []string) {
	g.t.Helper()
	cursor := ""
	for {
		g.top = 64
		n := g.do("kv_list", prefix, cursor, room(size))
		if n == 0 {
			return keys
		}
		if n < 0 || n > int64(size) {
			g.t.Fatalf("kv_list = %d", n)
		}
		for page := g.mem[g.out : g.out+uint64(n)]; len(page) > 0; {
			k := binary.LittleEndian.Uint16(page)
			keys = append(keys, string(page[2:2+k]))
			page = page[2+k:]
		}
		cursor = keys[len(keys)-1]
	}
}

func TestListPages(t *testing.T) {
	state := newMapState()
	for _, k := range []string{"a/1", "a/2", "a/3", "a/5", "b"} {
		state.set(k, "x")
	}
	g := newGuest(t, function.ABIMayfly, withState(state, 1000))
	g.want(0, "kv_del", "a/2")
	g.want(0, "kv_put", "a/4", "", 0)
	g.want(0, "kv_put", "a/5", "", 0)
	g.want(0, "kv_put", "a/6", "", 0)
	g.want(5, "kv_list", "a/", "", 0, 0) // what the first key needs
	g.want(5, "kv_list", "a/", "", room(4))
	g.want(5, "kv_list", "a/", "", room(9))
	g.want(5, "kv_list", "a/", "a/5", 0, 0) // of the event's own
	g.want(0, "kv_list", "a/", "a/6", room(9))
	for _, size := range []int{5, 11, 100} {
		if got := pages(g, "a/", size); !slices.Equal(got, []string{"a/1", "a/3", "a/4", "a/5", "a/6"}) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
}

// TestStateModel runs random events against a plain map: what an event reads, what it lists and what is committed must be
// what the map says, whatever the order of its calls.
func TestStateModel(t *testing.T) {
	keys := []string{"a", "ab", "b", "ba", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		state := newMapState()
		for _, k := range keys {
			if rapid.Bool().Draw(rt, "exists") {
				state.set(k, "12345678")
			}
		}
		g := newGuest(t, function.ABIMayfly, withState(state, 1<<20))
		model := map[string]string{}
		for k, v := range state.m {
			model[k] = v.value
		}
		touched := map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(rt, "calls") {
			g.top = 64
			modelStep(rt, g, model, touched, rapid.SampledFrom(keys).Draw(rt, "key"))
		}
		if err := g.s.End(0, nil); err != nil {
			rt.Fatal(err)
		}
		if len(g.res.Writes) != len(touched) {
			rt.Fatalf("%d writes of %d keys", len(g.res.Writes), len(touched))
		}
		if err := state.commit(g.res.Writes); err != nil {
			rt.Fatal(err)
		}
		if len(state.m) != len(model) {
			rt.Fatalf("committed %v, want %v", state.m, model)
		}
		for k, v := range model {
			if state.m[k].value != v {
				rt.Fatalf("committed %s = %q, want %q", k, state.m[k].value, v)
			}
		}
	})
}

func modelStep(t *rapid.T, g *guest, model map[string]string, touched map[string]bool, key string) {
	old, exists := model[key]
	value := rapid.SampledFrom([]string{"", "x", "87654321", strings.Repeat("long", 20)}).Draw(t, "value")
	switch rapid.IntRange(0, 5).Draw(t, "op") {
	case 0:
		if !exists {
			g.want(codeAbsent, "kv_get", key, room(100))
		} else if got := g.text("kv_get", key); got != old {
			t.Fatalf("%s = %q, want %q", key, got, old)
		}
	case 1:
		g.want(0, "kv_put", key, value, 0)
		model[key], touched[key] = value, true
	case 2:
		if !exists {
			g.want(codeAbsent, "kv_del", key)
			return
		}
		g.want(0, "kv_del", key)
		delete(model, key)
		touched[key] = true
	case 3:
		out := g.alloc(8)
		if exists && len(old) != 8 {
			g.want(codeInvalid, "kv_incr", key, 1, int(out))
			return
		}
		g.want(0, "kv_incr", key, 1, int(out))
		model[key], touched[key] = string(g.mem[out:out+8]), true
		want := uint64(1)
		if exists {
			want += binary.LittleEndian.Uint64([]byte(old))
		}
		if g.u64(out) != want {
			t.Fatalf("incremented to %d, want %d", g.u64(out), want)
		}
	case 4:
		version := g.do("kv_ver", key)
		if (version != 0) != exists {
			t.Fatalf("version %d of a key that exists: %t", version, exists)
		}
		if next := g.do("kv_cas", key, int(version), value); next <= version {
			t.Fatalf("version %d after %d", next, version)
		}
		model[key], touched[key] = value, true
	case 5:
		prefix := rapid.SampledFrom([]string{"", "a", "b", "ab", "z"}).Draw(t, "prefix")
		want := slices.Sorted(maps.Keys(model))
		want = slices.DeleteFunc(want, func(k string) bool { return !strings.HasPrefix(k, prefix) })
		if got := pages(g, prefix, rapid.IntRange(4, 20).Draw(t, "page")); !slices.Equal(got, want) {
			t.Fatalf("list %q = %v, want %v", prefix, got, want)
		}
	}
}

func TestListBufferMayOverlapItsCursor(t *testing.T) {
	state := newMapState()
	for _, k := range []string{"a1", "a2", "a3"} {
		state.set(k, "")
	}
	g := newGuest(t, function.ABIMayfly, withState(state, 1000))
	at := g.put("a1")
	g.want(8, "kv_list", "a", int(at), 2, int(at), 100)
	if got := g.mem[at : at+8]; !bytes.Equal(got, []byte("\x02\x00a2\x02\x00a3")) {
		t.Errorf("page %q", got)
	}
}
