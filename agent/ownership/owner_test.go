package ownership

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Nodes that start together agree at once, nobody is cut off, and who comes later gets its share.
func TestEverySessionHasItsOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		s.settled("at the start", "a", "b", "c")
		if n := s.kicks(); n != 0 {
			t.Errorf("%d connections were cut off", n)
		}
		stop := s.flow(10 * time.Millisecond)
		s.gossip(func(views map[string]map[string]Node) {
			views["d"] = map[string]Node{}
			for id := range views {
				views[id]["d"] = Node{ID: "d", Eligible: true, BrokerUp: true}
				views["d"][id] = Node{ID: id, Eligible: true, BrokerUp: true}
			}
		})
		s.start("d")
		time.Sleep(10 * time.Second)
		s.settled("with a fourth node", "a", "b", "c", "d")
		sent, lost, twice := stop()
		if lost != 0 || twice != 0 || s.kicks() != 0 || s.b.early != 0 {
			t.Errorf("%d sent, %d lost, %d twice, %d cut off, %d out of order: nobody died", sent, lost, twice, s.kicks(), s.b.early)
		}
	})
}

// A node that leaves hands over at once: gossip need not have told it.
func TestHandOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(10 * time.Millisecond)
		time.Sleep(time.Second)
		began := time.Now()
		s.stop("b")
		took := time.Duration(0)
		for took < time.Minute {
			if !slices.ContainsFunc(s.keys, func(key string) bool { return s.owner(key) != s.best(key, "a", "c") }) {
				break
			}
			time.Sleep(time.Millisecond)
			took = time.Since(began)
		}
		if took > 500*time.Millisecond {
			t.Errorf("the last session was taken after %v", took)
		}
		s.sees(false, []string{"a", "c"}, "b")
		sent, lost, twice := stop()
		if lost != 0 || twice != 0 || s.kicks() != 0 {
			t.Errorf("%d sent, %d lost, %d twice, %d cut off", sent, lost, twice, s.kicks())
		}
		t.Logf("12 sessions, %d of them handed over within %v", 12-len(s.keys)*2/3, took)
	})
}

// Who drains gives everything away, and takes nothing.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(10 * time.Millisecond)
		s.gossip(func(views map[string]map[string]Node) {
			for id := range views {
				views[id]["a"] = Node{ID: "a", Eligible: true, BrokerUp: true, Draining: true}
			}
		})
		time.Sleep(time.Second)
		s.settled("a second after the drain began", "b")
		if sent, lost, twice := stop(); lost != 0 || twice != 0 {
			t.Errorf("%d sent, %d lost, %d twice", sent, lost, twice)
		}
	})
}

// Owners die, one after the other and together.
func TestDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c", "d")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(10 * time.Millisecond)
		s.kill("a")
		time.Sleep(8 * time.Second)
		s.sees(false, []string{"b", "c", "d"}, "a")
		time.Sleep(4 * time.Second)
		s.settled("4 s after gossip knew of the first death", "b", "c", "d")
		s.kill("b")
		s.kill("c")
		time.Sleep(8 * time.Second)
		s.sees(false, []string{"d"}, "b", "c")
		time.Sleep(4 * time.Second)
		s.settled("4 s after gossip knew of two more", "d")
		sent, lost, twice := stop()
		if lost != 0 || twice > 3*12*inFlight || s.b.early != 0 {
			t.Errorf("%d sent, %d lost, %d twice, %d out of order", sent, lost, twice, s.b.early)
		}
	})
}

// Who is shut out has nothing any more: if it hears of that it hands over, and if it does not others take what it has, however often it
// says that it lives.
func TestRevoked(t *testing.T) {
	t.Parallel()
	for _, hears := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 12, "a", "b", "c")
			defer s.end()
			time.Sleep(time.Second)
			stop := s.flow(10 * time.Millisecond)
			if !hears {
				s.kill("a") // its claims are fresh, and objections of somebody who is shut out are not listened to either
				time.Sleep(time.Second)
			}
			s.gossip(func(views map[string]map[string]Node) {
				s.shut = map[string]bool{"a": true}
				delete(views["b"], "a")
				delete(views["c"], "a")
				if hears {
					views["a"]["a"] = Node{ID: "a", BrokerUp: true}
				}
			})
			time.Sleep(time.Second)
			s.settled("a second after it was shut out", "b", "c")
			if sent, lost, _ := stop(); lost != 0 || s.b.early != 0 {
				t.Errorf("hears of it: %v: %d sent, %d lost, %d out of order", hears, sent, lost, s.b.early)
			}
		})
	}
}

// Who is shut out claims what it had a last time and gives up. Those who have it by then say so again: everybody knows whose it is, who
// comes later too, and nothing is interrupted.
func TestCoveredByTheClaimOfOneThatGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		s.gossip(func(views map[string]map[string]Node) {
			s.shut = map[string]bool{"a": true}
			delete(views["b"], "a")
			delete(views["c"], "a")
			views["a"]["a"] = Node{ID: "a", BrokerUp: true}
		})
		time.Sleep(time.Second)
		kicks := s.kicks()
		for _, key := range s.keys {
			known, _ := s.nodes["a"].board.known(key)
			last := Claim{Node: "a", Score: Score(key, "a", 1), Epoch: known.Epoch + 1, Turn: 1}
			for range 2 {
				if err := s.nodes["a"].board.publish(t.Context(), key, last, true); err != nil {
					t.Fatal(err)
				}
				last.Turn, last.Released = 2, true
			}
		}
		time.Sleep(time.Second)
		s.settled("a second after the last claims", "b", "c")
		for _, id := range []string{"a", "b", "c"} {
			for _, key := range s.keys {
				if got, want := s.nodes[id].board.Owner(key), s.owner(key); got != want {
					t.Errorf("%s believes that %q has %s, and it is %q", id, got, key, want)
				}
			}
		}
		if n := s.kicks() - kicks; n != 0 {
			t.Errorf("%d connections were cut off", n)
		}
	})
}

