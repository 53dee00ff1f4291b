package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mayfly/admin"
	"mayfly/internal/dockerregistry"
	"mayfly/internal/guests"
	"mayfly/internal/mosquitto"
)

// answering is a module that answers each event on out with word, after spinning for a while.
func answering(t testing.TB, word string, spins int) []byte {
	return guests.WAT(t, fmt.Sprintf(`(module
  (import "mayfly_v1" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "out%s")
  (func (export "mayfly_handle") (result i32) (local $i i32)
    (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const %d))))
    (drop (call $publish (i32.const 0) (i32.const 3) (i32.const 3) (i32.const %d) (i32.const 1)))
    i32.const 0))`, word, spins, len(word)))
}

// release writes version of a function into its folder; more is added to its manifest.
func (n *node) release(version string, module []byte, more ...string) string {
	n.t.Helper()
	text := fmt.Sprintf(`manifest = 1
name = "greet"
version = %q
[module]
path = "greet.wasm"
[[trigger.mqtt]]
topic = "in/{who}"
[permissions]
publish = ["out"]
[retry]
max_attempts = 8
backoff = "200ms..2s"
`, version) + strings.Join(more, "")
	n.file("greet/function.toml", text)
	n.file("greet/greet.wasm", string(module))
	return filepath.Join(n.dir, "greet")
}

