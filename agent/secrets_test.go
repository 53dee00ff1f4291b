package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/admin"
	"mayfly/cluster/catalog"
	"mayfly/function"
)

// device is an agent of a site in this process. Its disk outlives it.
type device struct {
	t    *testing.T
	dir  string
	cfg  Config
	said *spoken
	*Agent
	stop func()
}

// spoken is a log.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// twoPorts are a free port of loopback, and the one after it.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = first.Close()
		if err == nil {
			_ = second.Close()
			return port
		}
	}
	t.Fatal("no two free ports beside each other")
	return 0
}

func newDevice(t *testing.T, name string) *device {
	t.Helper()
	dir, err := os.MkdirTemp("", "mayfly-dev-") //nolint:usetesting // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &device{t: t, dir: dir, said: &spoken{}}
	d.cfg = Config{
		Node: NodeConfig{Name: name, Data: filepath.Join(dir, "data")}, Admin: AdminConfig{Socket: filepath.Join(dir, "s")},
		Cluster: ClusterConfig{Listen: fmt.Sprintf("127.0.0.1:%d", twoPorts(t))},
		Limits:  LimitsConfig{Slots: 2, Memory: 1 << 20, Drain: 10 * time.Second, Journal: 1 << 20, Outbox: 1 << 20, Modules: 8 << 20},
	}
	t.Cleanup(func() { d.end() })
	d.start()
	return d
}

func (d *device) start() {
	d.t.Helper()
	log := slog.New(slog.NewTextHandler(d.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := New(d.cfg, Options{Log: log, Restart: func() {}})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	d.Agent, d.stop = a, func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Errorf("%s: %v\n%s", d.cfg.Node.Name, err, d.said)
		}
	}
	d.until("it is ready", func() bool { return a.ready.err() == nil })
}

// end stops the agent, if it runs.
func (d *device) end() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

// restart is what becomes of an agent whose membership changed.
func (d *device) restart() {
	d.end()
	d.start()
}

func (d *device) until(what string, ok func() bool) {
	d.t.Helper()
	late, tick := time.After(60*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			d.t.Fatalf("%s: not in a minute: %s\n%s", d.cfg.Node.Name, what, d.said)
		}
	}
}

func (d *device) joins(first *device) {
	d.t.Helper()
	token, err := first.CreateToken(d.t.Context(), admin.TokenRequest{TTLMS: time.Hour.Milliseconds(), Uses: 1})
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Join(d.t.Context(), admin.JoinRequest{Token: token.Token, Via: first.pool.door.Addr().String()}); err != nil {
		d.t.Fatal(err)
	}
	d.restart()
	d.until("it sees the others", func() bool { return len(d.pool.others()) > 0 })
}

// reads is what a function of the device gets whose manifest names the secrets.
func (d *device) reads(name string, granted ...string) string {
	f := &function.Function{Manifest: function.Manifest{Name: "f", Permissions: function.Permissions{Secrets: granted}}}
	value, ok, err := d.secrets(f).Secret(name)
	switch {
	case err != nil:
		return "(sealed)"
	case !ok:
		return "(absent)"
	}
	return string(value)
}

func (d *device) willRead(name, want string) {
	d.t.Helper()
	d.until(fmt.Sprintf("it reads %q", want), func() bool { return d.reads(name, name) == want })
}

// set sets a secret at a device.
func (d *device) set(name, value string) admin.Secret {
	d.t.Helper()
	x, err := sealing{d.Agent}.SetSecret(d.t.Context(), name, []byte(value))
	if err != nil {
		d.t.Fatal(err)
	}
	return x
}

const (
	hookBefore = "wOrd-before-the-cluster-was-there"
	hookFirst  = "wOrd-that-three-nodes-know-of"
	hookSecond = "wOrd-after-one-was-revoked-for-good"
)

