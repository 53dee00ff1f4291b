package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/internal/guests"
	"mayfly/internal/mosquitto"
)

// examples are the folders of all examples, with their modules.
func (n *node) examples() []string {
	n.t.Helper()
	t := n.t
	return []string{
		n.copied("overheat", guests.C(t, "examples/overheat/overheat.c")),
		n.copied("echo", guests.C(t, "examples/echo/echo.c")),
		n.copied("counter", guests.C(t, "examples/counter/counter.c")),
		n.copied("linecount", guests.CCommand(t, "examples/linecount/linecount.c")),
		n.copied("moving-average", guests.Rust(t, "examples/moving-average/moving_average.rs")),
		n.copied("deadband", guests.AssemblyScript(t, "examples/deadband/deadband.ts")),
		n.copied("enrich", guests.Go(t, "examples/enrich")),
	}
}

// `mayfly test` on every example, without an agent and with one: everything passes, nothing is published, stored or deployed.
func TestDryRuns(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	all := append([]string{"test", "-o", "json"}, n.examples()...)
	if dirs, err := filepath.Glob(filepath.Join(guests.Root(t), "examples", "*", "function.toml")); err != nil || len(dirs) != len(all)-3 {
		t.Errorf("there are %d examples; %v", len(dirs), err)
	}
	d := connect(t, n.broker, "device")
	d.subscribe(t, "#")
	before := n.files()
	for _, alone := range []bool{false, true} {
		args := all
		if alone {
			args = append([]string{"test", "--alone"}, all[1:]...)
		}
		var trials []struct {
			OK       bool
			Function string
		}
		if err := json.Unmarshal([]byte(n.must(args...).out), &trials); err != nil || len(trials) < len(all)-3 {
			t.Fatalf("%d trials: %v", len(trials), err)
		}
	}
	if after := n.files(); after != before {
		t.Errorf("stored:\n%s\nbefore:\n%s", after, before)
	}
	if s := n.status(); len(s.Functions) != 0 || s.Journal.Count+s.Outbox.Count+s.DeadLetters.Count != 0 {
		t.Errorf("something is left: %+v", s)
	}
	d.say(t, "a/fence", "x")
	d.hears(t, "a/fence", "x")
	if heard := d.heard(""); len(heard) != 1 {
		t.Errorf("published: %q", heard)
	}
	broken := filepath.Join(n.dir, "examples", "echo", "function.toml")
	text, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	n.file("examples/echo/function.toml", strings.Replace(string(text), `payload = "hello" }`, `payload = "bye" }`, 1))
	n.mayfly("test", filepath.Dir(broken)).want(t, 6, "bye", "hello", "function.toml:")
}

