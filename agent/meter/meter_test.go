package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
	"mayfly/store"
)

// A device on which nothing runs writes nothing, whatever the clock does; nor does whoever reads ([L1]).
func TestIdleWritesNothing(t *testing.T) {
	t.Parallel()
	d := newDisk()
	s := open(t, d, noon(), 3)
	s.use(Subject{"a", ""}, Usage{Events: 1})
	sample(t, s)
	written := d.batches
	for i := range 100 {
		s.set(noon().Add(time.Duration(i) * 47 * time.Minute))
		sample(t, s)
		if _, err := s.Rows(Query{By: function.PerDay}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Spent(noon()); err != nil {
			t.Fatal(err)
		}
		verified(t, s)
	}
	s.use(Subject{"a", ""}, Usage{Events: 1})
	if _, err := s.Rows(Query{By: function.PerDay}); err != nil || d.batches != written {
		t.Errorf("%d batches were written by looking: %v", d.batches-written, err)
	}
}

// 100 functions that run in every hour of 45 days, and of ten hours more: the ledger stops growing, and all of it is still counted ([L4]).
func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	const functions, days, more = 100, 45, 10
	d := newDisk()
	s := open(t, d, noon(), days*24)
	size := func() (n int) {
		for key, value := range d.records {
			n += len(key) + len(value)
		}
		return n
	}
	var full int
	for hour := range days*24 + more {
		if hour == days*24 {
			full = size()
		}
		s.set(noon().Add(time.Duration(hour) * time.Hour))
		for f := range functions {
			s.use(Subject{fmt.Sprintf("function-%d", f), "tenant"}, Usage{
				Events: 3600, CPU: 36e9, Wall: 40e9, Memory: 16 << 20 * 40e3, BytesIn: 1 << 20, BytesOut: 1 << 20, Published: 3600, Stored: 1 << 20,
			})
		}
		sample(t, s)
	}
	if full > 13<<20 || size() > full+functions*2*200 {
		t.Errorf("%d bytes after 45 days, %d after 48", full, size())
	}
	t.Logf("%d bytes after 45 days, %d ten hours later; %d a batch", full, size(), d.bytes/d.batches)
	rows, err := s.Rows(Query{By: function.PerMonth})
	var sum Usage
	for _, r := range rows {
		sum.Add(r.Usage)
	}
	if want := uint64(functions * (days*24 + more) * 3600); err != nil || sum.Events != want {
		t.Errorf("%d events of %d: %v", sum.Events, want, err)
	}
	if v := verified(t, s); v.Broken != "" || v.Segments != days*24 {
		t.Errorf("%+v", v)
	}
}

// A clock that is wrong for a while puts usage where it said, and takes nothing from the hours that are right.
func TestClocks(t *testing.T) {
	t.Parallel()
	a := Subject{"a", ""}
	for name, wrong := range map[string]time.Time{
		"1970": time.Unix(30, 0), "before 1970": time.Unix(-1e9, 0), "2099": time.Date(2099, 5, 6, 7, 8, 9, 0, time.UTC), "yesterday": noon().AddDate(0, 0, -1),
	} {
		s := open(t, newDisk(), noon(), 1080)
		for i, at := range []time.Time{noon(), wrong, noon().Add(time.Minute), noon().Add(time.Hour)} {
			s.set(at)
			s.use(a, Usage{Events: 1 << (4 * i)})
			sample(t, s)
		}
		rows, err := s.Rows(Query{By: function.PerHour, From: noon(), To: noon().Add(2 * time.Hour)})
		if err != nil || len(rows) != 2 || rows[0].Events != 0x101 || rows[1].Events != 0x1000 {
			t.Errorf("%s: %+v %v", name, rows, err)
		}
		all, err := s.Rows(Query{By: function.PerHour})
		if err != nil || len(all) != 3 {
			t.Errorf("%s: %+v %v", name, all, err)
		}
		if v := verified(t, s); v.Broken != "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestRowsByPeriod(t *testing.T) {
	t.Parallel()
	s := open(t, newDisk(), noon(), 1080)
	for i := range 50 {
		s.set(noon().Add(time.Duration(i) * time.Hour))
		s.use(Subject{"a", ""}, Usage{Events: 1})
		s.use(Subject{"b", "x"}, Usage{Events: 2})
		sample(t, s)
	}
	for _, c := range []struct {
		q    Query
		rows int
		sum  uint64
	}{
		{Query{By: function.PerHour}, 100, 150},
		{Query{By: function.PerDay}, 6, 150},
		{Query{By: function.PerMonth}, 2, 150},
		{Query{By: function.PerDay, Function: "b"}, 3, 100},
		{Query{By: function.PerDay, From: noon().Add(10 * time.Hour)}, 6, 120},
		{Query{By: function.PerHour, From: noon(), To: noon().Add(30 * time.Minute)}, 2, 3},
		{Query{By: function.PerHour, Function: "c"}, 0, 0},
	} {
		rows, err := s.Rows(c.q)
		var sum Usage
		for _, r := range rows {
			sum.Add(r.Usage)
		}
		if err != nil || len(rows) != c.rows || sum.Events != c.sum {
			t.Errorf("%+v: %d rows, %d events: %v", c.q, len(rows), sum.Events, err)
		}
	}
	spent, totals, err := s.Spent(noon().Add(49 * time.Hour))
	if err != nil || spent["a"].Events != 1 || totals["a"].Events != 50 || spent["b"].Events != 2 {
		t.Errorf("%v %v %v", spent, totals, err)
	}
}

func TestUsageSaturatesAndIsStored(t *testing.T) {
	t.Parallel()
	u := Usage{Events: 1<<64 - 2, State: 5}
	u.Add(Usage{Events: 5, CPU: 3, State: 4})
	if u.Events != 1<<64-1 || u.CPU != 3 || u.State != 5 {
		t.Errorf("%+v", u)
	}
	for _, later := range [][]byte{u.append(nil), append(u.append(nil), 9, 9)} {
		if got, err := decodeUsage(later); err != nil || got != u {
			t.Errorf("%+v %v", got, err)
		}
	}
	if got, err := decodeUsage([]byte{7}); err != nil || got != (Usage{Events: 7}) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := decodeUsage([]byte{0x80}); !errors.Is(err, errRecord) {
		t.Error(err)
	}
}

// A minute is what a crash may take: Run samples every minute, and once more at an orderly stop.
func TestRunSamples(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := open(t, d, noon(), 3)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		use := func(n uint64) { s.use(Subject{"a", ""}, Usage{Events: n}) }
		use(1)
		time.Sleep(61 * time.Second)
		use(2)
		if got := kept(t, d); got != 1 {
			t.Errorf("after a minute a crash would leave %d events", got)
		}
		d.allow(0)
		time.Sleep(time.Minute)
		use(4)
		d.allow(-1)
		time.Sleep(time.Minute)
		if got := kept(t, d); got != 7 {
			t.Errorf("what the disk refused was not written later: %d", got)
		}
		use(8)
		stop()
		if err := <-ended; err != nil || kept(t, d) != 15 {
			t.Errorf("%v, %d", err, kept(t, d))
		}
	})
}