// The address of a device changes: it hears nothing any more and does not know yet, while others take what it had. It does not take it back
// before it hears again.
func TestDeafOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(10 * time.Millisecond)
		s.b.deafen(s.nodes["a"].board)
		s.sees(false, []string{"b", "c"}, "a")
		time.Sleep(30 * time.Second)
		s.settled("while it is deaf", "b", "c")
		s.b.deafen(nil)
		time.Sleep(10 * time.Second)
		sent, lost, twice := stop()
		if kicks := s.kicks(); lost != 0 || twice > kicks*inFlight || kicks > 2*12 || s.b.early != 0 {
			t.Errorf("%d sent, %d lost, %d twice, %d out of order, %d cut off", sent, lost, twice, s.b.early, kicks)
		}
	})
}

// Both sides of a split believe the other one dead and can reach the broker. It costs at most two connections per session, and then
// nothing changes until the end of the split.
func TestSplitWithTheBrokerInReach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c", "d")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(100 * time.Millisecond)
		one, two := []string{"a", "b"}, []string{"c", "d"}
		s.sees(false, one, two...)
		time.Sleep(700 * time.Millisecond)
		s.sees(false, two, one...)
		time.Sleep(10 * time.Second)
		s.settled("in the split", "a", "b", "c", "d")
		early := s.kicks()
		for key, n := range s.b.kicks {
			if n > 2 {
				t.Errorf("%s was cut off %d times", key, n)
			}
		}
		time.Sleep(10 * time.Minute)
		s.settled("ten minutes later", "a", "b", "c", "d")
		s.sight(true, one, two)
		time.Sleep(10 * time.Second)
		s.settled("after it", "a", "b", "c", "d")
		if n := s.kicks(); n != early {
			t.Errorf("%d cut off after it had settled", n-early)
		}
		sent, lost, twice := stop()
		if lost != 0 || twice > early*inFlight || s.b.early != 0 {
			t.Errorf("%d sent, %d lost, %d twice, %d cut off, %d out of order", sent, lost, twice, early, s.b.early)
		}
		t.Logf("12 sessions: %d connections cut off, %d of %d run twice", early, twice, sent*len(s.keys))
	})
}

// An owner dies while its side of a split is alone with the broker: the other side hears no more of it and takes over.
func TestDeathInASplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b")
		defer s.end()
		time.Sleep(time.Second)
		s.sight(false, []string{"a"}, []string{"b"})
		time.Sleep(time.Minute)
		stop := s.flow(50 * time.Millisecond)
		s.kill("a")
		time.Sleep(2 * time.Minute)
		s.settled("two minutes after the last sign of life", "b")
		s.lossless(stop)
	})
}

// Gossip takes a node for dead that is not.
func TestFalseDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(10 * time.Millisecond)
		for range 5 {
			s.sees(false, []string{"b", "c"}, "a")
			time.Sleep(5 * time.Second)
			s.sees(true, []string{"b", "c"}, "a")
			time.Sleep(5 * time.Second)
		}
		s.settled("after five false deaths", "a", "b", "c")
		sent, lost, twice := stop()
		if lost != 0 || twice > s.kicks()*inFlight || s.kicks() > 2*12 {
			t.Errorf("%d sent, %d lost, %d twice, %d cut off", sent, lost, twice, s.kicks())
		}
		t.Logf("%d connections cut off by five false deaths, 12 sessions", s.kicks())
	})
}

// Nobody may publish claims, and gossip is split: nothing is lost, and it ends with the split.
func TestClaimsAreLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2, "a", "b")
		s.b.silence(true)
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(20 * time.Millisecond)
		s.sight(false, []string{"a"}, []string{"b"})
		time.Sleep(time.Minute)
		s.sight(true, []string{"a"}, []string{"b"})
		s.b.silence(false)
		time.Sleep(time.Minute)
		s.settled("a minute after claims and gossip are back", "a", "b")
		s.lossless(stop)
	})
}

// A broker without persistence restarts: sessions, queues and claims are gone. Owners stay who they are.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		s.b.restart(3 * time.Second)
		time.Sleep(20 * time.Second)
		s.settled("after the restart", "a", "b", "c")
		if n := s.kicks(); n != 0 {
			t.Errorf("%d connections cut off", n)
		}
		stop := s.flow(10 * time.Millisecond)
		s.kill("a")
		s.sees(false, []string{"b", "c"}, "a")
		time.Sleep(5 * time.Second)
		s.settled("claims are back: the next death", "b", "c")
		s.lossless(stop)
	})
}

// A link to the broker that comes and goes: a node is no candidate while it is gone, and takes nothing before it was good for long.
func TestFlappingLink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 12, "a", "b", "c")
		defer s.end()
		time.Sleep(time.Second)
		stop := s.flow(100 * time.Millisecond)
		bit := Link{}
		changes := 0
		for i := range 600 { // a second each: 4 s up, 16 s down
			if before := bit.Up(); bit.Observe(time.Now(), i%20 < 4) != before {
				changes++
				s.gossip(func(views map[string]map[string]Node) {
					for id := range views {
						views[id]["a"] = Node{ID: "a", Eligible: true, BrokerUp: bit.Up()}
					}
				})
			}
			time.Sleep(time.Second)
		}
		if changes > 2 {
			t.Errorf("gossip was told %d times", changes)
		}
		s.settled("a is out", "b", "c")
		if sent, lost, twice := stop(); lost != 0 || twice > 12*inFlight {
			t.Errorf("%d sent, %d lost, %d twice", sent, lost, twice)
		}
	})
}
