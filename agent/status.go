package agent

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
)

// counted is what the dispatcher counted of one function.
type counted struct{ dispatch.FunctionStats }

func (a *Agent) counters() map[string]*counted {
	all, _ := a.dispatch.Stats()
	byName := map[string]*counted{}
	for _, s := range all {
		byName[s.Name] = &counted{s}
	}
	return byName
}

func (c *counted) into(f *admin.Function) {
	n := c.Counters
	f.Counters = admin.Counters{
		Received: uint64(n.Received.Load()), Filtered: uint64(n.Filtered.Load()), Duplicate: uint64(n.Duplicate.Load()), Coalesced: uint64(n.Coalesced.Load()),
		Done: uint64(n.Done.Load()), Retried: uint64(n.Retried.Load()), Rejected: uint64(n.Rejected.Load()),
		Failed: uint64(n.Failed.Load()), DeadLettered: uint64(n.Dead.Load()), Published: uint64(n.Published.Load()),
		Cold: uint64(n.Cold.Load()), Running: c.Running, Queued: c.Queued,
		RunUS: n.Average.Load() / 1e3, CPUUS: n.CPUNanos.Load() / 1e3,
	}
	if e := n.LastError.Load(); e != nil {
		f.LastError = &admin.Error{Op: "invoke", Subject: f.Name, Kind: e.Kind, Message: e.Text}
		f.LastErrorAt = e.Time
	}
}

// Status implements admin.Reporter.
func (a *Agent) Status(ctx context.Context) (admin.Status, error) {
	functions, err := a.List(ctx)
	s := admin.Status{
		Node: admin.Node{
			ID: a.node.ID, Name: a.cfg.Node.Name, Version: a.version, Arch: runtime.GOARCH, PID: os.Getpid(),
			Started: a.began, UptimeSeconds: int64(time.Since(a.began).Seconds()),
		},
		Functions: functions, Engine: a.engineStatus(), Store: a.storeStatus(), Disk: a.disk(), Memory: memory(),
	}
	waiting, dead := a.journal.Stats()
	s.Journal, s.DeadLetters = backlog(waiting), backlog(dead)
	s.Brokers, s.Outbox = a.brokers()
	s.Losses = a.losses()
	if a.pool != nil {
		c := a.describe(a.pool.member, len(a.pool.gossip.Members()))
		s.Cluster = &c
	}
	s.Reasons = a.reasons(&s)
	s.Ready = a.ready.err() == nil
	return s, err
}

// Settings implements admin.Reporter.
func (a *Agent) Settings(context.Context) ([]admin.Setting, error) { return a.settings(), nil }

func backlog(b journal.Backlog) admin.Backlog {
	out := admin.Backlog{Count: b.Count, Bytes: b.Bytes, QuotaBytes: b.Quota}
	if !b.Oldest.IsZero() {
		out.OldestSeconds = int64(time.Since(b.Oldest).Seconds())
	}
	return out
}

func (a *Agent) engineStatus() admin.Engine {
	info, stats := a.engine.Info(), a.engine.Stats()
	return admin.Engine{
		Name: info.Library, Slots: info.Slots, Busy: stats.Busy, Modules: stats.Loaded, ReservationBytes: info.AddressSpace, Note: info.Reason,
	}
}

func (a *Agent) storeStatus() admin.Store {
	stats := a.store.Stats()
	s := admin.Store{Path: a.path("store"), Bytes: stats.DiskBytes, Writable: stats.Failed == nil, Findings: []admin.Finding{}}
	find := func(lost uint64, format string, args ...any) {
		s.Findings = append(s.Findings, admin.Finding{Time: a.began, Text: fmt.Sprintf(format, args...), Lost: int64(lost)})
	}
	for _, r := range a.report.Repairs {
		find(0, "%s", r)
	}
	if a.report.Quarantined != "" {
		find(0, "the store could not be opened and was moved to %s", a.report.Quarantined)
	}
	if stats.Lost > 0 {
		find(stats.Lost, "records are missing")
	}
	if stats.LostWrites > 0 {
		find(stats.LostWrites, "synced writes are missing")
	}
	if stats.Corrupt > 0 {
		find(stats.Corrupt, "records are damaged")
	}
	if a.report.Changed {
		find(0, "the records found at the start were not those last written")
	}
	return s
}

func (a *Agent) disk() admin.Disk {
	d := admin.Disk{Path: a.cfg.Node.Data, FloorBytes: a.cfg.Store.Floor, WrittenBytes: written()}
	var fs unix.Statfs_t
	if unix.Statfs(a.cfg.Node.Data, &fs) == nil {
		d.TotalBytes, d.FreeBytes = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	}
	return d
}

// written returns the bytes this process caused to be written, by the kernel's accounting (proc(5), /proc/pid/io).
func written() int64 { return procField("/proc/self/io", "write_bytes:") }

