package changelog

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mayfly/function"
	"mayfly/store"
)

// opened waits until n has the state.
func (n *node) opened(claim uint64) {
	n.t.Helper()
	n.log.Open(claim)
	n.comes()
}

func (n *node) comes() {
	n.t.Helper()
	for range 1000 {
		if synctest.Wait(); n.log.Claim() != 0 {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	n.t.Fatalf("%s has not got the state: %v", n.name, n.log.Status())
}

func (n *node) number(key string) int {
	v, _ := strconv.Atoi(n.get(key))
	return v
}

const accounts = 4

// [U4] Nodes take a bank over from each other, dying in the middle of everything, also while they take over, and sometimes the broker
// forgets: the sum stays, an acknowledged transfer is never undone, and one that was recognised is not made twice.
func TestTheSumStays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 200).Draw(rt, "plan")
		var fault error
		synctest.Test(t, func(t *testing.T) {
			fault = bank(t, func(most int) int {
				if len(plan) == 0 {
					return most / 2
				}
				n := plan[0] % (most + 1)
				plan = plan[1:]
				return n
			})
		})
		if fault != nil {
			rt.Fatal(fault)
		}
	})
}

func bank(t *testing.T, draw func(most int) int) error {
	b := newBus()
	disks := map[string]*memory{"a": newMemory(), "b": newMemory(), "c": newMemory()}
	claim, acked, event := uint64(0), 0, 0
	for round := range 4 + draw(6) {
		name := []string{"a", "b", "c"}[draw(2)]
		n := newNode(t, name, b, disks[name])
		claim++
		if round > 0 && draw(3) == 0 { // it dies while it opens
			n.post.dies(draw(12))
			n.log.Open(claim)
			synctest.Wait()
			n.die()
			continue
		}
		n.opened(claim)
		fault := check(n, round, acked)
		deaf := -1
		if draw(2) != 0 { // it dies at work
			deaf = draw(30)
			n.post.dies(deaf)
		}
		for range draw(20) {
			event++
			if !transfer(n, event, draw(accounts-1), draw(accounts-1)) {
				break
			}
			acked = event
		}
		if deaf < 0 && draw(4) == 0 { // the broker forgets
			b.mu.Lock()
			clear(b.retained)
			b.mu.Unlock()
			n.log.Close()
			n.opened(claim)
			fault = cmp.Or(fault, check(n, round, acked))
		}
		n.die()
		if fault != nil {
			return fault
		}
	}
	return nil
}

// transfer moves one from an account to another and counts. It reports whether that was confirmed.
func transfer(n *node, event, from, to int) bool {
	values := map[string]string{"event": fmt.Sprint(event)}
	f, o := fmt.Sprint("account", from), fmt.Sprint("account", to)
	values[f] = fmt.Sprint(n.number(f) - 1)
	if f == o {
		values[f] = fmt.Sprint(n.number(f))
	} else {
		values[o] = fmt.Sprint(n.number(o) + 1)
	}
	told, err := n.put(n.log.Generation(), values)
	if err != nil {
		return false
	}
	synctest.Wait()
	select {
	case err := <-told:
		return err == nil
	default:
		return false
	}
}

func check(n *node, round, acked int) error {
	sum := 0
	for i := range accounts {
		sum += n.number(fmt.Sprint("account", i))
	}
	if got := n.number("event"); sum != 0 || got < acked {
		return fmt.Errorf("round %d, node %s: the accounts add up to %d, the latest transfer is %d, acknowledged were %d", round, n.name, sum, got, acked)
	}
	return nil
}

// [U4] Who was cut off and still publishes changes nothing: the one who has the state says again what counts.
func TestLateOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		old, next := newNode(t, "a", b, newMemory()), newNode(t, "b", b, newMemory())
		old.opened(1)
		commit(t, old, map[string]string{"x": "1", "y": "1", "gone": "1"})
		b.deafen()
		next.opened(2)
		commit(t, next, map[string]string{"x": "2", "gone": ""})
		late := []map[string]string{{"x": "old"}, {"y": "old", "z": "old"}, {"gone": "old"}, {"x": "older"}}
		for _, values := range late {
			if _, err := old.put(old.log.Generation(), values); err != nil {
				t.Fatal(err) // it hears nothing, so it does not know
			}
		}
		synctest.Wait()
		next.die()
		third := newNode(t, "c", b, newMemory())
		third.opened(3)
		for key, want := range map[string]string{"x": "2", "y": "1", "z": "", "gone": ""} {
			if got := third.get(key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		old.die()
		third.die()
	})
}

func commit(t *testing.T, n *node, values map[string]string, marks ...store.Op) {
	t.Helper()
	told, err := n.put(n.log.Generation(), values, marks...)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
}

