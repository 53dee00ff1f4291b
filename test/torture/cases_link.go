package main

import (
	"math"
	"syscall"
	"time"

	"mayfly/internal/mosquitto"
	"mayfly/test/torture/faultlink"
)

// pauses are how long things are stopped.
func (t *trial) pauses() []time.Duration {
	return pick(t.workshop, []time.Duration{time.Second, 10 * time.Second}, []time.Duration{time.Second, 10 * time.Second, time.Minute})
}

// pauseAgent: a process that sleeps past its keep-alive finds its connections gone.
func pauseAgent(t *trial) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	for _, d := range t.pauses() {
		t.sleep(time.Second)
		if err := t.agent.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		t.sleep(d)
		if err := t.agent.signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), time.Minute); err != nil {
			return err
		}
	}
	return t.settle()
}

// brokerRestart: what the broker promised and saved comes after it came back. The sender repeats what was not acknowledged, so
// the ledger goes by ids.
func brokerRestart(t *trial) error {
	if err := t.begin(world{broker: mosquitto.Options{Persistence: true}, byID: true}); err != nil {
		return err
	}
	for until := time.Now().Add(t.long()); time.Now().Before(until); {
		t.sleep(t.between(200*time.Millisecond, 2*time.Second))
		if err := t.broker.Stop(); err != nil {
			return err
		}
		t.sleep(t.between(0, time.Second))
		if err := t.broker.Start(); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), time.Minute); err != nil {
			return err
		}
	}
	return t.settle()
}

// brokerAmnesia: a broker that forgets everything owes us its queue, but what the agent acknowledged has its effect, and the
// agent subscribes again.
func brokerAmnesia(t *trial) error {
	if err := t.begin(world{byID: true, unsteady: true}); err != nil {
		return err
	}
	t.load.rate.Store(300)
	t.load.most.Store(math.MaxInt64) // what the broker forgot is never acknowledged
	for until := time.Now().Add(t.long()); time.Now().Before(until); {
		t.sleep(t.between(200*time.Millisecond, 2*time.Second))
		if err := t.broker.Kill(); err != nil {
			return err
		}
		t.sleep(t.between(0, time.Second))
		if err := t.broker.Start(); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), time.Minute); err != nil {
			return err
		}
	}
	return t.settle()
}

// brokerPause: a broker that says nothing for longer than the keep-alive is left, and found again.
func brokerPause(t *trial) error {
	if err := t.begin(world{byID: true}); err != nil {
		return err
	}
	for _, d := range t.pauses() {
		t.sleep(time.Second)
		if err := syscall.Kill(t.broker.PID(), syscall.SIGSTOP); err != nil {
			return err
		}
		t.sleep(d)
		if err := syscall.Kill(t.broker.PID(), syscall.SIGCONT); err != nil {
			return err
		}
		if err := t.recovered(time.Now(), 90*time.Second); err != nil {
			return err
		}
	}
	return t.settle()
}

// linkCut: resets at any byte, in the middle of packets too, lose nothing and turn nothing around.
func linkCut(t *trial) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	t.load.rate.Store(3000)
	for until, i := time.Now().Add(t.long()), 0; time.Now().Before(until); i++ {
		t.sleep(t.between(5*time.Millisecond, 700*time.Millisecond))
		if i%3 == 0 {
			t.proxy.Cut()
		} else {
			t.proxy.Tear()
		}
		if err := t.recovered(time.Now(), 90*time.Second); err != nil {
			return err
		}
	}
	if t.proxy.Torn() == 0 {
		t.faults = append(t.faults, "no packet was torn")
	}
	return t.settle()
}

// linkHalfOpen: nothing passes for a while; and the other side is gone for good and nobody says so, which the keep-alive of 5 s
// and 10 s of patience must find out.
func linkHalfOpen(t *trial) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	for _, d := range pick(t.workshop, []time.Duration{2 * time.Second}, []time.Duration{2 * time.Second, 20 * time.Second, 45 * time.Second}) {
		t.sleep(time.Second)
		t.proxy.Set(faultlink.Fault{Silent: true})
		t.sleep(d)
		t.proxy.Set(faultlink.Fault{})
		if err := t.flowing(90 * time.Second); err != nil {
			return err
		}
	}
	for range pick(t.workshop, 1, 5) {
		t.sleep(time.Second)
		t.proxy.Forget()
		if err := t.recovered(time.Now(), 90*time.Second); err != nil {
			return err
		}
	}
	t.bounds.recovery = 20 * time.Second
	return t.settle()
}

// linkSlow: a narrow or a long link is a slow link, nothing else.
func linkSlow(t *trial) error {
	if err := t.begin(world{}); err != nil {
		return err
	}
	for _, f := range []faultlink.Fault{{Rate: 1000}, {Delay: 200 * time.Millisecond}} {
		t.sleep(time.Second)
		t.proxy.Set(f)
		t.sleep(max(10*time.Second, t.long()/2))
		t.proxy.Set(faultlink.Fault{})
		if err := t.recovered(time.Now(), 90*time.Second); err != nil {
			return err
		}
	}
	return t.settle()
}
