// Command sim measures clusters of many nodes in virtual time, on links that lose one packet in twenty and take 20 to 40 ms, and
// writes the figures to out/sim.json. Nodes are whole members with encryption, members with catalogs, and up to 100 whole agents; what is
// not simulated is their machine. Minutes of the simulation take half a minute of processor time for 100 members and minutes for 300; give
// 1,000 a quarter of an hour for each of its parts.
//
// It measures what more frequent probes bring to small sites, and the load of placement, in a model of 50 nodes that is driven by the
// real decisions; see model.go.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/clustertest"
	"mayfly/internal/figures"
	"mayfly/internal/simnet"
)

// gcAt is how much the heap grows between two collections, in percent.
const gcAt = 200

// row is one figure, in the form of all figures of this project. There is no baseline here: these are absolute.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline"`
	Ratio    float64 `json:"ratio"`
	Target   string  `json:"target"`
	OK       bool    `json:"ok"`
}

func main() {
	testing.Init()           // bubbles of virtual time belong to tests, so this program is one
	debug.SetGCPercent(gcAt) // so many nodes in one process make much garbage and hold little
	sizes := flag.String("sizes", "30,100,300", "numbers of nodes, separated by commas")
	parts := flag.String("parts", "members,catalog,agents,small,placement", "what to measure, separated by commas; the first three in every size, agents in those up to 100")
	out := flag.String("out", "out/sim.json", "where the figures go")
	profile := flag.String("cpuprofile", "", "where a profile of the processor time goes, if anywhere")
	flag.Parse()
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "sim", F: func(t *testing.T) {
		end, err := profiled(*profile)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		if err := run(t, *sizes, *parts, *out); err != nil {
			t.Fatal(err)
		}
	}}}, nil, nil)
}

// profiled writes a profile to a file until end is called; without a file it does nothing.
func profiled(file string) (end func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut short cannot be read, which is seen at once
	}, nil
}

func run(t *testing.T, sizes, parts, out string) error {
	var rows []row
	simulated := func(of func(*testing.T, int) []row, n int) {
		synctest.Test(t, func(t *testing.T) { rows = append(rows, of(t, n)...) })
	}
	of := strings.Split(parts, ",")
	for field := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 4 {
			return fmt.Errorf("a size is a number of at least 4, not %q", field)
		}
		began := time.Now()
		if slices.Contains(of, "members") {
			simulated(simulate, n)
		}
		if slices.Contains(of, "catalog") {
			simulated(simulateCatalog, n)
		}
		if slices.Contains(of, "agents") && n <= agentsMost {
			simulated(simulateAgents, n)
		}
		fmt.Printf("%d nodes took %v of real time\n", n, time.Since(began).Round(time.Second))
	}
	if slices.Contains(of, "small") {
		rows = append(rows, smallSites(t)...)
	}
	if slices.Contains(of, "placement") {
		rows = append(rows, placements()...)
	}
	if err := figures.Write(out, rows); err != nil {
		return err
	}
	for _, r := range rows {
		if !r.OK {
			return errors.New("a figure misses its target")
		}
	}
	return nil
}

// report collects the figures of one size and prints them as they come.
type report struct {
	n    int
	rows []row
}

// at is a figure with a target.
func (r *report) at(name string, value float64, unit string, most float64) {
	r.put(row{Name: name, Value: value, Unit: unit, Target: fmt.Sprintf("at most %g", most), OK: value <= most})
}

// shown is a figure nothing was promised of.
func (r *report) shown(name string, value float64, unit string) {
	r.put(row{Name: name, Value: value, Unit: unit, Target: "no target", OK: true})
}

func (r *report) put(f row) {
	f.Name = fmt.Sprintf("%d nodes: %s", r.n, f.Name)
	mark := "ok"
	if !f.OK {
		mark = "MISSED"
	}
	beside := ""
	if f.Baseline != 0 {
		beside = fmt.Sprintf("  beside %.1f", f.Baseline)
	}
	fmt.Printf("%-70s %10.1f %-4s %-14s %s%s  (%v)\n", f.Name, f.Value, f.Unit, f.Target, mark, beside, processor())
	r.rows = append(r.rows, f)
}

// processor is how much processor time the program has used, so that it shows which phase of a simulation costs how much.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Round(time.Second)
}

// settled is how long it takes until what the coming of n members has to say is said: every member passes on the word of every other some
// ten to twenty-four times, and ten fit into a packet.
func settled(n int) time.Duration { return time.Minute + time.Duration(n)*400*time.Millisecond }

// large is from how many nodes on less time is simulated.
const large = 1000

// idleWindow is how long to look at idle nodes: about ten minutes, seven and a half of a large site, and a whole number of the times between two exchanges of states, which
// grow with the number of members. Nodes that started together exchange at about the same time, so that any other window has some too
// many or too few.
func idleWindow(n int) time.Duration {
	every := 75 * time.Second
	if n < cluster.SmallSite {
		every = time.Minute
	}
	if n > 32 { // as memberlist stretches it
		every *= time.Duration(math.Ceil(math.Log2(float64(n))-math.Log2(32)) + 1)
	}
	if n >= large {
		return every
	}
	return every * ((10*time.Minute + every - 1) / every)
}

// simulate lets a site of n nodes form, idle, spread, part and heal, and lose a node.
func simulate(t *testing.T, n int) []row {
	r := &report{n: n}
	s := clustertest.New(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05})
	s.Grow(n, 50*time.Millisecond, clustertest.Sized(n))
	formed := s.Until("everybody sees everybody", 10*time.Minute, func() bool { return clustertest.Full(s.Nodes, n) })
	r.at("everybody sees everybody after the last came", formed.Seconds(), "s", 120)
	time.Sleep(settled(n))

	lost, stop := s.Losses()
	window := idleWindow(n)
	packets, streams := s.Idle(window)
	stop()
	r.at(fmt.Sprintf("members thought dead in %v", window), float64(lost.Load()), "", 0)
	r.at("sent by an idle node, packets", packets, "B/s", 400)
	r.at("sent by an idle node, packets and streams", packets+streams, "B/s", idleMost(n))

	took := s.Spread(s.Rumoured(), 5, 200, time.Minute)
	r.at("an announcement of 200 bytes, p50", clustertest.Quantile(took, 0.5).Seconds(), "s", 3)
	r.at("an announcement of 200 bytes, p99", clustertest.Quantile(took, 0.99).Seconds(), "s", 10)

	away := 10 * time.Minute
	heal := 60.0
	if n > 30 {
		heal = 180
	}
	if n >= large {
		away = 3 * time.Minute
	}
	r.at(fmt.Sprintf("whole again after a partition of %v", away), s.Heal(away, 10*time.Minute).Seconds(), "s", heal)

	first, all := s.Death(5 * time.Minute)
	r.at("a death, known to the first", first.Seconds(), "s", 60)
	r.at("a death, known to all", all.Seconds(), "s", 60)
	return r.rows
}