// [U4] A call that began before another node had the state does not commit; one of a time when it was nobody else's does.
func TestGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, disk := newBus(), newMemory()
		n := newNode(t, "a", b, disk)
		if _, err := n.put(0, map[string]string{"x": "1"}); function.ClassOf(err) != function.ClassOverload {
			t.Errorf("closed: %v", err)
		}
		n.opened(1)
		began := n.log.Generation()
		n.log.Close()
		n.opened(1)
		if _, err := n.put(began, map[string]string{"x": "1"}); err != nil {
			t.Errorf("nobody else had it: %v", err)
		}
		synctest.Wait()
		n.log.Close()
		other := newNode(t, "b", b, newMemory())
		other.opened(2)
		commit(t, other, map[string]string{"x": "2"})
		other.die()
		n.opened(3)
		if _, err := n.put(began, map[string]string{"x": "1"}); !errors.Is(err, ErrMoved) {
			t.Errorf("another node had it: %v", err)
		}
		if got := n.get("x"); got != "2" {
			t.Errorf("x is %q", got)
		}
		n.die()
	})
}

// Done marks travel with the commits, so the next owner recognises what was dealt with.
func TestMarksFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		n := newNode(t, "a", b, newMemory())
		n.opened(1)
		mark := store.Op{Key: store.Done.Key("f", []byte("id/7")), Value: []byte{1}}
		commit(t, n, map[string]string{"x": "1"}, mark)
		n.die()
		disk := newMemory()
		stale := store.Done.Key("f", []byte("id/of a time that did not count"))
		disk.disk[string(stale)] = []byte{1}
		next := newNode(t, "b", b, disk)
		next.opened(2)
		if _, version, _ := next.store.Get(mark.Key); version == 0 {
			t.Error("the next owner does not know what was done")
		}
		if _, version, _ := next.store.Get(stale); version != 0 {
			t.Error("the next owner knows of events that it had dealt with in a copy that does not count")
		}
		next.die()
	})
}

// What does not fit into a message is refused before anything happens.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "a", newBus(), newMemory())
		n.opened(1)
		n.post.limit = 100
		_, err := n.put(n.log.Generation(), map[string]string{"x": fmt.Sprintf("%200d", 1)})
		if function.ClassOf(err) != function.ClassReject || n.get("x") != "" {
			t.Errorf("%v, and x is %q", err, n.get("x"))
		}
		n.post.limit = 0
		commit(t, n, map[string]string{"x": "1"})
		n.die()
	})
}

// A large state comes in pages; a broker that keeps part of it back is found out, and nothing runs on half a state.
func TestPagesAndWhatIsKeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		n := newNode(t, "a", b, newMemory())
		n.opened(1)
		for i := range 30 {
			values := map[string]string{}
			for j := range 100 {
				values[fmt.Sprint(i, "/", j)] = "v"
			}
			commit(t, n, values)
		}
		n.die()
		next := newNode(t, "b", b, newMemory())
		next.opened(2)
		if len(next.log.keys) != 3000 || next.get("29/99") != "v" {
			t.Errorf("%d keys", len(next.log.keys))
		}
		next.die()
		b.most = 100
		third := newNode(t, "c", b, newMemory())
		third.log.Open(3)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if third.log.Claim() != 0 || third.log.Status() == nil {
			t.Errorf("opened with part of the state; status %v", third.log.Status())
		}
		b.most = 0
		third.comes()
		third.die()
	})
}

// A read is confirmed after the commits before it.
func TestReadsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "a", newBus(), newMemory())
		n.opened(1)
		n.post.dies(0)
		if _, err := n.put(n.log.Generation(), map[string]string{"x": "1"}); err != nil {
			t.Fatal(err)
		}
		told, err := n.put(n.log.Generation(), nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-told:
			t.Error("somebody was told what the broker does not know")
		default:
		}
		n.die()
	})
}

// A function that is removed leaves nothing at the broker; who has the state says it again if somebody clears it.
func TestClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		n := newNode(t, "a", b, newMemory())
		n.opened(1)
		commit(t, n, map[string]string{"x": "1", "y": "1"})
		other := newNode(t, "b", b, newMemory())
		if err := other.log.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		next := newNode(t, "c", b, newMemory())
		n.log.Close()
		next.opened(2)
		if next.get("x") != "1" || next.get("y") != "1" {
			t.Errorf("x is %q, y is %q", next.get("x"), next.get("y"))
		}
		next.log.Close()
		if err := other.log.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := b.held(); len(left) > 0 {
			t.Errorf("left are %d messages", len(left))
		}
		for _, n := range []*node{n, other, next} {
			n.die()
		}
	})
}

// Who dies between a commit's record and its entries leaves them to the next owner: they are there when the record has left the ring.
func TestEntriesOfADeadOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		n := newNode(t, "a", b, newMemory())
		n.opened(1)
		commit(t, n, map[string]string{"gone": "1"})
		n.post.dies(1)
		if _, err := n.put(n.log.Generation(), map[string]string{"x": "1", "y": "1", "gone": ""}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.die()
		next := newNode(t, "b", b, newMemory())
		next.opened(2)
		for i := range Slots + 1 {
			commit(t, next, map[string]string{"i": fmt.Sprint(i)})
		}
		next.die()
		third := newNode(t, "c", b, newMemory())
		third.opened(3)
		if third.get("x") != "1" || third.get("y") != "1" || third.get("gone") != "" {
			t.Errorf("x is %q, y is %q, gone is %q", third.get("x"), third.get("y"), third.get("gone"))
		}
		third.die()
	})
}
