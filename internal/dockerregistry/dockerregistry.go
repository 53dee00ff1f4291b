// Package dockerregistry starts a real registry, Debian's docker-registry, on a loopback port: what the project says about registries is
// shown against one that nobody here wrote.
package dockerregistry

import (
	"context"
	"encoding/base64"
	"errors"
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

// Registry is one that runs.
type Registry struct {
	Host string // and port
	Root string // the folder it keeps blobs in

	log  string
	stop context.CancelFunc
	done chan error
}

// Run starts a registry for the duration of a test; on failure of the test what it said is shown.
func Run(t testing.TB, o Options) *Registry {
	t.Helper()
	r, err := Start(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			text, _ := os.ReadFile(r.log)
			t.Logf("docker-registry said:\n%s", text)
		}
	})
	return r
}

// Start starts a registry that keeps everything below dir, and returns when it answers.
func Start(dir string, o Options) (*Registry, error) {
	host, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &Registry{Host: host, Root: filepath.Join(dir, "blobs"), log: filepath.Join(dir, "log"), done: make(chan error, 1)}
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", r.Root, host)
	if o.Locked {
		file := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if err := r.start(file); err != nil {
		return nil, err
	}
	if err := r.await(); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

// Stop ends it.
func (r *Registry) Stop() {
	r.stop()
	if err := <-r.done; err == nil {
		return // it had ended by itself
	}
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (r *Registry) start(file string) error {
	log, err := os.Create(r.log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		cancel()
		return errors.Join(fmt.Errorf("%w; on Debian: apt-get install docker-registry", err), log.Close())
	}
	r.stop = cancel
	go func() {
		err := cmd.Wait()
		r.done <- errors.Join(err, log.Close())
	}()
	return nil
}

// await returns when the registry answers.
func (r *Registry) await() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-tick.C {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+r.Host+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(request); err == nil {
			return resp.Body.Close()
		}
	}
	return errors.New("docker-registry did not answer within 15 s")
}

// Login writes a Docker config.json into dir that logs User in.
func (r *Registry) Login(dir string) error {
	secret := base64.StdEncoding.EncodeToString([]byte(User + ":" + Password))
	return os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, r.Host, secret), 0o600)
}
