// Package dockerregistry starts a real registry, Debian's docker-registry, on a loopback port: what the project says about registries is
// shown against one that nobody here wrote.
package dockerregistry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// User and Password are who may come in where Options.Locked asks for somebody.
const (
	User     = "tester"
	Password = "secret"
)

// htpasswd holds that user; the hash is a bcrypt of the password.
const htpasswd = "tester:$2a$05$eyAmgxDCr/nqVDBi.1jh2uL7PCEcIwe7N8JCROzJdCDpHl4tyd7eu\n"

// Options of a registry.
type Options struct {
	Locked bool // it asks for a password
}

// Run starts a registry for the duration of a test and returns its host and port, and the folder it keeps blobs in.
func Run(t testing.TB, o Options) (host, root string) {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(dir, "blobs")
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", root, host)
	if o.Locked {
		file := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
			t.Fatal(err)
		}
		conf += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, file)
	await(t, host)
	return host, root
}

func start(t testing.TB, file string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", file)
	log, err := os.Create(file + ".log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; on Debian: apt-get install docker-registry", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(file + ".log")
			t.Logf("docker-registry said:\n%s", text)
		}
	})
}

// await returns when the registry answers.
func await(t testing.TB, host string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-tick.C {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
			return
		}
	}
	t.Fatal("docker-registry did not answer within 15 s")
}