// kept is how many events another process finds.
func kept(t *testing.T, d *disk) (n uint64) {
	t.Helper()
	rows, err := open(t, d, noon(), 3).Rows(Query{By: function.PerMonth})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		n += r.Events
	}
	return n
}

// realStore runs a store in dir until the function it returns is called, which then closes it or leaves it as a power cut would.
func realStore(t *testing.T, dir string) (*store.Store, func()) {
	t.Helper()
	d, report, err := store.Open(store.Config{Dir: dir, MemTable: 2 << 20, Floor: 1, Ballast: -1}, slog.New(slog.DiscardHandler))
	if err != nil || !report.Clean() {
		t.Fatalf("%v %+v", err, report)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return d, func() {
		stop()
		if err := errors.Join(<-ended, d.Close()); err != nil {
			t.Error(err)
		}
	}
}

// With a real store: while samples are written and folded somebody reads, and never finds more or less than was used. Then the power is cut
// after any sample: what that sample wrote is found, each once, and the chain fits ([L1], [L2], [L4]).
func TestWithARealStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, end := realStore(t, dir+"/0")
	s := open(t, d, noon(), 3)
	const rounds = 20
	for i := range rounds {
		s.set(noon().Add(time.Duration(i) * 40 * time.Minute))
		s.use(Subject{"a", ""}, Usage{Events: 1})
		s.use(Subject{"b", ""}, Usage{Events: 1})
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 20 {
				if n := sum(t, s); n != uint64(2*i+2) {
					t.Errorf("a reader finds %d events, not %d", n, 2*i+2)
				}
			}
		})
		sample(t, s)
		wg.Wait()
		if err := os.CopyFS(fmt.Sprintf("%s/%d", dir, i+1), os.DirFS(dir+"/0")); err != nil {
			t.Fatal(err)
		}
	}
	end()
	for i := range rounds {
		cut, end := realStore(t, fmt.Sprintf("%s/%d", dir, i+1))
		after := open(t, cut, s.clock(), 3)
		if n := sum(t, after); n != uint64(2*i+2) {
			t.Errorf("cut after sample %d: %d events", i+1, n)
		}
		if v := verified(t, after); v.Broken != "" {
			t.Errorf("cut after sample %d: %+v", i+1, v)
		}
		end()
	}
}

func sum(t *testing.T, s *site) (n uint64) {
	rows, err := s.Rows(Query{By: function.PerMonth})
	if err != nil {
		t.Error(err)
	}
	for _, r := range rows {
		n += r.Events
	}
	return n
}

// What a sample costs, a minute, with 100 functions that ran, and the bytes it hands to the disk.
func BenchmarkSample(b *testing.B) {
	d := newDisk()
	s := open(b, d, noon(), 1080)
	for b.Loop() {
		for f := range 100 {
			s.use(Subject{fmt.Sprint("function-", f), ""}, Usage{Events: 1, CPU: 1e6, Memory: 1e6, BytesIn: 100})
		}
		sample(b, s)
	}
	b.ReportMetric(float64(d.bytes)/float64(d.batches), "bytes/sample")
}
