package testcluster_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/internal/simnet"
	"mayfly/internal/testcluster"
)

// radio is a bad day on a radio link.
func radio() simnet.Link {
	return simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05}
}

const plain = "manifest = 1\nname = %q\n[module]\npath = \"a.wasm\"\n[config]\nvariant = %d\n"

const triggered = `manifest = 1
name = %q
[module]
path = "a.wasm"
[[trigger.mqtt]]
topic = %q
qos = 1
[permissions]
publish = ["out/#"]
`

// cable is a good day in a hall.
func cable() simnet.Link {
	return simnet.Link{Delay: 2 * time.Millisecond, Jitter: time.Millisecond}
}

// grown is a site of n agents that see each other.
func grown(t *testing.T, n int, link simnet.Link) *testcluster.Site {
	t.Helper()
	s := testcluster.New(t, testcluster.Disk(t), link)
	s.Guests["echo"] = testcluster.Echo(5 * time.Millisecond)
	s.Grow(n, 100*time.Millisecond)
	t.Logf("%d agents: everybody sees everybody %v after the last came", n, s.Until("everybody sees everybody", 2*time.Minute, s.Whole))
	return s
}

// deploy returns how long it took until all nodes had it.
func deploy(s *testcluster.Site, name, text string) time.Duration {
	began := time.Now()
	version := s.Nodes[0].Deploy(text, "echo") // the founder has the operator's key
	s.Until(name+" is everywhere", time.Minute, func() bool { return s.Everywhere(name, version) })
	return time.Since(began)
}

func TestADeploymentReachesThirtyAndAPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := grown(t, 30, radio())
		var took []time.Duration
		for i := range 40 {
			took = append(took, deploy(s, "f", fmt.Sprintf(plain, "f", i)))
		}
		slices.Sort(took)
		p95 := took[len(took)*95/100]
		t.Logf("a deployment is everywhere after: p50 %v, p95 %v, the slowest %v", took[len(took)/2], p95, took[len(took)-1])
		if p95 > 3*time.Second {
			t.Errorf("a deployment took %v", p95)
		}

		deploy(s, "old", fmt.Sprintf(plain, "old", 0))
		s.Split(func(i int) int { return i % 2 })
		time.Sleep(5 * time.Minute)
		if s.Whole() {
			t.Fatal("the halves did not lose sight of each other: the test shows nothing")
		}
		s.Nodes[0].Remove("old")
		version := s.Nodes[0].Deploy(fmt.Sprintf(plain, "new", 0), "echo")
		time.Sleep(5 * time.Minute)
		if !s.Nodes[1].Has("old", 0) || s.Nodes[1].Has("new", 0) {
			t.Fatal("the other half heard of it: the test shows nothing")
		}
		s.Split(nil)
		healed := s.Until("all know the same", time.Minute, func() bool { return s.Whole() && s.Everywhere("new", version) && s.Nowhere("old") })
		t.Log("whole again, with one catalog, after", healed)
		for range 60 {
			time.Sleep(10 * time.Second)
			if !s.Nowhere("old") {
				t.Fatal("a removed function came back")
			}
		}
	})
}

// flowing is a site with a function whose trigger has an owner, and a device that publishes.
func flowing(t *testing.T, n int, link simnet.Link) (*testcluster.Site, *testcluster.Flow) {
	t.Helper()
	s := grown(t, n, link)
	deploy(s, "echo", fmt.Sprintf(triggered, "echo", "in/a"))
	time.Sleep(90 * time.Second) // until the nodes are said to have a good connection to the broker
	f := s.Flow("in/a", "out/in/a", 20*time.Millisecond)
	s.Until("results come", time.Minute, func() bool { return f.Owner() != "" })
	return s, f
}

// ended stops the flow and checks that nothing is missing.
func ended(t *testing.T, s *testcluster.Site, f *testcluster.Flow) {
	t.Helper()
	f.Stop()
	s.Until("every number has a result", time.Minute, func() bool { return len(f.Missing()) == 0 })
	confirmed, again := f.Count()
	t.Logf("%d numbers, none missing, %d results came again", confirmed, again)
	if confirmed < 100 {
		t.Errorf("only %d numbers: the test shows nothing", confirmed)
	}
}

func TestATriggerSurvivesItsOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := flowing(t, 5, radio())
		var took []time.Duration
		for range 9 {
			took = append(took, s.KillOwner(f))
		}
		slices.Sort(took)
		t.Logf("after an owner's death the next result comes after: p50 %v, the slowest of %d %v", took[len(took)/2], len(took), took[len(took)-1])
		if p50 := took[len(took)/2]; p50 > 10*time.Second {
			t.Errorf("half of the takeovers take longer than %v", p50)
		}
		ended(t, s, f)
	})
}

func TestADrainedOwnerHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := flowing(t, 5, cable())
		for range 20 {
			owner := s.Named(f.Owner())
			began := time.Now()
			owner.Stop()
			at := s.Successor(f, owner, began)
			t.Log("handed over after", at)
			if at > time.Second {
				t.Errorf("a hand-over takes %v", at)
			}
			owner.Start()
			s.Until("everybody sees everybody", time.Minute, s.Whole)
			time.Sleep(90 * time.Second)
		}
		ended(t, s, f)
	})
}

// Both halves of a cluster that lost sight of each other reach the broker: one node has the trigger all the same, and nothing is lost.
func TestAPartitionOfGossipLosesNoEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := flowing(t, 6, radio())
		s.Split(func(i int) int { return i % 2 })
		time.Sleep(3 * time.Minute)
		if s.Whole() {
			t.Fatal("the halves did not lose sight of each other: the test shows nothing")
		}
		s.Split(nil)
		t.Log("whole again after", s.Until("everybody sees everybody", time.Minute, s.Whole))
		time.Sleep(30 * time.Second)
		ended(t, s, f)
	})
}
