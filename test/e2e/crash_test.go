package e2e_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"mayfly/internal/mosquitto"
)

// load is events that come in while something happens to the agent: numbers 1 to last for each of keys, at QoS 1.
type load struct {
	d    *device
	keys []string
	last int
}

func newLoad(d *device, last int) *load {
	return &load{d, []string{"a", "b", "c", "d"}, last}
}

// run publishes everything; meanwhile is called when each fifth of it is out.
func (l *load) run(t testing.TB, meanwhile func(round int)) {
	t.Helper()
	turn, failed := make(chan int, l.last), make(chan error, 1)
	go func() {
		defer close(turn)
		for i := 1; i <= l.last; i++ {
			for _, key := range l.keys {
				if err := l.d.publish("ask/"+key, number(i)); err != nil {
					failed <- err
					return
				}
			}
			if fifth := l.last / 5; i%fifth == 0 && i < l.last {
				turn <- i / fifth
			}
		}
	}()
	for round := range turn {
		meanwhile(round)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// cameOut checks what the listener heard of all keys.
func (l *load) cameOut(t testing.TB, listener *device) {
	t.Helper()
	twice := 0
	for _, key := range l.keys {
		twice += told(t, listener, key, l.last)
	}
	t.Logf("%d of %d publishes came twice", twice, l.last*len(l.keys))
}

// clean checks that the agent gave nothing up and has nothing left over.
func (n *node) clean() {
	n.t.Helper()
	until(n.t, "nothing is left", func() (bool, string) {
		s := n.status()
		return s.Journal.Count == 0 && s.Outbox.Count == 0, fmt.Sprint(s.Journal, s.Outbox)
	})
	s := n.status()
	if s.Memory.RSSBytes > 200<<20 {
		n.t.Errorf("the agent takes %d MiB", s.Memory.RSSBytes>>20)
	}
	if len(s.Losses) > 0 || s.DeadLetters.Count > 0 || len(s.Store.Findings) > 0 {
		n.t.Errorf("losses %+v, dead letters %+v, findings %+v", s.Losses, s.DeadLetters, s.Store.Findings)
	}
}

// rig is a broker, an agent with the teller and more in its configuration, somebody who listens, and a load.
func rig(t *testing.T, more string, last int) (*node, *load, *device) {
	t.Helper()
	b := mosquitto.Run(t, mosquitto.Options{MaxQueued: -1})
	n := atBroker(t, b.URL(), more)
	n.teller("1.0.0", "")
	n.must("deploy", "--wait", n.dir+"/teller")
	listener := connect(t, b.Addr(), "listener")
	listener.subscribe(t, "told/#")
	return n, newLoad(connect(t, b.Addr(), "device"), last), listener
}

func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	n, l, listener := rig(t, "", 1500)
	l.run(t, func(int) {
		n.kill()
		n.start()
	})
	l.cameOut(t, listener)
	n.clean()
}

// The same with a function that is slower than its events come, so that they are spilled: when it dies, events are in the
// journal, at the broker and in between.
func TestKilledWhileSpilling(t *testing.T) {
	t.Parallel()
	n, l, listener := rig(t, "[limits]\nspill_after = \"10ms\"\n", 200)
	n.teller("2.0.0", "[config]\nms = 3\n")
	spilled := int64(0)
	l.run(t, func(int) {
		until(t, "something is journaled", func() (bool, string) {
			s := n.status()
			spilled += s.Journal.Count
			return s.Journal.Count > 0, ""
		})
		n.kill()
		n.start()
	})
	l.cameOut(t, listener)
	n.clean()
	t.Logf("%d events were in the journal just before the kills", spilled)
}

func TestStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	n, l, listener := rig(t, "", 1500)
	l.run(t, func(int) {
		if took := n.stop(); took > 5*time.Second {
			t.Errorf("the drain took %v", took)
		}
		n.start()
	})
	l.cameOut(t, listener)
	n.clean()
}

func TestReloadedUnderLoad(t *testing.T) {
	t.Parallel()
	n, l, listener := rig(t, "", 1500)
	l.run(t, func(int) {
		began := n.status().Node.Started
		n.signal(syscall.SIGHUP)
		until(t, "the agent has started anew", func() (bool, string) {
			s, err := n.client.Status(t.Context())
			return err == nil && s.Ready && s.Node.Started.After(began), fmt.Sprint(err)
		})
	})
	l.cameOut(t, listener)
	n.clean()
}

// Each version of a function is deployed while events run; triggers that overlap are exchanged, too.
func TestDeployedUnderLoad(t *testing.T) {
	t.Parallel()
	n, l, listener := rig(t, "", 1500)
	l.run(t, func(round int) {
		for i := range 5 {
			n.teller(fmt.Sprintf("2.%d.%d", round, i), []string{"", "when = \"qos == 1\"\n", "max_age = \"1h\"\n"}[i%3])
		}
	})
	l.cameOut(t, listener)
	n.must("fn", "show", "teller").want(t, 0, "2.4.4")
	n.clean()
}

// The embedded broker acknowledges only what is safe: whatever the device was told is safe has been counted after the crash.
func TestEmbeddedBrokerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	n.teller("1.0.0", "")
	safe, unsure := 0, 0
	for range 4 {
		d := connect(t, n.broker, "device")
		for i := range 400 {
			if err := d.publish("ask/a", number(i)); err != nil {
				t.Fatal(err)
			}
		}
		n.kill()
		until(t, "the device has seen it", func() (bool, string) { d.mu.Lock(); defer d.mu.Unlock(); return d.gone != nil, "" })
		safe, unsure = safe+d.acknowledged(), unsure+len(d.waiting)
		n.start()
	}
	n.clean()
	var i, count int
	if _, err := fmt.Sscanf(n.must("invoke", "teller", "--topic", "ask/a", "-d", number(0)).out, "%d %d", &i, &count); err != nil {
		t.Fatal(err)
	}
	if count--; count < safe || count > safe+unsure {
		t.Errorf("%d were counted; %d were acknowledged and of %d nobody knows", count, safe, unsure)
	}
	t.Logf("acknowledged %d, unsure %d, counted %d", safe, unsure, count)
}
