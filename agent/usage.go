package agent

import (
	"maps"
	"sync"
	"sync/atomic"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/meter"
	"mayfly/store"
)

// accounts adds up what the dispatcher counts, by function and tenant. The dispatcher forgets the counters of a function that is gone, and
// begins anew when it comes back; the sums here only grow as long as the process lives. Safe for concurrent use.
type accounts struct {
	counters func() map[string]*dispatch.Counters
	tenant   func(function string) string // of the deployed version

	mu     sync.Mutex
	live   map[*dispatch.Counters]*counting
	totals map[meter.Subject]meter.Usage
	stored map[string]uint64 // of store, as in totals

	store sync.Map // function: *atomic.Uint64, bytes handed to the disk
}

// counting is what counters said when they were last read.
type counting struct {
	subject meter.Subject
	before  meter.Usage
}

func newAccounts(tenant func(string) string) *accounts {
	return &accounts{tenant: tenant, live: map[*dispatch.Counters]*counting{}, totals: map[meter.Subject]meter.Usage{}, stored: map[string]uint64{}}
}

// Totals is what each has used since the process began.
func (t *accounts) Totals() map[meter.Subject]meter.Usage {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read()
	return maps.Clone(t.totals)
}

// redeployed books what was used until now, and what is used from now on on the tenants of the versions that are deployed. It is to be called
// before the dispatcher is told of them: it forgets counters then.
func (t *accounts) redeployed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read()
	for _, c := range t.live {
		c.subject.Tenant = t.tenant(c.subject.Function)
	}
}

// read takes what the counters say. Called with mu held.
func (t *accounts) read() {
	listed := map[*dispatch.Counters]bool{}
	for name, c := range t.counters() {
		listed[c] = true
		if t.live[c] == nil {
			t.live[c] = &counting{subject: meter.Subject{Function: name, Tenant: t.tenant(name)}}
		}
	}
	for c, at := range t.live {
		now := usageOf(c)
		t.add(at.subject, now.Minus(at.before))
		at.before = now
		if !listed[c] { // nothing counts there any more
			delete(t.live, c)
		}
	}
	t.store.Range(func(name, n any) bool {
		function, bytes := name.(string), n.(*atomic.Uint64).Load()
		if was := t.stored[function]; bytes != was {
			t.stored[function] = bytes
			t.add(meter.Subject{Function: function, Tenant: t.tenant(function)}, meter.Usage{Stored: bytes - was})
		}
		return true
	})
}

func (t *accounts) add(s meter.Subject, u meter.Usage) {
	if u.Idle() {
		return
	}
	sum := t.totals[s]
	sum.Add(u)
	t.totals[s] = sum
}

func usageOf(c *dispatch.Counters) meter.Usage {
	failed := uint64(c.Failed.Load() + c.Rejected.Load())
	return meter.Usage{
		Events: uint64(c.Done.Load()) + failed, Failed: failed, CPU: uint64(c.CPUNanos.Load()), Wall: uint64(c.RunNanos.Load()),
		Memory: uint64(c.MemoryTime.Load()), BytesIn: uint64(c.BytesIn.Load()), BytesOut: uint64(c.BytesOut.Load()),
		Published: uint64(c.Published.Load()),
	}
}

// weighed is the store as the dispatcher sees it, which counts what is written for each function: state, done marks, journal, outbox, dead
// letters. What the database makes of it (its log, its compactions) belongs to nobody in particular.
type weighed struct {
	dispatch.Store
	accounts *accounts
}

// Submit implements dispatch.Store.
func (w weighed) Submit(ops []store.Op, done func(error)) error {
	bytes := map[string]uint64{}
	for i := range ops {
		if _, function, _, ok := store.SplitKey(ops[i].Key); ok && function != "" {
			bytes[function] += uint64(len(ops[i].Key) + len(ops[i].Value))
		}
	}
	err := w.Store.Submit(ops, done)
	if err == nil {
		for function, n := range bytes {
			counter, ok := w.accounts.store.Load(function)
			if !ok {
				counter, _ = w.accounts.store.LoadOrStore(function, new(atomic.Uint64))
			}
			counter.(*atomic.Uint64).Add(n)
		}
	}
	return err
}

func (a *Agent) openUsage(*Options) (err error) {
	a.usage = newAccounts(func(name string) string {
		if f, ok := a.catalog.Get(name); ok {
			return f.Manifest.Tenant
		}
		return ""
	})
	a.usage.counters = func() map[string]*dispatch.Counters { return a.dispatch.Counters() }
	a.meter, err = meter.Open(meter.Config{
		Node: a.cfg.Node.Name, Totals: a.usage.Totals,
		State: func(name string) uint64 { return uint64(max(0, a.dispatch.StateBytes(name))) },
	}, a.store, a.log.With("part", "meter"))
	a.copies = meter.NewCopies(a.store)
	a.budgets = newBudgets(a.meter.Spent, a.usage.Totals, a.log.With("part", "budget"))
	return err
}

func usageRow(r *meter.Row, id string) admin.UsageRow {
	return admin.UsageRow{
		Node: r.Node, NodeID: id, From: r.From, Folded: r.Folded, Function: r.Function, Tenant: r.Tenant,
		UsageSum: admin.UsageSum{
			Events: r.Events, Failed: r.Failed, CPUNS: r.CPU, WallNS: r.Wall, MemoryByteMS: r.Memory, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
			Published: r.Published, StoredBytes: r.Stored, StateBytes: r.State,
		},
	}
}
