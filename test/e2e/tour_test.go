package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mayfly/internal/dex"
	"mayfly/internal/dockerregistry"
	"mayfly/internal/guests"
)

// scene is a block of commands of the page, and what the page says that they show.
type scene struct{ commands, shows string }

// scenes returns the blocks below a heading of a page: every ```sh, with the ```text that may follow it.
func scenes(t testing.TB, page, heading string) (all []scene) {
	t.Helper()
	_, section, found := strings.Cut(page, "\n## "+heading)
	if !found {
		t.Fatalf("the page has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, b := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		switch {
		case b[1] == "sh":
			all = append(all, scene{commands: b[2]})
		case b[1] == "text" && len(all) > 0 && all[len(all)-1].shows == "":
			all[len(all)-1].shows = b[2]
		default:
			t.Fatalf("a block of %s that follows no commands:\n%s", b[1], b[2])
		}
	}
	return all
}

// shown returns the first line of the page that is not in what was said after those before it, "" when all are. "..." stands for anything, and
// a space for any number of them.
func shown(page, said string) (missing string) {
	lines := strings.Split(said, "\n")
	for want := range strings.Lines(page) {
		var words []string
		for w := range strings.FieldsSeq(want) {
			if w = regexp.QuoteMeta(w); w == `\.\.\.` {
				w = `.*`
			}
			words = append(words, w)
		}
		line := regexp.MustCompile(`^\s*` + strings.Join(words, `\s*`) + `\s*$`)
		found := false
		for len(lines) > 0 && !found {
			found = line.MatchString(lines[0])
			lines = lines[1:]
		}
		if !found {
			return want
		}
	}
	return ""
}

// The tour of the README, as it stands there, with a real provider of tokens and a real registry: what the page says is shown is shown. Every
// command that is run, and every line that is looked for, is the page's.
func TestTour(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(guests.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := scenes(t, string(page), "Tour: ")
	if len(all) < 5 {
		t.Fatalf("the tour has %d scenes", len(all))
	}
	provider, registry := dex.New(t, time.Hour), dockerregistry.Run(t, dockerregistry.Options{})
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	rest := played(t, all, "DEX="+provider.URL, "DEX_CA="+provider.CA, "REGISTRY="+registry.Host, "PORT="+port)
	for i, s := range all {
		said, after, ended := strings.Cut(rest, endOf(i))
		if missing := shown(s.shows, said); !ended || missing != "" {
			t.Fatalf("scene %d does not show %q\n%s\nit says\n%s", i+1, missing, s.commands, said)
		}
		rest = after
	}
}

func endOf(scene int) string { return fmt.Sprintf("==== end of scene %d ====", scene+1) }

// played runs all scenes in one shell and returns what they said, the end of each marked.
func played(t *testing.T, all []scene, environ ...string) string {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mft-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in the temporary directory is no reason to fail
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for i, s := range all {
		script.WriteString(s.commands + "\necho '" + endOf(i) + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(environ, "TMPDIR="+dir, "PATH="+bin+":"+os.Getenv("PATH"))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the agent of the tour is a child of the shell
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	said := &speech{}
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // gone already is as well
	if err != nil {
		t.Errorf("the tour ends with %v", err)
		logs, _ := filepath.Glob(filepath.Join(dir, "*", "mayflyd.log"))
		for _, file := range logs {
			text, _ := os.ReadFile(file)
			t.Logf("the agent said:\n%s", tail(string(text), 4000))
		}
	}
	return said.String()
}

// What is not shown is told from what is.
func TestWhatThePageShows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ page, said, missing string }{
		{"", "anything", ""},
		{"a b\n", "x\na    b\n", ""},
		{"a ... c\n", "a b c", ""},
		{"a\n", "ab", "a\n"},
		{"a\nb\n", "b\na\n", "b\n"},
		{"a.c\n", "abc", "a.c\n"},
		{"401\n", "200\n 401", ""},
	} {
		if got := shown(c.page, c.said); got != c.missing {
			t.Errorf("%q of %q: %q is missing, want %q", c.page, c.said, got, c.missing)
		}
	}
	got := scenes(t, "\n## A\n```sh\nx\n```\n\n```text\ny\n```\n```sh\nz\n```\n## B\n```sh\nw\n```\n", "A")
	if len(got) != 2 || got[0] != (scene{"x\n", "y\n"}) || got[1] != (scene{commands: "z\n"}) {
		t.Errorf("%q", got)
	}
}
