package abi

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// variables reads what args_get or environ_get gives.
func (g *guest) variables(sizes, get string) []string {
	g.t.Helper()
	count, size := g.alloc(4), g.alloc(4)
	g.want(0, sizes, int(count), int(size))
	n := g.u32(count)
	pointers, block := g.alloc(int(4*n)), g.alloc(int(g.u32(size)))
	g.want(0, get, int(pointers), int(block))
	var all []string
	for i := range uint64(n) {
		s, _, _ := strings.Cut(string(g.mem[g.u32(pointers+4*i):]), "\x00")
		all = append(all, s)
	}
	return all
}

func TestArguments(t *testing.T) {
	g := newGuest(t, function.ABICommand, func(c *function.Call) { c.Function.Manifest.Module.Args = []string{"-v", "", "a b"} })
	if got := g.variables("args_sizes_get", "args_get"); !slices.Equal(got, []string{"f", "-v", "", "a b"}) {
		t.Errorf("args %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	g := newGuest(t, function.ABICommand, func(c *function.Call) {
		c.Captures = []event.Attr{{Name: "bad", Value: "a\x00b"}, {Name: "q", Value: "1"}}
		c.Function.Manifest.Config = append(c.Function.Manifest.Config, function.Setting{Key: "we.ird-Key", Value: "x=y"})
	})
	got := g.variables("environ_sizes_get", "environ_get")
	for _, want := range []string{
		"CE_ID=e1", "CE_SOURCE=mqtt://b/plant/7/temp", "CE_TYPE=" + event.TypeMQTT, "CE_TIME=2026-01-02T03:04:05Z",
		"MAYFLY_TOPIC=plant/7/temp", "MAYFLY_QOS=1", "MAYFLY_RETAINED=false", "MAYFLY_ATTEMPT=2", "MAYFLY_TOPIC_LINE=7",
		"MAYFLY_TOPIC_Q=1", "CFG_LIMIT_C=70", "CFG_SITE=north", "CFG_WE_IRD_KEY=x=y",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing in %q", want, got)
		}
	}
	if len(got) != 14 { // and MAYFLY_LEFT_MS
		t.Errorf("environment %q", got)
	}
	g.call.Event = &event.Event{ID: "second"}
	g.begin()
	if got := g.variables("environ_sizes_get", "environ_get"); !slices.Contains(got, "CE_ID=second") {
		t.Errorf("the second event's environment: %q", got)
	}
	g.kind = function.ABIMayfly
	g.begin()
	if got := g.variables("environ_sizes_get", "environ_get"); len(got) != 3 {
		t.Errorf("an instance that may be kept sees %q", got)
	}
}

func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, function.ABICommand)
		out := g.alloc(8)
		time.Sleep(1500*time.Microsecond + 7)
		g.want(0, "clock_time_get", clockRealtime, 0, int(out))
		if got, want := g.u64(out), uint64(time.Now().UnixNano())/1000*1000; got != want {
			t.Errorf("realtime %d, want %d", got, want)
		}
		g.want(0, "clock_time_get", clockMonotonic, 0, int(out))
		if got := g.u64(out); got != 1_500_000 {
			t.Errorf("monotonic %d", got)
		}
		g.want(0, "clock_res_get", clockThread, int(out))
		if g.u64(out) != 1000 {
			t.Errorf("resolution %d", g.u64(out))
		}
		g.want(wasiInval, "clock_time_get", 4, 0, int(out))
		g.want(wasiInval, "clock_res_get", -1, int(out))
	})
}

func TestStdin(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	list, done, a, b := g.alloc(16), g.alloc(4), g.alloc(8), g.alloc(8)
	for i, v := range []uint64{a, 5, b, 8} {
		binary.LittleEndian.PutUint32(g.mem[list+uint64(4*i):], uint32(v))
	}
	g.want(0, "fd_read", 0, int(list), 2, int(done))
	if g.u32(done) != 8 || string(g.mem[a:a+5]) != `{"t":` || string(g.mem[b:b+3]) != `91}` {
		t.Errorf("read %d bytes: %q %q", g.u32(done), g.mem[a:a+5], g.mem[b:b+8])
	}
	g.want(0, "fd_read", 0, int(list), 2, int(done))
	if g.u32(done) != 0 {
		t.Error("no end of input")
	}
	g.want(wasiBadf, "fd_read", 1, int(list), 2, int(done))
	g.want(wasiBadf, "fd_read", 3, int(list), 2, int(done))
	g.want(wasiInval, "fd_read", 0, int(list), MaxVectors+1, int(done))
	g.kind = function.ABIMayfly
	g.begin()
	g.want(0, "fd_read", 0, int(list), 2, int(done))
	if g.u32(done) != 0 {
		t.Error("a mayfly_v1 guest has an empty standard input")
	}
}

func TestStreams(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	out := g.alloc(64)
	for fd := range 5 {
		want := int64(0)
		if fd > 2 {
			want = wasiBadf
		}
		g.want(want, "fd_fdstat_get", fd, int(out))
		g.want(want, "fd_fdstat_set_flags", fd, 4)
		g.want(want, "fd_filestat_get", fd, int(out))
		g.want(wasiBadf, "fd_prestat_get", fd, int(out))
		g.want(wasiBadf, "fd_prestat_dir_name", fd, int(out), 8)
		if want == 0 {
			want = wasiSpipe
		}
		g.want(want, "fd_seek", fd, 0, 0, int(out))
		g.want(want, "fd_tell", fd, int(out))
	}
	g.want(0, "fd_fdstat_get", 0, int(out))
	if g.u64(out+8)&rightRead == 0 || g.u64(out+8)&rightWrite != 0 {
		t.Error("rights of the standard input")
	}
	g.want(0, "fd_close", 1)
	g.want(wasiBadf, "fd_close", 1)
	if n, _, _ := g.fdWrite(1, "x"); n != wasiBadf {
		t.Errorf("writing to a closed stream: %d", n)
	}
	g.begin()
	g.print(1, "x")
	g.want(0, "sched_yield")
	if _, err := g.try("proc_exit", 7); err == nil || err.Error() != "exit status 7" {
		t.Errorf("proc_exit: %v", err)
	}
}