// files lists what the store and the modules' folder hold: names and sizes, without the engine's cache of compiled modules.
func (n *node) files() string {
	n.t.Helper()
	var all strings.Builder
	for _, dir := range []string{"modules", "store"} {
		err := filepath.WalkDir(filepath.Join(n.dir, "data", dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			fmt.Fprintln(&all, path, info.Size())
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return all.String()
}

// Every verb against a real agent, as table and as JSON.
func TestVerbs(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.must("version").want(t, 0, "mayfly        e2e", "agent         e2e")
	n.must("deploy", "--dry-run", n.copied("overheat", guests.C(t, "examples/overheat/overheat.c"))).want(t, 0, "nothing was changed")
	n.must("fn", "ls").want(t, 0, "mayfly deploy")
	n.must("deploy", "--wait", "--set", "limit_c=20", n.dir+"/examples/overheat").want(t, 0, "overheat 1.0.0 ready", "deployed in")
	n.must("fn", "ls").want(t, 0, "overheat", "ready")
	n.must("fn", "show", "overheat").want(t, 0, "plant/{line}/temp", "sha256:")
	n.must("fn", "show", "overheat", "-o", "wide").want(t, 0, "# Fahrenheit in")

	sub := n.follow("sub", "plant/#", "-n", "6", "-o", "json")
	logs := n.follow("logs", "-f", "overheat")
	tail := n.follow("events", "tail", "--function", "overheat", "--topic", "plant/+/temp")
	until(t, "the subscription has ended, having seen enough", func() (bool, string) {
		n.must("pub", "plant/7/temp", `{"t": 104}`, "--qos", "1")
		return sub.over(), sub.out.String()
	})
	sub.says(t, `plant/7/temp`, `plant/7/alarm`, `plant/7/celsius`, `limit\":20.0`)
	sub.ends(t, 0)
	logs.says(t, "too hot")
	tail.says(t, "overheat", "done", "published plant/7/alarm")
	logs.interrupt(t)
	tail.interrupt(t)

	n.must("invoke", "overheat", "--topic", "plant/1/temp", "-d", `{"t": 32}`).want(t, 0, `plant/1/celsius`, `{"c":0.0}`)
	n.mayfly("invoke", "overheat", "--topic", "plant/1/temp", "-d", `{}`).want(t, 6, `no number "t"`)
	n.must("pub", "plant/7/temp", `{"t": "warm"}`, "--qos", "1")
	until(t, "the dead letter is there", func() (bool, string) { return n.status().DeadLetters.Count == 1, "" })
	first := n.onlyLetter()
	n.must("dlq", "ls").want(t, 0, first, `no number "t"`)
	n.must("dlq", "show", first).want(t, 0, `{"t": "warm"}`, "plant/7/temp", `no number "t"`)
	n.must("dlq", "replay", first).want(t, 0, "1 dead letter queued again")
	until(t, "it died again", func() (bool, string) {
		return n.status().DeadLetters.Count == 1 && n.onlyLetter() != first, ""
	})
	n.must("dlq", "drop", "--all", "--yes").want(t, 0, "1 dead letter dropped")
	n.mayfly("dlq", "show", first).want(t, 4, "error: ", "next:  mayfly dlq ls")
	n.must("status").want(t, 0, "ready", "overheat")
	n.must("status", "--check")
	n.must("config", "show", "--origin").want(t, 0, "node.name", n.config+":")
	n.must("config", "check", n.config)

	for _, verb := range []string{"status", "fn ls", "fn show overheat", "dlq ls", "config show", "version", "events tail --follow=false", "logs"} {
		r := n.must(append(strings.Fields(verb), "-o", "json")...)
		for d := json.NewDecoder(strings.NewReader(r.out)); d.More(); {
			var any any
			if err := d.Decode(&any); err != nil {
				t.Errorf("mayfly %s -o json: %v\n%s", verb, err, r.out)
				break
			}
		}
	}
	n.mayfly("fn", "show", "overheet").want(t, 4, "error: ", `did you mean "overheat"?`, "next:  mayfly fn show overheat")
	n.must("fn", "rm", "overheat", "--yes")
	n.must("fn", "ls").want(t, 0, "mayfly deploy")
	n.stop()
	n.mayfly("status").want(t, 3, "no agent is running", "systemctl start mayflyd")
}

// onlyLetter is the id of the one dead letter there is.
func (n *node) onlyLetter() string {
	n.t.Helper()
	return strings.TrimSpace(n.must("dlq", "ls", "-o", "name").out)
}

// Paused: events are held and safe over a crash, and run when it is resumed, each once and in order. Removed: what waited is a
// dead letter each; deployed again, they are replayed, in order.
func TestPauseAndRemove(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	n := atBroker(t, b.URL(), "[limits]\nspill_after = \"20ms\"\n")
	n.teller("1.0.0", "")
	n.must("deploy", "--wait", n.dir+"/teller")
	listener := connect(t, b.Addr(), "listener")
	listener.subscribe(t, "told/#")
	d := connect(t, b.Addr(), "device")
	n.must("fn", "pause", "teller").want(t, 0, "paused")
	const last = 200
	for i := 1; i <= last; i++ {
		d.say(t, "ask/a", number(i))
	}
	until(t, "what comes while it is paused is journaled", func() (bool, string) {
		s := n.status()
		return s.Journal.Count >= last-20, fmt.Sprint(s.Journal)
	})
	n.mayfly("invoke", "teller", "-d", "1").want(t, 1, "paused", "next:  mayfly fn resume teller")
	n.kill()
	n.start()
	if heard := listener.heard(""); len(heard) > 0 {
		t.Errorf("paused, it ran: %q", heard)
	}
	n.must("fn", "resume", "teller")
	told(t, listener, "a", last)
	n.clean()

	n.must("fn", "pause", "teller")
	for i := 1; i <= last; i++ {
		d.say(t, "ask/b", number(i))
	}
	until(t, "it is journaled", func() (bool, string) { s := n.status(); return s.Journal.Count >= last-20, fmt.Sprint(s.Journal) })
	n.must("fn", "rm", "teller", "--yes")
	until(t, "what waited became dead letters", func() (bool, string) {
		s := n.status()
		return s.Journal.Count == 0 && s.DeadLetters.Count >= last-20, fmt.Sprint(s.Journal, s.DeadLetters)
	})
	letters := int(n.status().DeadLetters.Count)
	n.must("dlq", "ls", "-n", "1").want(t, 0, "removed before this event ran")
	n.mayfly("dlq", "replay", "--function", "teller").want(t, 4, "error: ")
	if now := int(n.status().DeadLetters.Count); now != letters {
		t.Errorf("a refused replay took %d dead letters", letters-now)
	}
	n.teller("2.0.0", "")
	n.must("dlq", "replay", "--function", "teller").want(t, 0, fmt.Sprint(letters, " dead letters queued again"))
	told(t, listener, "b", last)
}
