package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"mayfly/agent/dispatch"
	"mayfly/agent/meter"
	"mayfly/store"
)

// What is counted is booked once, on the tenant of the version that ran, also when counters go and new ones come.
func TestAccountsBookEverythingOnce(t *testing.T) {
	t.Parallel()
	counters, tenants := map[string]*dispatch.Counters{}, map[string]string{"f": "ada"}
	u := newAccounts(func(name string) string { return tenants[name] })
	u.counters = func() map[string]*dispatch.Counters { return counters }
	run := func(n int64) {
		c := counters["f"]
		c.Done.Add(n)
		c.Failed.Add(1)
		c.Rejected.Add(1)
		c.CPUNanos.Add(5 * n)
		c.MemoryTime.Add(7 * n)
	}
	counters["f"] = &dispatch.Counters{}
	run(10)
	u.redeployed()
	run(1)
	tenants["f"] = "bob" // another version
	u.redeployed()
	run(100)
	delete(counters, "f") // removed: the dispatcher was told after it was read
	u.redeployed()
	counters["f"] = &dispatch.Counters{} // and back
	tenants["f"] = ""
	run(1000)
	got := u.Totals()
	for s, want := range map[meter.Subject]meter.Usage{
		{Function: "f", Tenant: "ada"}: {Events: 15, Failed: 4, CPU: 55, Memory: 77},
		{Function: "f", Tenant: "bob"}: {Events: 102, Failed: 2, CPU: 500, Memory: 700},
		{Function: "f"}:                {Events: 1002, Failed: 2, CPU: 5000, Memory: 7000},
	} {
		if got[s] != want {
			t.Errorf("%+v: %+v, not %+v", s, got[s], want)
		}
	}
	if len(got) != 3 || len(u.live) != 1 {
		t.Errorf("%v, %d counters are looked at", got, len(u.live))
	}
}

// Bytes handed to the disk are counted for the function they are of, when the disk took them.
func TestStoredBytesAreWeighed(t *testing.T) {
	t.Parallel()
	d, _, err := store.Open(store.Config{Dir: t.TempDir(), MemTable: 2 << 20, Floor: 1, Ballast: -1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	u := newAccounts(func(string) string { return "" })
	u.counters = func() map[string]*dispatch.Counters { return nil }
	w := weighed{d, u}
	key := store.State.Key("f", []byte("k"))
	synced := make(chan error, 1)
	submit := func(ops ...store.Op) error {
		if err := w.Submit(ops, func(err error) { synced <- err }); err != nil {
			return err
		}
		return <-synced
	}
	err = submit(store.Op{Key: key, Value: make([]byte, 100)}, store.Op{Key: store.Done.Key("g", nil), Value: []byte{1}}, store.Op{Key: store.Trigger.Key("", []byte("x"))})
	if refused := submit(store.Op{Key: key, Value: make([]byte, 100), Checked: true, Expect: 99}); err != nil || !errors.Is(refused, store.ErrConflict) {
		t.Error(err, refused)
	}
	got := u.Totals()
	if f, g := got[meter.Subject{Function: "f"}], got[meter.Subject{Function: "g"}]; f.Stored != uint64(100+len(key)) || g.Stored != uint64(4+1) || len(got) != 2 {
		t.Errorf("%+v", got)
	}
	stop()
	if err := errors.Join(<-ended, d.Close()); err != nil {
		t.Error(err)
	}
}

// taken is a store that takes everything at once.
type taken struct{ dispatch.Store }

func (taken) Submit(_ []store.Op, done func(error)) error {
	done(nil)
	return nil
}

// What weighing adds to the commit of an event with state, which waits for the disk besides.
func BenchmarkWeighing(b *testing.B) {
	w := weighed{taken{}, newAccounts(func(string) string { return "" })}
	ops := []store.Op{
		{Key: store.State.Key("counter", []byte("a key")), Value: make([]byte, 256)}, {Key: store.Done.Key("counter", []byte("at/session/1")), Value: make([]byte, 16)},
	}
	for b.Loop() {
		if err := w.Submit(ops, func(error) {}); err != nil {
			b.Fatal(err)
		}
	}
}
