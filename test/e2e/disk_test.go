package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mayfly/internal/mosquitto"
)

// volume is a small file system of its own, for an agent's data: a tmpfs in a user and mount namespace, so that it takes no
// rights to make. It is there as long as the process that holds the namespace.
type volume struct {
	t    testing.TB
	dir  string
	hold *exec.Cmd
}

// newVolume mounts a tmpfs of that many MiB on the data directory of n, and makes n's process start within.
func newVolume(t testing.TB, n *node, mib int) *volume {
	t.Helper()
	v := &volume{t: t, dir: filepath.Join(n.dir, "data")}
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v.hold = exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
		`mount -t tmpfs -o "size=$1m" tmpfs "$2"; echo mounted; exec sleep infinity`, "sh", fmt.Sprint(mib), v.dir)
	v.hold.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := v.hold.StdoutPipe()
	if err == nil {
		err = v.hold.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = v.hold.Process.Kill()
		_ = v.hold.Wait()
	})
	line := make([]byte, 8)
	if k, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:k]), "mounted") {
		t.Fatalf("a tmpfs cannot be mounted in a user namespace: %v (kernel.unprivileged_userns_clone, or run as root)", err)
	}
	n.within = v.enter()
	return v
}

// enter is the command that runs another one within the namespaces.
func (v *volume) enter() []string {
	return []string{"nsenter", "--target", fmt.Sprint(v.hold.Process.Pid), "--user", "--mount", "--preserve-credentials", "--"}
}

// sh runs a shell command within; $1 is the directory.
func (v *volume) sh(command string) {
	v.t.Helper()
	args := append(v.enter(), "sh", "-ec", command, "sh", v.dir)
	if out, err := exec.CommandContext(v.t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// fill takes all space but a few blocks.
func (v *volume) fill() {
	v.t.Helper()
	v.sh(`cat /dev/zero > "$1/filling" 2>/dev/null || true; test "$(df --output=avail -k "$1" | tail -n 1)" -lt 1024`)
}

// free gives it back.
func (v *volume) free() { v.t.Helper(); v.sh(`rm "$1/filling"`) }

const smallStore = "[store]\nfloor = \"24MiB\"\nballast = \"4MiB\"\n"

// A neighbour fills the disk while events come in: what needs no disk goes on, what needs it waits with its sender, nothing is
// lost, the status says so, and with space it goes on by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	n := newNode(t, brokerAt(b.URL())+smallStore)
	v := newVolume(t, n, 192)
	n.start()
	n.teller("1.0.0", "")
	n.echo()
	n.must("deploy", "--wait", n.dir+"/teller")
	listener := connect(t, b.Addr(), "listener")
	listener.subscribe(t, "told/#")
	d := connect(t, b.Addr(), "device")
	d.subscribe(t, "out/#")
	d.say(t, "ask/a", number(1))
	told(t, listener, "a", 1)

	v.fill()
	const last = 300
	for i := 2; i <= last; i++ {
		d.say(t, "ask/a", number(i))
	}
	until(t, "the status says that the disk is full", func() (bool, string) {
		r := n.mayfly("status")
		return strings.Contains(r.out, "below 25165824 nothing is written") && strings.Contains(r.out, "free some space"), r.out + r.err
	})
	for i := range 20 {
		n.serves(d, fmt.Sprint("full-", i)) // a function without state writes nothing
	}
	n.mayfly("invoke", "teller", "--topic", "ask/b", "-d", "000001").want(t, 6, "error: too little free disk space", "next:  free some space")
	n.mayfly("deploy", n.project("late", "", handler(t, "i32.const 0"))).want(t, 1, "error: ", "next:  ")
	if heard := listener.heard("told/a"); len(heard) != 1 {
		t.Errorf("with a full disk %d events had effects", len(heard)-1)
	}

	v.free()
	began := time.Now()
	told(t, listener, "a", last)
	t.Logf("all of it came out %v after there was space", time.Since(began))
	until(t, "the agent is well again", func() (bool, string) { s := n.status(); return len(s.Reasons) == 0, fmt.Sprint(s.Reasons) })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it went on after %v", took)
	}
	n.clean()
	n.stop()
}

// The disk is full when the agent starts: it says so and ends; with space it starts, and nothing is missing.
func TestFullDiskAtStart(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	n := newNode(t, brokerAt(b.URL())+smallStore)
	v := newVolume(t, n, 192)
	n.start()
	n.teller("1.0.0", "")
	n.invoke("a", 1, 50)
	n.kill()
	v.fill()
	n.refuses("too little free disk space", "try: free some space on this disk")
	v.free()
	n.start()
	n.must("invoke", "teller", "--topic", "ask/a", "-d", number(51)).want(t, 0, "000051 51")
	if s := n.status(); len(s.Store.Findings) > 0 {
		t.Errorf("%+v", s.Store.Findings)
	}
}

// On a disk that became read-only, as file systems do after an error, the agent refuses to start and says so; nothing on it is
// changed.
func TestReadOnlyDiskAtStart(t *testing.T) {
	t.Parallel()
	n := newNode(t, smallStore+fmt.Sprintf("[embedded]\nlisten = [%q]\n", freeAddress(t)))
	v := newVolume(t, n, 192)
	n.start()
	n.teller("1.0.0", "")
	n.invoke("a", 1, 50)
	n.kill()
	v.sh(`mount -t tmpfs -o remount,ro tmpfs "$1"`) // all of it said: what mount would add holds ids of outside
	n.refuses("read-only file system", "mount -o remount,rw")
	v.sh(`mount -t tmpfs -o remount,rw tmpfs "$1"`)
	n.start()
	n.must("invoke", "teller", "--topic", "ask/a", "-d", number(51)).want(t, 0, "000051 51")
}

// refuses starts the agent, which must end by itself with exit code 1 and say why, and what to do.
func (n *node) refuses(why ...string) {
	n.t.Helper()
	before := len(n.log.String())
	n.launch()
	if code := n.end(); code != 1 {
		n.t.Errorf("exit code %d", code)
	}
	for _, text := range why {
		if said := n.log.String()[before:]; !strings.Contains(said, text) {
			n.t.Errorf("%q is not in\n%s", text, said)
		}
	}
}
