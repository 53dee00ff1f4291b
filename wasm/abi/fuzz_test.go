package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// guarded is guest memory with a margin on both sides that must not change.
type guarded struct {
	all  []byte
	size int
}

const margin = 256

func newGuarded(size int) guarded {
	g := guarded{bytes.Repeat([]byte{0xa5}, size+2*margin), size}
	clear(g.memory())
	return g
}

func (g guarded) memory() []byte { return g.all[margin : margin+g.size] }

func (g guarded) intact() bool {
	edge := bytes.Repeat([]byte{0xa5}, margin)
	return bytes.Equal(g.all[:margin], edge) && bytes.Equal(g.all[margin+g.size:], edge)
}

// FuzzHost runs a program of host calls with any arguments on memory of any size with any content: nothing may panic, write
// beside the memory, take long, or make the host keep more than the limits permit.
func FuzzHost(f *testing.F) {
	word := func(words ...uint32) []byte {
		var b []byte
		for _, w := range words {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	text := []byte("deep/topic plant/7/alarm key value {\"url\":\"https://hooks.local/\"}")
	f.Add(uint16(4096), false, text, append([]byte{idPublish}, word(0, 10, 11, 5, 1)...))
	f.Add(uint16(100), true, text, append([]byte{idKVPut}, word(25, 3, 29, 5, 7)...))
	f.Add(uint16(100), true, text, append([]byte{idKVList}, word(0, 0, 0, 0, 50, 50)...))
	f.Add(uint16(2000), true, text, append([]byte{idHTTPSend}, word(35, 30, 0, 10)...))
	f.Add(uint16(500), true, word(8, 400, 0xfffffff0, 0x20), append([]byte{idFdWrite}, word(1, 0, 2, 16)...))
	f.Add(uint16(500), false, word(8, 400, 16, 100), append([]byte{idFdRead}, word(0, 0, 2, 16)...))
	f.Add(uint16(500), false, make([]byte, 96), append([]byte{idPollOneoff}, word(0, 0, 2, 300)...))
	f.Add(uint16(0), false, []byte{}, append([]byte{idRandom}, word(0xffffffff, 0xffffffff)...))
	f.Add(uint16(64), false, word(0xffffffff), append([]byte{idAbort}, word(4, 0, 0, 0)...))
	f.Fuzz(func(t *testing.T, size uint16, command bool, content, program []byte) {
		fuzzHost(t, size, command, content, program)
	})
}

func fuzzHost(t *testing.T, size uint16, command bool, content, program []byte) {
	kind := function.ABIMayfly
	if command {
		kind = function.ABICommand
	}
	g := newGuest(t, kind, withHTTP(&fakeHTTP{response: function.HTTPResponse{Status: 200, Body: []byte("ok")}}), func(c *function.Call) {
		c.Deadline = time.Now().Add(2 * time.Millisecond) // a guest may sleep that long
		c.Event = &event.Event{Topic: "plant/7/temp", Data: []byte("data"), User: []event.Attr{{Name: "u", Value: "v"}}}
	})
	mem := newGuarded(int(size))
	copy(mem.memory(), content)
	for range 64 {
		if len(program) == 0 {
			break
		}
		id := int(program[0]) % (importCount + 2)
		program = program[1:]
		var args []uint64
		for range MaxParams {
			if len(program) < 4 {
				break
			}
			args = append(args, uint64(binary.LittleEndian.Uint32(program)))
			program = program[4:]
			if id < importCount && len(args) == len(imports[id].Params) {
				break
			}
		}
		_, err := g.s.Host(id, args, mem.memory())
		if !mem.intact() {
			t.Fatalf("host call %d%x wrote beside the memory", id, args)
		}
		if err != nil {
			_ = g.s.End(0, err)
			return
		}
	}
	err := g.s.End(0, nil)
	var e *function.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("End returned %T", err)
	}
	checkBounds(t, g)
}

// checkBounds checks a result against the limits the guest has by default.
func checkBounds(t *testing.T, g *guest) {
	out, logged := 0, 0
	for _, m := range g.res.Publishes {
		out += len(m.Topic) + len(m.Data)
		if event.CheckTopic(m.Topic) != nil || !strings.HasPrefix(m.Topic, "deep") && !strings.HasSuffix(m.Topic, "/alarm") {
			t.Fatalf("published to %q", m.Topic)
		}
	}
	for _, l := range g.res.Log {
		logged += len(l.Text) + LogLineCost
	}
	if len(g.res.Publishes) > defaultPublishes || out > defaultOutput || logged > defaultLog || len(g.res.Writes) > MaxWrites {
		t.Fatalf("over the limits: %d publishes, %d bytes, %d logged, %d writes", len(g.res.Publishes), out, logged, len(g.res.Writes))
	}
}

// TestWildPointers gives every host function every combination of interesting words.
func TestWildPointers(t *testing.T) {
	interesting := []uint64{0, 1, 2, 100, 4095, 4096, 4097, 1 << 31, 1<<32 - 1, 1<<32 - 8, 1<<64 - 1, 0xdeadbeef_00000008}
	mem := newGuarded(4096)
	for id := range imports {
		g := newGuest(t, function.ABICommand, func(c *function.Call) { c.Deadline = time.Now() }) // nothing sleeps
		n := len(imports[id].Params)
		state := uint64(id + 1)
		for range 2000 {
			args := make([]uint64, n)
			for i := range args {
				state = state*6364136223846793005 + 1442695040888963407
				args[i] = interesting[state>>33%uint64(len(interesting))]
			}
			_, _ = g.s.Host(id, args, mem.memory())
			if !mem.intact() {
				t.Fatalf("%s%x wrote beside the memory", imports[id].Name, args)
			}
		}
		if n > 0 {
			if _, err := g.s.Host(id, make([]uint64, n-1), mem.memory()); err == nil {
				t.Errorf("%s with too few arguments succeeded", imports[id].Name)
			}
		}
	}
	g := newGuest(t, function.ABIMayfly)
	for _, id := range []int{-1, importCount, 1 << 40} {
		if _, err := g.s.Host(id, make([]uint64, MaxParams), mem.memory()); err == nil {
			t.Errorf("host call %d succeeded", id)
		}
	}
}

// TestPointersOutsideTrap checks that every pointer parameter of every function is looked at.
func TestPointersOutsideTrap(t *testing.T) {
	for name, args := range map[string][]uint64{
		"event_data": {4096, 1}, "event_attr": {0, 1, 4090, 7}, "event_json": {1 << 31, 1 << 31}, "publish": {0, 1, 4096, 1, 0},
		"respond": {4095, 2}, "respond_attr": {0, 1, 4095, 2}, "fail": {4095, 2}, "kv_get": {0, 1, 4095, 2}, "kv_put": {0, 1, 4095, 2, 0},
		"kv_del": {4095, 2}, "kv_incr": {0, 1, 1, 4089}, "kv_cas": {0, 1, 0, 4095, 2}, "kv_ver": {4095, 2}, "kv_list": {0, 0, 0, 0, 4095, 2},
		"config_get": {0, 1, 4095, 2}, "secret_get": {0, 1, 4095, 2}, "log": {0, 4095, 2}, "http_send": {0, 1, 4095, 2}, "random": {4095, 2},
		"args_get": {4095, 0}, "args_sizes_get": {0, 4093}, "environ_get": {0, 4095}, "environ_sizes_get": {4093, 0}, "clock_res_get": {0, 4089},
		"clock_time_get": {0, 0, 4089}, "fd_fdstat_get": {0, 4090}, "fd_filestat_get": {0, 4090}, "fd_read": {0, 4090, 1, 0},
		"fd_write": {1, 0, 1, 4093}, "poll_oneoff": {0, 0, 1, 4093}, "random_get": {0, 4097},
	} {
		g := newGuest(t, function.ABICommand)
		_, err := g.s.Host(number(t, name), args, make([]byte, 4096))
		var trap *Trap
		if !errors.As(err, &trap) || !strings.Contains(trap.Error(), name) || !strings.Contains(trap.Error(), "outside") {
			t.Errorf("%s%d: %v", name, args, err)
		}
	}
}

// TestHostMemoryIsBounded lets a guest ask for far more than it may have, and measures what the host allocates.
func TestHostMemoryIsBounded(t *testing.T) {
	g := newGuest(t, function.ABICommand, withState(newMapState(), 1<<20))
	g.mem = make([]byte, 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for id := range imports {
		if id == idProcExit || id == idAbort {
			continue
		}
		args := []uint64{0, 1 << 20, 0, 1 << 20, 0, 1 << 20, 0, 0, 0}
		for range 10 {
			_, _ = g.s.Host(id, args[:max(len(imports[id].Params), 1)], g.mem)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("a guest of 1 MiB made the host allocate %d bytes", n)
	}
}