func TestTheRestOfPreview1(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	for id := idFdAdvise; id < importCount; id++ {
		w, err := g.s.Host(id, make([]uint64, MaxParams), g.mem)
		if err != nil || w != wasiNotsup && w != wasiNosys {
			t.Errorf("%s = %d, %v", imports[id].Name, w, err)
		}
	}
}

func TestStderrIsTheLog(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	g.print(2, "one\ntw", "o\r\n\n", strings.Repeat("x", MaxLine+10), "\nlast")
	_ = g.s.End(0, nil)
	var got []string
	for _, l := range g.res.Log {
		got = append(got, l.Text)
		if l.Level != function.LevelInfo {
			t.Errorf("level %v", l.Level)
		}
	}
	if want := []string{"one", "two", strings.Repeat("x", MaxLine), strings.Repeat("x", 10), "last"}; !slices.Equal(got, want) {
		t.Errorf("log %q", got)
	}
}

func TestOutputOfMayflyGuestsIsLog(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.print(1, "debugging\n")
	g.print(2, "panic: oh no")
	_ = g.s.End(0, nil)
	if len(g.res.Log) != 2 || g.res.Log[0].Level != function.LevelInfo || g.res.Log[1].Level != function.LevelError || g.res.Response != nil {
		t.Errorf("log %+v, response %v", g.res.Log, g.res.Response)
	}
}

func TestFloodOfLogIsCheap(t *testing.T) {
	g := newGuest(t, function.ABICommand)
	g.mem = make([]byte, 1<<20)
	for i := range g.mem {
		g.mem[i] = '\n'
	}
	for i := range MaxVectors { // a thousand times all of the memory
		binary.LittleEndian.PutUint32(g.mem[8*i:], 16384)
		binary.LittleEndian.PutUint32(g.mem[8*i+4:], 1<<20-16384)
	}
	start := time.Now()
	if _, err := g.try("fd_write", 2, 0, MaxVectors, 16000); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("1 GiB of newlines kept us busy for %v", d)
	}
	if g.res.Dropped == 0 {
		t.Error("what was dropped is not counted")
	}
}

func subscribe(g *guest, subs ...[6]uint64) uint64 {
	at := g.alloc(subscriptionSize * len(subs))
	for i, s := range subs { // user data, kind, id or fd, timeout, precision, flags
		b := g.mem[at+uint64(i)*subscriptionSize:]
		binary.LittleEndian.PutUint64(b, s[0])
		b[8] = byte(s[1])
		binary.LittleEndian.PutUint32(b[16:], uint32(s[2]))
		binary.LittleEndian.PutUint64(b[24:], s[3])
		b[40] = byte(s[5])
	}
	return at
}

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, function.ABICommand)
		out, n := g.alloc(10*pollEventSize), g.alloc(4)
		start := time.Now()
		in := subscribe(g, [6]uint64{11, pollClock, clockMonotonic, 5e6}, [6]uint64{12, pollClock, clockRealtime, 3e6},
			[6]uint64{13, pollClock, clockRealtime, uint64(start.UnixNano()) + 3e6, 0, 1}, [6]uint64{14, pollClock, 0, 1 << 63})
		g.want(0, "poll_oneoff", int(in), int(out), 4, int(n))
		if g.u32(n) != 2 || g.u64(out) != 12 || g.u64(out+pollEventSize) != 13 || time.Since(start) != 3*time.Millisecond {
			t.Errorf("%d events, the first for %d, after %v", g.u32(n), g.u64(out), time.Since(start))
		}
		in = subscribe(g, [6]uint64{1, pollClock, clockMonotonic, 5e6}, [6]uint64{2, pollRead, 0}, [6]uint64{3, pollWrite, 0}, [6]uint64{4, pollWrite, 9})
		g.want(0, "poll_oneoff", int(in), int(out), 4, int(n))
		if g.u32(n) != 3 || g.u64(out) != 2 || g.u64(out+16) != 8 || g.mem[out+8] != 0 || g.mem[out+pollEventSize+8] != wasiBadf {
			t.Errorf("%d events for streams", g.u32(n))
		}
		if time.Since(start) != 3*time.Millisecond {
			t.Error("streams are always ready")
		}
		past := subscribe(g, [6]uint64{1, pollClock, clockRealtime, 1, 0, 1})
		g.want(0, "poll_oneoff", int(past), int(out), 1, int(n))
		bad := subscribe(g, [6]uint64{1, 3})
		g.want(wasiInval, "poll_oneoff", int(bad), int(out), 1, int(n))
		g.want(wasiInval, "poll_oneoff", int(in), int(out), 0, int(n))
		g.want(wasiInval, "poll_oneoff", int(in), int(out), MaxVectors+1, int(n))
	})
}

func TestPollEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, function.ABICommand)
		start := time.Now()
		in := subscribe(g, [6]uint64{1, pollClock, clockMonotonic, uint64(time.Hour)})
		_, err := g.try("poll_oneoff", int(in), 2000, 1, 3000)
		if function.KindOf(err) != "timeout" || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err = g.try("poll_oneoff", int(in), 2000, 1, 3000); function.KindOf(err) != "timeout" || time.Since(start) != time.Minute {
			t.Errorf("after the deadline: %v", err)
		}
	})
}
