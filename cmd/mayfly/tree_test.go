package main

import (
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func testApp() *app {
	return newApp(process{Getenv: func(k string) string { return map[string]string{"MAYFLY_SOCKET": "/nonexistent/s"}[k] }, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now})
}

// leaves returns every verb by its path.
func leaves(cmd *cobra.Command) map[string]*cobra.Command {
	out := map[string]*cobra.Command{}
	for _, c := range cmd.Commands() {
		switch {
		case c.HasSubCommands():
			maps.Copy(out, leaves(c))
		case c.Runnable():
			out[strings.TrimPrefix(c.CommandPath(), "mayfly ")] = c
		}
	}
	return out
}

// Every verb that reads prints tables, JSON, YAML and names. Whatever does not have -o is listed here, because it writes or
// because its output has a form of its own.
func TestEveryReadVerbHasOutputFormats(t *testing.T) {
	without := map[string]string{
		"fn rm": "writes", "fn pause": "writes", "fn resume": "writes", "canary promote": "writes", "canary abort": "writes", "dlq replay": "writes", "dlq drop": "writes",
		"pub": "writes", "build": "writes", "man": "manual pages", "config check": "the agent's program prints faults",
		"completion bash": "a script", "completion zsh": "a script", "completion fish": "a script", "completion powershell": "a script",
		"token revoke": "writes", "access revoke": "writes", "secret rm": "writes", "nodes label": "writes", "nodes drain": "writes", "nodes revoke": "writes", "operators create": "writes", "operators sign": "writes",
		"help": "text",
	}
	verbs := leaves(newRoot(testApp()))
	if len(verbs) < 20 {
		t.Fatalf("only %d verbs were found", len(verbs))
	}
	for path, cmd := range verbs {
		flag := cmd.Flags().Lookup("output")
		_, listed := without[path]
		delete(without, path)
		switch {
		case flag == nil && !listed:
			t.Errorf("mayfly %s has no -o: add it, or list it here with the reason", path)
		case flag != nil && listed:
			t.Errorf("mayfly %s has -o and is listed as if it had not", path)
		case flag != nil && (flag.Shorthand != "o" || flag.DefValue != "table"):
			t.Errorf("mayfly %s: -o is %q with default %q", path, flag.Shorthand, flag.DefValue)
		}
		if flag == nil {
			continue
		}
		for _, f := range formats() {
			if err := flag.Value.Set(f); err != nil {
				t.Errorf("mayfly %s -o %s: %v", path, f, err)
			}
		}
	}
	for path := range without {
		if path != "help" { // cobra adds it when it runs
			t.Errorf("mayfly %s is listed and does not exist", path)
		}
	}
}

// Every command says in a line what it does, at length how, and shows an example.
func TestEveryCommandIsExplained(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if strings.HasPrefix(path, "mayfly completion") {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 70 {
			t.Errorf("%s: short text %q: want one line of at most 70 characters without a full stop", path, cmd.Short)
		}
		if cmd.Long == "" || cmd.Runnable() && cmd.Example == "" {
			t.Errorf("%s: long text or example is missing", path)
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: a line of %d characters: %s", path, len(line), line)
			}
		}
		if cmd.Runnable() && !cmd.HasSubCommands() && cmd.Args == nil {
			t.Errorf("%s does not check its arguments", path)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot(testApp()))
}
