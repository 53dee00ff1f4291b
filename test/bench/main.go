// Command bench prints the numbers Mayfly holds, each beside a baseline measured in the same run, and writes them to
// out/bench.json. SHORT=1 takes a minute and is for seeing that everything still measures; its figures are rough.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"mayfly/internal/figures"
)

// row is one figure. Ratio is value / baseline where there is a baseline, in rounds the median of theirs; Target says what OK means.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline"`
	Ratio    float64 `json:"ratio"`
	Rounds   int     `json:"rounds,omitempty"` // value and baseline are medians of that many, 0 = it was measured once
	Target   string  `json:"target"`
	OK       bool    `json:"ok"`
}

// bench is one run.
type bench struct {
	ctx   context.Context //nolint:containedctx // ends everything that is measured; a bench is one call
	short bool
	dir   string
	bin   string
	rows  []row
}

// group is a set of figures that are measured together.
type group struct {
	name string
	run  func(*bench) error
}

func main() {
	only := flag.String("only", "", "regular expression of the groups to run: sandbox, router, metering, start, disk, mqtt, latency, gateway, soak")
	out := flag.String("out", "out/bench.json", "where the figures go")
	flag.Parse()
	log.SetFlags(0)
	if flag.Arg(0) == "twin" {
		if err := beTwin(flag.Arg(1), os.Stdin, os.Stdout); err != nil {
			log.Fatalln("bench twin:", err)
		}
		return
	}
	if err := run(*only, *out); err != nil {
		log.Fatalln("bench:", err)
	}
}

func run(only, out string) error {
	want, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "mayfly-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, short: os.Getenv("SHORT") != "", dir: dir, bin: "bin"}
	groups := []group{
		{"sandbox", (*bench).sandbox},
		{"router", (*bench).router},
		{"metering", (*bench).metering},
		{"start", (*bench).starts},
		{"disk", (*bench).disk},
		{"mqtt", (*bench).throughput},
		{"latency", (*bench).latency},
		{"gateway", (*bench).gateway},
		{"soak", (*bench).soak},
	}
	if err := b.guests(); err != nil {
		return err
	}
	for _, g := range groups {
		if !want.MatchString(g.name) {
			continue
		}
		fmt.Printf("\n%s\n", g.name)
		if err := g.run(b); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return b.finish(out)
}

// guests builds the functions that are measured.
func (b *bench) guests() error {
	for _, example := range []string{"echo", "counter"} {
		build := exec.CommandContext(b.ctx, "make", "--no-print-directory", "-C", filepath.Join("examples", example))
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", example, err, text)
		}
	}
	return nil
}

// finish says how many targets were missed, and writes all figures.
func (b *bench) finish(out string) error {
	missed := 0
	for _, r := range b.rows {
		if !r.OK {
			missed++
		}
	}
	fmt.Printf("\n%d figures, %d miss their target; all are in %s\n", len(b.rows), missed, out)
	return figures.Write(out, b.rows)
}

// limit is what a figure has to hold. Zero fields are not asked for, but for atMost when there is no other.
type limit struct {
	atMost, atLeast           float64 // of the value
	ratioAtMost, ratioAtLeast float64
	none                      bool // no target: the figure only says what the machine gives
}

func (l limit) String() string {
	switch {
	case l.none:
		return ""
	case l.ratioAtMost != 0:
		return fmt.Sprintf("at most %g of the baseline", l.ratioAtMost)
	case l.ratioAtLeast != 0:
		return fmt.Sprintf("at least %g of the baseline", l.ratioAtLeast)
	case l.atLeast != 0:
		return fmt.Sprintf("at least %g", l.atLeast)
	}
	return fmt.Sprintf("at most %g", l.atMost)
}

func (l limit) holds(r *row) bool {
	switch {
	case l.none:
		return true
	case l.ratioAtMost != 0:
		return r.Ratio <= l.ratioAtMost && r.Baseline > 0
	case l.ratioAtLeast != 0:
		return r.Ratio >= l.ratioAtLeast && r.Baseline > 0
	case l.atLeast != 0:
		return r.Value >= l.atLeast
	}
	return r.Value <= l.atMost
}

// add prints a figure and keeps it. baseline 0 = there is none.
func (b *bench) add(name string, value float64, unit string, baseline float64, want limit) {
	r := row{Name: name, Value: value, Unit: unit, Baseline: baseline}
	if baseline > 0 {
		r.Ratio = value / baseline
	}
	b.keep(&r, want)
}

// compare prints a figure that was measured beside its baseline in rounds, and keeps it.
func (b *bench) compare(name, unit string, c comparison, want limit) {
	b.keep(&row{Name: name, Value: c.value, Unit: unit, Baseline: c.baseline, Ratio: c.ratio, Rounds: c.rounds}, want)
}

func (b *bench) keep(r *row, want limit) {
	r.Target, r.OK = want.String(), want.holds(r)
	b.rows = append(b.rows, *r)
	verdict := "ok"
	if want.none {
		verdict = ""
	} else if !r.OK {
		verdict = "MISSED"
	}
	ratio := ""
	if r.Ratio != 0 {
		ratio = fmt.Sprintf("%.2f of %.4g", r.Ratio, r.Baseline)
	}
	fmt.Printf("  %-46s %12.4g %-8s %-20s %-32s %s\n", r.Name, r.Value, r.Unit, ratio, r.Target, verdict)
}

// pick returns the first in a short run, else the second.
func pick[T any](b *bench, short, long T) T {
	if b.short {
		return short
	}
	return long
}