// manyKeys publishes one event of each of many keys.
func manyKeys(t testing.TB, d *device, round string) {
	t.Helper()
	for i := range 100 {
		if err := d.publish(fmt.Sprintf("in/%s-%d", round, i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	d.settled(t)
}

// count returns how many of what was heard on out begin with each word.
func count(d *device) map[string]int {
	words := map[string]int{}
	for _, payload := range d.heard("out") {
		words[payload]++
	}
	return words
}

func (n *node) trialOver(want string) {
	n.t.Helper()
	until(n.t, "the end of the trial", func() (bool, string) {
		f := n.function("greet")
		return f.Canary == "" && f.Version == want, fmt.Sprintf("deployed %s, on trial %q", f.Version, f.Canary)
	})
}

// A function comes from a registry by its digest; a broken version on trial is rolled back by itself and nothing is lost; a slow one
// too; a good one is promoted; all can be gone back to, after a power cut as well. [R1], [R2], [R3], [R4]
func TestRelease(t *testing.T) {
	t.Parallel()
	registry := dockerregistry.Run(t, dockerregistry.Options{})
	n := withBroker(t, "")
	push := func(version string, module []byte) string {
		r := n.must("push", n.release(version, module), "oci://"+registry.Host+"/iot/greet:"+version)
		return strings.TrimSpace(r.out)
	}
	one, broken := push("1.0.0", answering(t, "one", 1)), push("2.0.0", guests.WAT(t, `(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) unreachable))`))
	slow, three := push("2.1.0", answering(t, "slow", 20_000_000)), push("3.0.0", answering(t, "three", 1))
	if !strings.Contains(one, "@sha256:") {
		t.Fatalf("pushed as %q", one)
	}
	n.must("deploy", "--wait", one)
	d := connect(t, n.broker, "device")
	d.subscribe(t, "out")
	manyKeys(t, d, "before")

	n.must("deploy", broken, "--canary", "30%", "--min-events", "10", "--for", "1h").want(t, 0, "on trial with 30 %")
	manyKeys(t, d, "broken")
	n.trialOver("1.0.0")
	until(t, "all events by the version before", func() (bool, string) { return count(d)["one"] >= 200, fmt.Sprint(count(d)) })
	n.must("fn", "history", "greet").want(t, 0, "2.0.0", "failed", "events failed")
	if dead := n.status().DeadLetters.Count; dead != 0 {
		t.Errorf("%d dead letters", dead)
	}

	n.must("deploy", slow, "--canary", "30%", "--min-events", "10", "--for", "1h")
	manyKeys(t, d, "slow")
	n.trialOver("1.0.0")
	n.must("fn", "history", "greet").want(t, 0, "2.1.0", "nine tenths of its runs")

	n.must("deploy", three, "--canary", "30%", "--min-events", "10", "--for", "2s")
	manyKeys(t, d, "good")
	n.trialOver("3.0.0")
	if words := count(d); words["three"] < 10 || words["three"] > 60 {
		t.Errorf("30 %% of 100 events went so: %v", words)
	}

	n.must("rollback", "greet").want(t, 0, "greet is 1.0.0 again")
	n.kill()
	n.start()
	n.must("fn", "history", "greet").want(t, 0, "3.0.0", "replaced", "2.0.0", "failed")
	n.must("rollback", "greet", "--to", "3.0.0").want(t, 0, "greet is 3.0.0 again")
	if f := n.function("greet"); f.State == admin.StateFailed || f.Version != "3.0.0" {
		t.Errorf("it is %s: %s %s", f.Version, f.State, f.Reason)
	}
	n.must("fn", "rm", "greet", "--yes")
	n.mayfly("fn", "history", "greet").want(t, 4)
	if left, err := filepath.Glob(filepath.Join(n.dir, "data", "modules", "*.wasm")); err != nil || len(left) > 0 {
		t.Errorf("modules left: %v %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "data")); err != nil {
		t.Error(err)
	}
}

// pairOf returns two nodes of a cluster at one broker: the first has the operator's key, the second the label "far".
func pairOf(t testing.TB, url string) (first, far *node) {
	t.Helper()
	calls := ""
	for i, more := range []string{"", "labels = [\"far\"]\n"} {
		gossip := freePair(t)
		n := newNode(t, fmt.Sprintf("%s%s[cluster]\nlisten = \"127.0.0.1:%d\"\n", more, brokerAt(url), gossip))
		n.start()
		if i == 0 {
			first, calls = n, fmt.Sprintf("127.0.0.1:%d", gossip+1)
			n.must("init")
		} else {
			token := strings.TrimSpace(first.must("token", "create", "-o", "json").out)
			var made struct{ Token string }
			if err := json.Unmarshal([]byte(token), &made); err != nil {
				t.Fatal(err)
			}
			n.must("join", made.Token, "--via", calls)
			far = n
		}
		n.ready()
	}
	return first, far
}

// freePair returns a port whose successor is free too.
func freePair(t testing.TB) int {
	t.Helper()
	for range 100 {
		one, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := one.Addr().(*net.TCPAddr).Port
		two, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = one.Close()
		if err == nil {
			_ = two.Close()
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}

// answers returns when an event is answered, which the node that owns the trigger has to connect for, and how many were by then: one event
// at a time is on its way.
func answers(t testing.TB, d *device) int {
	t.Helper()
	sent := time.Time{}
	until(t, "an event is answered", func() (bool, string) {
		if time.Since(sent) > 2*time.Second {
			sent = time.Now()
			if err := d.publish("in/probe", "x"); err != nil {
				t.Fatal(err)
			}
		}
		return len(d.heard("out")) > 0, "no answer"
	})
	return len(d.heard("out"))
}

// [R4] A node without an operator's key that finds a version on trial worse stops using it and says so; the node with the key, which saw
// no event itself, ends the trial for all. What was before can be had from either.
func TestTrialWithoutTheKey(t *testing.T) {
	t.Parallel()
	broker := mosquitto.Run(t, mosquitto.Options{})
	first, far := pairOf(t, broker.URL())
	const there = "[placement]\nrequire = [\"label:far\"]\n"
	first.must("deploy", "--nodes-timeout", "60s", first.release("1.0.0", answering(t, "one", 1), there))
	until(t, "the far node has it open", func() (bool, string) {
		f, err := far.client.Function(t.Context(), "greet")
		return err == nil && f.State == admin.StateReady, fmt.Sprint(f.State, f.Reason, err)
	})
	d := connect(t, broker.Addr(), "device")
	d.subscribe(t, "out")
	before := answers(t, d)
	manyKeys(t, d, "before")
	until(t, "all events are answered", func() (bool, string) { return count(d)["one"] >= before+100, fmt.Sprint(count(d)) })

	broken := guests.WAT(t, `(module (memory (export "memory") 1) (func (export "mayfly_handle") (result i32) unreachable))`)
	far.mayfly("deploy", far.release("2.0.0", broken, there), "--canary", "30%").want(t, 1, "operator's key")
	first.must("deploy", "--nodes-timeout", "60s", first.release("2.0.0", broken, there), "--canary", "30%", "--min-events", "10", "--for", "1h")
	first.kill()
	manyKeys(t, d, "alone")
	until(t, "the far node does without it", func() (bool, string) {
		c, err := far.client.Canary(t.Context(), "greet")
		return err == nil && c.Stopped && c.Verdict == "worse" && strings.Contains(c.Waits, "operator's key"), fmt.Sprintf("%+v %v", c, err)
	})
	until(t, "all events by the version before", func() (bool, string) { return count(d)["one"] >= before+200, fmt.Sprint(count(d)) })

	first.start()
	for _, n := range []*node{first, far} {
		n.trialOver("1.0.0")
		n.must("fn", "history", "greet").want(t, 0, "2.0.0", "failed", "events failed")
	}
	if c := first.mayfly("canary", "status", "greet"); c.code != 4 {
		t.Errorf("the trial is not over: %s", c.out)
	}
}
