package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"mayfly/admin"
	"mayfly/internal/guests"
)

// hostile is a function that misbehaves at run time, and how the person who looks is told.
type hostile struct {
	name   string
	limits string
	module []byte
	kind   string // of the error; "" = the function may end well, with what it was allowed
	why    string
	hint   string
}

const sleeper = `#include <unistd.h>
int main(void) { for (;;) sleep(3600); }
`

const flood = `#include <stdio.h>
#include <string.h>
static char page[65536];
int main(void) { memset(page, 'x', sizeof page); for (int i = 0; i < 16384; i++) fwrite(page, 1, sizeof page, stdout); return 0; }
`

func hostiles(n *node) []hostile {
	wat := func(body string) []byte { return handler(n.t, body) }
	const million = `(br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))`
	return []hostile{
		{"endless", "timeout = \"100ms\"", wat(`(loop $l (br $l)) i32.const 0`), "timeout", "stopped after 1", "limits.timeout is 100ms"},
		{"sleeper", "timeout = \"100ms\"", n.program("sleeper", sleeper), "timeout", "the deadline passed while sleeping", "raise limits.timeout"},
		{"flood", "", n.program("flood", flood), "output-limit", "exceed the output limit of 1048576 bytes", "limits.output is 1048576 bytes"},
		{"gigabyte", "", wat(`(drop (call $respond (i32.const 0) (i32.const 1073741824))) i32.const 0`), "trap", "a pointer is outside the guest's memory", "a fault in the function"},
		{"hungry", "memory = \"1MiB\"", wat(`(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable`), "trap", "unreachable", "raise limits.memory"},
		{"deep", "", wat(`(drop (call $deep (i64.const 0))) i32.const 0`), "stack", "call stack exhausted", "limits.stack is 262144 bytes"},
		{"wild", "", wat(`(drop (call $data (i32.const -8) (i32.const 0x7fffffff))) i32.const 0`), "trap", "mayfly_v1.event_data: a pointer is outside", "a fault in the function"},
		{"wilder", "", wat(`(drop (call $publish (i32.const 0x7ffffff0) (i32.const -1) (i32.const -1) (i32.const -1) (i32.const 1))) i32.const 0`), "trap", "mayfly_v1.publish: a pointer is outside", "a fault in the function"},
		{"million", "", wat(`(loop $l (drop (call $publish (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 8) (i32.const 1)))` + million + ` i32.const 0`), "", "", ""},
		{"honest", "", wat(`(loop $l (br_if $l (i32.eqz (call $publish (i32.const 16) (i32.const 10) (i32.const 0) (i32.const 8) (i32.const 1))))) i32.const 2`), "rejected", "rejected the event", ""},
		{"intruder", "", wat(`(i32.sub (i32.const 0) (call $publish (i32.const 32) (i32.const 15) (i32.const 0) (i32.const 8) (i32.const 1)))`), "rejected", "rejected the event", ""},
		{"verbose", "", wat(`(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 65536))` + million + ` i32.const 7`), "status", "mayfly_handle returned 7", ""},
		{"division", "", wat(`(i32.div_u (i32.const 1) (local.get $i))`), "trap", "integer divide by zero", ""},
	}
}

// program builds a command from C text.
func (n *node) program(name, text string) []byte {
	n.t.Helper()
	return guests.CCommand(n.t, n.file(name+"-source/"+name+".c", text))
}

const hostileManifest = `[limits]
%s
[retry]
max_attempts = 2
backoff = "1ms..5ms"
[permissions]
publish = ["good/#"]
[[trigger.mqtt]]
topic = "hostile/%s"
`