func memory() admin.Memory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return admin.Memory{
		RSSBytes: procField("/proc/self/status", "VmRSS:") << 10, HeapBytes: int64(m.HeapInuse), Goroutines: runtime.NumGoroutine(),
	}
}

func procField(file, name string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

func (a *Agent) brokers() (all []admin.Broker, waiting admin.Backlog) {
	pipes, bytes := a.outbox.Stats()
	for _, n := range bytes {
		waiting.Bytes += n
	}
	for _, p := range pipes {
		waiting.Count += int64(p.Queued)
		s := a.sites[p.Broker]
		b := admin.Broker{Name: p.Broker, Connected: p.Connected, Published: p.Confirmed, InFlight: p.Queued}
		if s.local != nil {
			st := s.local.Status()
			b.Embedded, b.URL, b.Received = true, strings.Join(st.Addresses, ", "), uint64(st.Received)
		} else {
			st := s.remote.Status()
			b.URL, b.Since, b.Reconnects = cmp.Or(st.URL, strings.Join(s.config.URLs, ", ")), st.Since, st.Connects
			if st.Err != nil {
				b.LastError, b.LastErrorAt = admin.NewError("connect", p.Broker, st.Err), st.ErrAt
			}
			b.Received = a.subs.received(p.Broker)
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b admin.Broker) int { return cmp.Compare(a.Name, b.Name) })
	return all, waiting
}

// losses gathers what every part gave up, by reason ([D8]).
func (a *Agent) losses() []admin.Loss {
	sum := map[string]uint64{}
	_, lost := a.dispatch.Stats()
	for reason, n := range lost {
		sum[reason] += uint64(n)
	}
	pipes, _ := a.outbox.Stats()
	for _, p := range pipes {
		sum["publish-rejected"] += p.Rejected
		sum["publish-damaged"] += p.Corrupt
	}
	for _, s := range a.sites {
		if s.local != nil {
			for reason, n := range s.local.Status().Losses {
				sum["broker-"+reason] += uint64(n)
			}
		}
	}
	a.subs.shed(sum)
	counts := a.journal.Counts()
	sum["journal-damaged"] += counts.Corrupt
	sum["dead-letter-dropped"] += counts.Dropped
	sum["schedule-missed"] += a.ticks.missed()
	stats := a.store.Stats()
	sum["store-lost"] += stats.Lost + stats.LostWrites
	sum["store-damaged"] += stats.Corrupt
	all := []admin.Loss{}
	for reason, n := range sum {
		if n > 0 {
			all = append(all, admin.Loss{Reason: reason, Count: n})
		}
	}
	slices.SortFunc(all, func(a, b admin.Loss) int { return cmp.Compare(a.Reason, b.Reason) })
	return all
}

// reasons says what keeps the agent from being well.
func (a *Agent) reasons(s *admin.Status) []admin.Reason {
	all := []admin.Reason{}
	add := func(code, text, hint string) { all = append(all, admin.Reason{Code: code, Text: text, Hint: hint}) }
	if err := a.ready.err(); err != nil {
		add("not-ready", err.Error(), "mayfly status")
	}
	if a.pool != nil && a.pool.signer == nil && a.pool.member.Signs() {
		add("authority-missing", "this node is a signer by its certificate, and the file authority is not in "+a.path("cluster")+": nobody can join or renew here",
			"restore it from a backup, unless it was moved to another member")
	}
	if len(a.sites) == 0 {
		add("no-broker", "no MQTT broker is configured", "set [embedded] listen or [broker.<name>] urls, then: systemctl reload mayflyd")
	}
	for _, b := range s.Brokers {
		if !b.Connected {
			text, hint := "not connected", "is the broker running?"
			if b.LastError != nil {
				text, hint = b.LastError.Message, cmp.Or(b.LastError.Hint, hint)
			}
			add("broker-down", "broker "+b.Name+": "+text, hint)
		}
	}
	for _, i := range a.issuers {
		if st := i.Status(); st.Err != nil {
			add("issuer-down", issuerFault(&st), "is "+st.URL+" reachable from this device?")
		}
	}
	if stats := a.store.Stats(); stats.Failed != nil {
		add("disk-failed", stats.Failed.Error(), "check the disk; nothing is acknowledged until a restart")
	} else if s.Disk.FreeBytes < s.Disk.FloorBytes {
		add("disk-full", fmt.Sprintf("%d bytes are free on %s; below %d nothing is written and events wait at their senders",
			s.Disk.FreeBytes, s.Disk.Path, s.Disk.FloorBytes), "free some space; it goes on by itself")
	}
	warnings := a.budgets.warnings()
	for _, f := range s.Functions {
		if words := warnings[f.Name]; words != "" {
			add("budget", "function "+f.Name+" has used "+words, "mayfly usage --function "+f.Name)
		}
		if f.State == admin.StateFailed {
			add("function-failed", "function "+f.Name+": "+f.Reason, f.Hint)
		}
	}
	return all
}
