package abi

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// guest stands for a Wasm instance: 64 KiB of memory and calls by name.
type guest struct {
	t    testing.TB
	s    Session
	call *function.Call
	kind function.ABI
	res  function.Result
	mem  []byte
	top  uint64
	out  uint64 // where the last room was
}

// room asks for a buffer of that many bytes: two words, pointer and capacity.
type room int

func newGuest(t testing.TB, kind function.ABI, adapt ...func(*function.Call)) *guest {
	t.Helper()
	call := &function.Call{
		Function: &function.Function{Manifest: function.Manifest{
			Name: "f",
			Permissions: function.Permissions{
				Publish: []string{"plant/+/alarm", "deep/#"}, HTTP: []string{"https://hooks.local/*"}, Secrets: []string{"webhook", "gone", "later"},
			},
			Config: []function.Setting{{Key: "limit_c", Value: "70"}, {Key: "site", Value: "north"}},
			State:  function.StatePolicy{Scope: function.ScopeNode, Quota: 1000},
		}},
		Event: &event.Event{
			ID: "e1", Source: "mqtt://b/plant/7/temp", Type: event.TypeMQTT, Topic: "plant/7/temp", QoS: 1,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Data: []byte(`{"t":91}`), User: []event.Attr{{Name: "unit", Value: "C"}},
		},
		Trigger: "mqtt[0]", Attempt: 2, Node: "n1", Deadline: time.Now().Add(time.Minute),
		State: newMapState(), Secrets: secretMap{"webhook": "s3cret", "later": "sealed"},
	}
	call.Pattern, _ = event.ParsePattern("plant/{line}/temp")
	for _, f := range adapt {
		f(call)
	}
	g := &guest{t: t, call: call, kind: kind, mem: make([]byte, 64<<10)}
	g.begin()
	return g
}

// begin starts the next event on the same session.
func (g *guest) begin() {
	g.res.Reset()
	g.top = 64
	g.s.Begin(g.call, g.kind, &g.res)
}

func number(t testing.TB, name string) int {
	t.Helper()
	i := slices.IndexFunc(imports[:], func(i Import) bool { return i.Name == name })
	if i < 0 {
		t.Fatalf("no import %q", name)
	}
	return i
}

func (g *guest) alloc(n int) uint64 {
	at := g.top
	g.top += uint64(n+7) &^ 7
	if g.top > uint64(len(g.mem)) {
		g.t.Fatalf("test guest is out of memory")
	}
	return at
}

func (g *guest) put(s string) uint64 {
	at := g.alloc(len(s))
	copy(g.mem[at:], s)
	return at
}

// try calls a host function. A string stands for pointer and length, a room for a buffer, an int for itself.
func (g *guest) try(name string, args ...any) (int64, error) {
	g.t.Helper()
	id := number(g.t, name)
	var words []uint64
	for _, a := range args {
		switch a := a.(type) {
		case string:
			words = append(words, g.put(a), uint64(len(a)))
		case room:
			g.out = g.alloc(int(a))
			words = append(words, g.out, uint64(a))
		case int:
			words = append(words, uint64(a))
		}
	}
	if len(words) != len(imports[id].Params) {
		g.t.Fatalf("%s takes %d words, the test gave %d", name, len(imports[id].Params), len(words))
	}
	w, err := g.s.Host(id, words, g.mem)
	if len(imports[id].Results) == 1 && imports[id].Results[0] == I64 {
		return int64(w), err
	}
	return int64(int32(uint32(w))), err
}

func (g *guest) do(name string, args ...any) int64 {
	g.t.Helper()
	n, err := g.try(name, args...)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return n
}

func (g *guest) want(code int64, name string, args ...any) {
	g.t.Helper()
	if got := g.do(name, args...); got != code {
		g.t.Fatalf("%s%q = %d, want %d", name, args, got, code)
	}
}

// text calls a function whose last argument is a room and returns what it wrote there.
func (g *guest) text(name string, args ...any) string {
	g.t.Helper()
	n := g.do(name, append(args, room(4096))...)
	if n < 0 || n > 4096 {
		g.t.Fatalf("%s%q = %d", name, args, n)
	}
	return string(g.mem[g.out : g.out+uint64(n)])
}

func (g *guest) u32(at uint64) uint32 { return binary.LittleEndian.Uint32(g.mem[at:]) }
func (g *guest) u64(at uint64) uint64 { return binary.LittleEndian.Uint64(g.mem[at:]) }

// fdWrite writes texts with one vector each.
func (g *guest) fdWrite(fd int, texts ...string) (int64, uint32, error) {
	list := g.alloc(8 * len(texts))
	for i, s := range texts {
		binary.LittleEndian.PutUint32(g.mem[list+uint64(8*i):], uint32(g.put(s)))
		binary.LittleEndian.PutUint32(g.mem[list+uint64(8*i)+4:], uint32(len(s)))
	}
	done := g.alloc(4)
	n, err := g.try("fd_write", fd, int(list), len(texts), int(done))
	return n, g.u32(done), err
}

func (g *guest) print(fd int, texts ...string) {
	g.t.Helper()
	if n, _, err := g.fdWrite(fd, texts...); n != 0 || err != nil {
		g.t.Fatalf("fd_write(%d) = %d, %v", fd, n, err)
	}
}

type secretMap map[string]string

func (m secretMap) Secret(name string) ([]byte, bool, error) {
	v, ok := m[name]
	if v == "sealed" {
		return nil, true, errors.New("it is sealed to others")
	}
	return []byte(v), ok, nil
}

// mapState is a State in memory whose versions grow like a store's.
type mapState struct {
	m    map[string]mapValue
	last uint64
	fail error
	gets int
}

type mapValue struct {
	value   string
	version uint64
}

func newMapState() *mapState { return &mapState{m: map[string]mapValue{}} }

func (s *mapState) set(key, value string) {
	s.last++
	s.m[key] = mapValue{value, s.last}
}

func (s *mapState) Get(key []byte) ([]byte, uint64, error) {
	s.gets++
	v := s.m[string(key)]
	return []byte(v.value), v.version, s.fail
}

func (s *mapState) List(prefix, cursor []byte, yield func([]byte) bool) error {
	var keys []string
	for k := range s.m {
		if strings.HasPrefix(k, string(prefix)) && k > string(cursor) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !yield([]byte(k)) {
			break
		}
	}
	return s.fail
}

func (s *mapState) Usage() (n int64, err error) {
	for k, v := range s.m {
		n += int64(len(k) + len(v.value))
	}
	return n, s.fail
}

// commit applies writes as a store would; it reports the first key whose version moved.
func (s *mapState) commit(writes []function.StateWrite) error {
	for _, w := range writes {
		if w.Checked && s.m[string(w.Key)].version != w.Expect {
			return errors.New("conflict on " + string(w.Key))
		}
	}
	for _, w := range writes {
		if w.Delete {
			delete(s.m, string(w.Key))
		} else {
			s.set(string(w.Key), string(w.Value))
		}
	}
	return nil
}
