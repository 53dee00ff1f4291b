// Package e2e_test uses the real programs as people and brokers do: mayflyd as a process of its own, mayfly on its socket, a
// mosquitto that nobody here wrote, guests made by the compilers people have. What goes in is wrong on purpose most of the
// time. Each test says what the user sees, that the agent goes on serving others, and that nothing acknowledged was lost.
package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// tools that the tests need besides Go, with the Debian package that has each.
func tools() map[string]string {
	return map[string]string{
		"/usr/sbin/mosquitto": "mosquitto", "wat2wasm": "wabt", "clang": "clang", "wasm-ld": "lld", "openssl": "openssl",
		"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "gcc": "gcc", "docker-registry": "docker-registry",
	}
}

// programs is where the programs of this run are.
var programs = sync.OnceValues(build)

// build makes both programs once per run, as make build does.
func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "mayfly-e2e-"); err != nil {
		return "", err
	}
	for name, cgo := range map[string]string{"mayflyd": "1", "mayfly": "0"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.version=e2e", "-o", filepath.Join(dir, name), "mayfly/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
}

func TestMain(m *testing.M) {
	code := 1
	for tool, pkg := range tools() {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "%s is missing; on Debian: apt-get install %s\n", tool, pkg)
			os.Exit(1)
		}
	}
	dir, err := programs()
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir) // a leftover in the temporary directory is no reason to fail
	os.Exit(code)
}
