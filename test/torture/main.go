// Command torture shows whether the promises of docs/INVARIANTS.md hold when things break: every case is a workload, something that
// goes wrong, and a history of what was seen from outside, which is judged. It prints a line for each case, writes all of them to
// out/torture.json, and says how to run a failed one again.
//
//	make torture                       everything, a minute a case
//	make torture MINUTES=10            longer
//	make torture SHORT=1               a few minutes in all, for CI
//	make torture ARGS='-only kill'     some cases
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"mayfly/internal/figures"
)

// options are what the command line says.
type options struct {
	only, out, keep string
	minutes         float64
	seed            uint64
	times           int
	short, mutants  bool
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "regular expression of the cases to run")
	flag.StringVar(&o.out, "out", "out/torture.json", "where the figures go")
	flag.StringVar(&o.keep, "keep", "", "directory for what failed cases leave; default: below the directory of -out")
	flag.Float64Var(&o.minutes, "minutes", 1, "how long a case goes on, where that is a matter of choice")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of everything random")
	flag.IntVar(&o.times, "times", 1, "how often each case runs, with other chances each time: for what is seldom")
	flag.BoolVar(&o.mutants, "mutants", false, "break promises on purpose and see whether the cases notice")
	flag.Parse()
	o.short = os.Getenv("SHORT") != "" || o.mutants
	log.SetFlags(0)
	failed, err := run(o)
	if err != nil {
		log.Fatalln("torture:", err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// result is one row of out/torture.json.
type result struct {
	Case            string  `json:"case"`
	Seconds         float64 `json:"seconds"`
	Sent            int     `json:"sent"`
	Acknowledged    int     `json:"acknowledged"`
	Executed        int     `json:"executed"`
	Duplicates      int     `json:"duplicates"`
	Lost            int     `json:"lost"`
	OrderViolations int     `json:"order_violations"`
	StateViolations int     `json:"state_violations"`
	RecoveryP50     float64 `json:"recovery_p50_ms"`
	RecoveryP99     float64 `json:"recovery_p99_ms"`
	OK              bool    `json:"ok"`

	Note string `json:"note,omitempty"`
}

func run(o options) (failed int, err error) {
	want, err := regexp.Compile(o.only)
	if err != nil {
		return 0, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := newWorkshop(ctx, o)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(w.dir)
	all := cases()
	if o.mutants {
		all = mutantCases()
	}
	all = slices.DeleteFunc(all, func(c torment) bool { return !want.MatchString(c.name) || c.long && o.short && !o.mutants })
	var rows []result
	for range o.times {
		for _, c := range all {
			if ctx.Err() != nil {
				break
			}
			r := w.one(c)
			rows = append(rows, r)
			if !r.OK {
				failed++
			}
		}
		w.seed++
	}
	fmt.Printf("\n%d cases, %d failed; the figures are in %s\n", len(rows), failed, o.out)
	return failed, figures.Write(o.out, rows)
}

// torment is one case.
type torment struct {
	name string
	what string
	long bool // not part of the short form
	run  func(*trial) error
}

// one runs a case in a directory of its own and prints what came of it.
func (w *workshop) one(c torment) result {
	began := time.Now()
	t := &trial{workshop: w, name: c.name, seed: w.seed}
	fmt.Printf("%-24s %s\n", c.name, c.what)
	err := t.prepare()
	if err == nil {
		err = c.run(t)
	}
	t.close()
	r := t.result(err)
	if t.mutated != "" { // it must have been noticed, by the judge
		r.OK = r.Lost+r.OrderViolations+r.StateViolations > 0
	}
	r.Seconds = float64(time.Since(began).Milliseconds()) / 1000
	verdict := "ok"
	if !r.OK {
		verdict = "FAILED"
	}
	fmt.Printf("  %-6s %6.1f s  sent %d  acknowledged %d  executed %d  duplicates %d  lost %d  order %d  state %d  recovery p50 %.0f p99 %.0f ms\n",
		verdict, r.Seconds, r.Sent, r.Acknowledged, r.Executed, r.Duplicates, r.Lost, r.OrderViolations, r.StateViolations, r.RecoveryP50, r.RecoveryP99)
	for _, n := range t.notes {
		fmt.Printf("         %s\n", n)
	}
	if !r.OK {
		fmt.Printf("         again: SHORT=%s go run ./test/torture -only '^%s$' -seed %d -minutes %g\n", os.Getenv("SHORT"), c.name, w.seed, w.minutes)
		w.save(t)
	}
	_ = os.RemoveAll(t.dir) // below w.dir, which goes too
	return r
}