// What an operator sets on one node, functions read on all, whoever joins when, with whichever key, and nobody who was revoked: without that the
// value is in a record, in a file or in a log.
func TestSecretsOfACluster(t *testing.T) {
	one, two := newDevice(t, "one"), newDevice(t, "two")
	one.set("early", hookBefore)
	if _, err := one.Init(t.Context(), admin.InitRequest{Name: "site"}); err != nil {
		t.Fatal(err)
	}
	one.restart()
	one.willRead("early", hookBefore) // what was there when it was alone stays
	two.joins(one)
	two.willRead("early", hookBefore) // and is passed to who joins
	one.until("it sees the other", func() bool { return len(one.pool.others()) == 1 })
	if x := one.set("hook", hookFirst); len(x.Nodes) != 2 || len(x.Later) != 0 {
		t.Errorf("sealed to %v, later %v", x.Nodes, x.Later)
	}
	two.willRead("hook", hookFirst)
	if got := two.reads("hook", "other"); got != "(absent)" {
		t.Errorf("a function that may not reads %q", got)
	}
	if _, err := (sealing{two.Agent}).SetSecret(t.Context(), "hook", []byte("x")); function.KindOf(err) != "unsigned" {
		t.Errorf("who has no operator's key sets a secret: %v", err)
	}

	three := newDevice(t, "three")
	three.joins(one)
	three.willRead("hook", hookFirst)
	if err := os.Remove(filepath.Join(two.dir, "data", "secrets.key")); err != nil {
		t.Fatal(err)
	}
	two.restart() // with another key
	two.willRead("hook", hookFirst)

	if err := (nodes{one.Agent}).Revoke(t.Context(), three.node.ID); err != nil {
		t.Fatal(err)
	}
	one.until("who was revoked is gone", func() bool { return len(one.pool.others()) == 1 })
	if x := one.set("hook", hookSecond); len(x.Nodes) != 2 {
		t.Errorf("sealed to %v", x.Nodes)
	}
	two.willRead("hook", hookSecond)
	r, ok := two.catalog.Snapshot().Record(catalog.KindSecret, "hook")
	if !ok {
		t.Fatal("no record")
	}
	// Even who gets the record cannot open it, or have it passed.
	if _, err := three.catalog.Apply(t.Context(), []catalog.Record{r}, one.node.ID); err != nil {
		t.Fatal(err)
	}
	if got := three.reads("hook", "hook"); got != "(sealed)" {
		t.Errorf("who was revoked reads %q", got)
	}
	two.until("it has heard of the revocation", func() bool { return two.pool.member.Revoked(three.node.ID) })
	for _, d := range []*device{one, two} {
		if _, err := three.pool.peers.Pull(t.Context(), d.node.ID, secretState, []byte(`{}`)); err == nil {
			t.Errorf("%s answers who was revoked", d.cfg.Node.Name)
		}
	}
	for _, d := range []*device{one, two, three} {
		d.showsNothing("wOrd-")
	}
}

// A file of the device goes before what was set for all.
func TestFilesGoBeforeWhatWasSet(t *testing.T) {
	d := newDevice(t, "one")
	d.set("hook", hookFirst)
	dir := t.TempDir()
	d.Agent.cfg.Node.Secrets = dir
	d.willRead("hook", hookFirst)
	if err := os.WriteFile(filepath.Join(dir, "hook"), []byte("of this device"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.willRead("hook", "of this device")
	if all, err := (sealing{d.Agent}).Secrets(t.Context()); err != nil || len(all) != 1 || all[0].From != admin.SecretFile || all[0].Bytes != len("of this device") {
		t.Errorf("%+v, %v", all, err)
	}
}

// showsNothing looks for a text in the records that a device passes on, in every file it has, and in its log.
func (d *device) showsNothing(text string) {
	d.t.Helper()
	records := 0
	for _, r := range d.catalog.Snapshot().Records(catalog.KindSecret) {
		records++
		if bytes.Contains(r.Encode(), []byte(text)) {
			d.t.Errorf("%s: it is in the record of %s", d.cfg.Node.Name, r.Key)
		}
	}
	d.end()
	files := 0
	err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if files++; bytes.Contains(b, []byte(text)) {
			d.t.Errorf("%s: it is in %s", d.cfg.Node.Name, path)
		}
		return err
	})
	if err != nil || files < 5 || records == 0 {
		d.t.Errorf("%d files and %d records were looked at, %v", files, records, err)
	}
	if strings.Contains(d.said.String(), text) {
		d.t.Errorf("%s: it is in the log", d.cfg.Node.Name)
	}
}
