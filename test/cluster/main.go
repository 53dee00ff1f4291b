// Command cluster shows on hosts of their own, each a network namespace with a real agent, around a real mosquitto, that a cluster keeps
// its promises while nodes die, links break and strangers knock. It prints a line for each case, writes all of them to
// out/cluster.json, and says how to run a failed one again.
//
//	make cluster-test                       everything
//	make cluster-test SHORT=1               a few minutes, for CI
//	make cluster-test ARGS='-only drain'    some cases
//
// It needs the right to make network namespaces and TAP devices: root, or a user namespace and a /dev/net/tun that everybody may open. The
// case place shares the processor out, by a cgroup below the root one, which takes root.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"mayfly/internal/figures"
	"mayfly/test/cluster/lan"
)

// options are what the command line says.
type options struct {
	only, out, keep, bin string
	seed                 uint64
	short, debug         bool
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "regular expression of the cases to run")
	flag.StringVar(&o.out, "out", "out/cluster.json", "where the figures go")
	flag.StringVar(&o.keep, "keep", "", "directory for what failed cases leave; default: below the directory of -out")
	flag.StringVar(&o.bin, "bin", "bin", "directory of mayflyd and mayfly")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of everything random")
	flag.BoolVar(&o.debug, "debug", false, "agents log what only developers want to know, and their logs are kept")
	flag.Parse()
	o.short = os.Getenv("SHORT") != ""
	log.SetFlags(0)
	if err := lan.Isolate(); err != nil {
		log.Fatalln("cluster:", err)
	}
	failed, err := run(o)
	if err != nil {
		log.Fatalln("cluster:", err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// result is one row of out/cluster.json.
type result struct {
	Case            string  `json:"case"`
	Seconds         float64 `json:"seconds"`
	Sent            int     `json:"sent"`
	Executed        int     `json:"executed"`
	Duplicates      int     `json:"duplicates"`
	Lost            int     `json:"lost"`
	OrderViolations int     `json:"order_violations"`
	Takeovers       int     `json:"takeovers"`
	TakeoverP50     float64 `json:"takeover_p50_ms"`
	TakeoverP99     float64 `json:"takeover_p99_ms"`
	Kicks           int     `json:"kicks"`
	OK              bool    `json:"ok"`

	Figures map[string]float64 `json:"figures,omitempty"` // what only this case measures
	Note    string             `json:"note,omitempty"`
}

// workshop is what all cases share.
type workshop struct {
	options
	ctx    context.Context //nolint:containedctx // ends everything; a run is one call
	dir    string
	guests map[string]string // file of each module
}

func run(o options) (failed int, err error) {
	want, err := regexp.Compile(o.only)
	if err != nil {
		return 0, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := &workshop{options: o, ctx: ctx, guests: map[string]string{}}
	if w.dir, err = os.MkdirTemp("", "mayfly-hosts-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(w.dir)
	if w.bin, err = filepath.Abs(o.bin); err != nil {
		return 0, err
	}
	if w.keep == "" {
		w.keep = filepath.Join(filepath.Dir(o.out), "cluster-failed")
	}
	rows := []result{}
	for _, c := range cases() {
		if !want.MatchString(c.name) || c.long && o.short || ctx.Err() != nil {
			continue
		}
		r := w.one(c)
		rows = append(rows, r)
		if !r.OK {
			failed++
		}
	}
	fmt.Printf("\n%d cases, %d failed; the figures are in %s\n", len(rows), failed, o.out)
	return failed, figures.Write(o.out, rows)
}

// ordeal is one case.
type ordeal struct {
	name string
	what string
	long bool // not part of the short form
	run  func(*trial) error
}

// one runs a case in a site of its own and prints what came of it.
func (w *workshop) one(c ordeal) result {
	began := time.Now()
	t := newTrial(w, c.name)
	fmt.Printf("%-18s %s\n", c.name, c.what)
	err := os.MkdirAll(t.dir, 0o755)
	if err == nil {
		err = c.run(t)
	}
	t.close()
	r := t.result(err)
	r.Seconds = float64(time.Since(began).Milliseconds()) / 1000
	verdict := "ok"
	if !r.OK {
		verdict = "FAILED"
	}
	fmt.Printf("  %-6s %6.1f s  sent %d  executed %d  duplicates %d  lost %d  order %d  takeovers %d p50 %.0f p99 %.0f ms  kicks %d\n",
		verdict, r.Seconds, r.Sent, r.Executed, r.Duplicates, r.Lost, r.OrderViolations, r.Takeovers, r.TakeoverP50, r.TakeoverP99, r.Kicks)
	for _, n := range t.notes {
		fmt.Printf("         %s\n", n)
	}
	if !r.OK {
		again := fmt.Sprintf("SHORT=%s go run ./test/cluster -only '^%s$' -seed %d", os.Getenv("SHORT"), c.name, w.seed)
		fmt.Printf("         again: make build && %s\n", strings.TrimPrefix(again, "SHORT= "))
	}
	if !r.OK || w.debug {
		w.save(t)
	}
	_ = os.RemoveAll(t.dir) // below w.dir, which goes too
	return r
}

// save keeps what a failed case leaves behind.
func (w *workshop) save(t *trial) {
	to := filepath.Join(w.keep, t.name)
	err := os.RemoveAll(to)
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	files, _ := filepath.Glob(filepath.Join(t.dir, "*.log"))
	for _, name := range files {
		text, readErr := os.ReadFile(name)
		if err == nil && readErr == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(name)), text, 0o644)
		}
	}
	if err == nil {
		fmt.Printf("         the logs are in %s\n", to)
	}
}
