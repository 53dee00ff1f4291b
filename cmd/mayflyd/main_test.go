package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mayflyd(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestShippedSampleIsTheProgramsOwn(t *testing.T) {
	shipped, err := os.ReadFile("../../configs/mayfly.toml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shipped, sample()) {
		t.Error("configs/mayfly.toml is not what `mayflyd config sample` prints; run: go generate ./cmd/mayflyd")
	}
	if code, out, errs := mayflyd("check", "--config", "../../configs/mayfly.toml"); code != 0 || !strings.HasSuffix(out, "ok\n") {
		t.Errorf("the sample is refused: %s", errs)
	}
}

func TestCheckReportsAllFaultsWithTheirPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mayfly.toml")
	text := "[node]\ndata = \"relative\"\nlable = [\"x\"]\n\n[gateway]\nlisten = \"0.0.0.0:80\"\n\n[broker.site]\nurls = [\"http://h\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := mayflyd("config", "check", file)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{":3:1", "unknown key", "labels"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not in:\n%s", want, errs)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, "lable", "labels", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, errs = mayflyd("check", file)
	for _, want := range []string{"absolute path", "needs cert and key", "url 1", ":2:", ":6:", ":8:"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not in:\n%s", want, errs)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "mayflyd run"},
		{[]string{"help"}, 0, "mayflyd run"},
		{[]string{"run", "--help"}, 0, "mayflyd run"},
		{[]string{"version"}, 0, "mayflyd unknown"},
		{[]string{"fly"}, 2, `unknown command "fly"`},
		{[]string{"run", "--config"}, 2, "flag needs an argument"},
		{[]string{"run", "--config", "/nonexistent/mayfly.toml"}, 1, "no such file"},
		{[]string{"serve-test"}, 2, "--socket"},
	} {
		code, out, errs := mayflyd(c.args...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%q: exit code %d, want %d; output lacks %q:\n%s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
}