func TestHostileFunctions(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.echo()
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	d.subscribe(t, "good/#")
	d.subscribe(t, "forbidden/#")
	all := hostiles(n)
	for _, h := range all {
		limits := h.limits
		if !strings.Contains(limits, "timeout") {
			limits += "\ntimeout = \"30s\"" // a busy machine is no fault of theirs
		}
		n.deploy(h.name, fmt.Sprintf(hostileManifest, limits, h.name), h.module)
		if r := n.mayfly("invoke", h.name, "-d", "x"); h.kind == "" {
			r.want(t, 0, "done on e2e")
		} else {
			r.want(t, 6, "error: ", h.why, h.hint)
		}
	}
	const each = 10
	for i := range each {
		for _, h := range all {
			if err := d.publish("hostile/"+h.name, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		n.serves(d, fmt.Sprint("beside-", i))
	}
	d.settled(t)
	n.tellsOf(all, each)
	if heard := d.heard("forbidden/topic"); len(heard) > 0 {
		t.Errorf("a topic that the manifest does not permit was published: %q", heard)
	}
	// Of a million publishes an event may make 64; one that fails after them has made none.
	until(t, "what was permitted comes out", func() (bool, string) {
		got := len(d.heard("good/topic"))
		return got == 64*(each+1), fmt.Sprint(got)
	})
	s := n.status()
	if s.Memory.RSSBytes > 200<<20 {
		t.Errorf("the agent takes %d MiB", s.Memory.RSSBytes>>20)
	}
	t.Logf("%d MiB, %d goroutines", s.Memory.RSSBytes>>20, s.Memory.Goroutines)
	n.stop()
}

// tellsOf checks that every event that failed is a dead letter with its reason, and that the functions' counters agree.
func (n *node) tellsOf(all []hostile, each int) {
	n.t.Helper()
	want := 0
	for _, h := range all {
		if h.kind != "" {
			want += each
		}
	}
	until(n.t, "every event that failed is a dead letter", func() (bool, string) {
		s := n.status()
		return s.DeadLetters.Count == int64(want) && s.Journal.Count == 0, fmt.Sprint(s.DeadLetters, s.Journal)
	})
	for _, h := range all {
		if h.kind == "" {
			continue
		}
		var letters []admin.DeadLetter
		if err := json.Unmarshal([]byte(n.must("dlq", "ls", "--function", h.name, "-o", "json").out), &letters); err != nil {
			n.t.Fatal(err)
		}
		if len(letters) != each {
			n.t.Errorf("%s: %d dead letters", h.name, len(letters))
			continue
		}
		l := letters[each-1]
		if l.Error.Kind != h.kind || !strings.Contains(l.Error.Message, h.why) || l.Topic != "hostile/"+h.name {
			n.t.Errorf("%s: dead letter %+v: %+v", h.name, l, l.Error)
		}
		n.must("dlq", "show", l.ID).want(n.t, 0, h.why, "hostile/"+h.name)
	}
}

func TestBadEvents(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.echo()
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out/#")
	d.subscribe(t, "good/#")
	n.deploy("picky", `[limits]
payload = "1KiB"
[permissions]
publish = ["good/#"]
[[trigger.mqtt]]
topic = "picky/{n}"
when = "json.t > 70"
`, handler(t, `(drop (call $publish (i32.const 16) (i32.const 10) (i32.const 16) (i32.const 4) (i32.const 1))) i32.const 0`))
	bad := []struct{ payload, why string }{
		{`{"t": `, "malformed JSON: unexpected end at byte 6"},
		{`not json`, "malformed JSON"},
		{``, "malformed JSON"},
		{strings.Repeat("[", 100_000), "malformed JSON: nested too deep"},
		{"\xff\xfe", "malformed JSON"},
		{`[1,2]`, "when json.t > 70"},
		{`{"t": 71, "pad": "` + strings.Repeat("x", 2000) + `"}`, "the event has 2020 bytes; the manifest takes 1024"},
	}
	for i, b := range bad {
		d.say(t, "picky/1", b.payload)
		n.serves(d, fmt.Sprint("after-", i))
	}
	d.say(t, "picky/1", `{"t": 71}`)
	d.hears(t, "good/topic", "good")
	for i, b := range bad {
		id := fmt.Sprint("picky-", i+1)
		r := n.must("dlq", "show", id, "-o", "json").want(t, 0, b.why[:10])
		var letter admin.DeadLetter
		if err := json.Unmarshal([]byte(r.out), &letter); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(letter.Error.Message, b.why) || string(letter.Body.Bytes()) != b.payload {
			t.Errorf("dead letter %s: %s: %.80q; want %s: %.80q", id, letter.Error.Message, letter.Body.Bytes(), b.why, b.payload)
		}
	}
	n.must("events", "tail", "--function", "picky", "--follow=false", "--errors").want(t, 0, "dead-letter", "malformed JSON")
	n.must("fn", "show", "picky").want(t, 0, "8 received, 1 done", "7 dead-lettered")
	n.mayfly("invoke", "picky", "-d", strings.Repeat("x", 2000)).want(t, 6, "the event has 2000 bytes", "raise limits.payload")
}
