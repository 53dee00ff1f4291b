package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

// trial is the result of one [[test]].
type trial struct {
	Function string    `json:"function"`
	Test     string    `json:"test"`
	Where    string    `json:"where"` // file:line
	OK       bool      `json:"ok"`
	Faults   []string  `json:"faults"`
	Ran      admin.Ran `json:"ran"`
}

func testCommand(a *app) *cobra.Command {
	var set []string
	alone := false
	cmd := &cobra.Command{
		Use:   "test [DIR...]",
		Short: "Run the tests of a manifest, without a broker",
		Long: `Run every [[test]] of a function's manifest (default: the one in this folder) and compare what the function does with
what the test expects. Nothing is published or stored, and every test starts with an empty state.

A running agent lends its sandbox; where none answers, mayflyd is started for the time of the tests: the one MAYFLYD
names, the one beside mayfly, or the one in PATH. Exit code 6 if a test fails.

An event must end well (done) unless the test names an outcome or an error; other parts that are not named
are not checked.`,
		Example: "  mayfly test examples/overheat\n  mayfly test examples/* -o json",
		Args:    arguments("[DIR...]"),
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "replace a value of [config]: KEY=VALUE (repeatable)")
	cmd.Flags().BoolVar(&alone, "alone", false, "start mayflyd even if an agent is running")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"."}
		}
		values, err := settings(set)
		if err != nil {
			return err
		}
		return a.test(cmd.Context(), args, values, alone, *out)
	}
	return cmd
}

func (a *app) test(ctx context.Context, dirs []string, set map[string]string, alone bool, out format) error {
	client, stop, err := a.sandbox(ctx, alone)
	if err != nil {
		return err
	}
	defer stop()
	var trials []trial
	for _, dir := range dirs {
		some, err := a.trials(ctx, client, dir, set)
		if err != nil {
			return err
		}
		trials = append(trials, some...)
	}
	if err := a.showTrials(trials, out); err != nil {
		return err
	}
	failed := 0
	for _, t := range trials {
		if !t.OK {
			failed++
		}
	}
	if failed > 0 {
		a.note("%d of %s failed", failed, plural(int64(len(trials)), "test"))
		return exitError{exitFunction}
	}
	a.note("%s passed", plural(int64(len(trials)), "test"))
	return nil
}

// sandbox returns a client of an agent that does dry runs: the one that is running, or one of our own.
func (a *app) sandbox(ctx context.Context, alone bool) (*admin.Client, func(), error) {
	if !alone {
		_, err := a.client.Status(ctx)
		switch function.KindOf(err) {
		case admin.KindNotRunning, admin.KindDenied:
		default:
			return a.client, func() {}, nil // it answers; if it is not well, its answer to the dry run says how
		}
	}
	return a.trialAgent(ctx)
}

func (a *app) trials(ctx context.Context, client *admin.Client, dir string, set map[string]string) ([]trial, error) {
	p, err := openProject(dir)
	if err != nil {
		return nil, err
	}
	if len(p.manifest.Tests) == 0 {
		a.note("%s has no [[test]]", p.file)
		return nil, nil
	}
	module, err := p.module()
	if err != nil {
		return nil, err
	}
	req := admin.DryRunRequest{DeployRequest: admin.DeployRequest{File: p.file, Manifest: string(p.text), Set: set, DryRun: true}}
	for _, t := range p.manifest.Tests {
		ev := admin.InvokeRequest{Topic: t.Topic, Body: admin.NewBody(t.Payload)}
		for _, at := range t.Attrs {
			ev.Attrs = append(ev.Attrs, admin.Attr(at))
		}
		req.Events = append(req.Events, ev)
	}
	runs, err := client.DryRun(ctx, req, module)
	if err != nil {
		return nil, err
	}
	if len(runs) != len(req.Events) {
		return nil, &function.Error{
			Op: "test", Subject: p.manifest.Name, Class: function.ClassReject, Kind: "protocol",
			Err: fmt.Errorf("the agent ran %d of %d events", len(runs), len(req.Events)), Hint: "compare mayfly version with mayflyd version",
		}
	}
	var out []trial
	for i, t := range p.manifest.Tests {
		found := faults(t.Expect, runs[i])
		if found == nil {
			found = []string{}
		}
		out = append(out, trial{
			Function: p.manifest.Name, Test: t.Name, Where: fmt.Sprintf("%s:%d", p.file, t.Line),
			OK: len(found) == 0, Faults: found, Ran: runs[i],
		})
	}
	return out, nil
}

func (a *app) showTrials(trials []trial, out format) error {
	if out != "table" && out != "wide" {
		return list(a, out, view[trial]{name: func(t trial) string { return t.Test }}, trials)
	}
	for _, t := range trials {
		word := "ok"
		if !t.OK {
			word = "FAIL"
		}
		fmt.Fprintf(a.Stdout, "%s%s  %s: %s (%s)\n", a.paint(word), "    "[min(len(word), 4):], escape(t.Function), escape(t.Test), micros(t.Ran.Usage.WallUS))
		if !t.OK {
			a.trialDetail(a.Stdout, t)
		} else if out == "wide" {
			showLog(a.Stdout, t.Ran.Log)
		}
	}
	return nil
}

// trialDetail says where the test stands, what is wrong and what the function logged.
func (a *app) trialDetail(w io.Writer, t trial) {
	fmt.Fprintf(w, "      %s\n", escape(t.Where))
	for _, f := range t.Faults {
		fmt.Fprintf(w, "      %s\n", escape(f))
	}
	showLog(w, t.Ran.Log)
}

func showLog(w io.Writer, lines []admin.LogLine) {
	for _, l := range lines {
		fmt.Fprintf(w, "      log %-5s  %s\n", escape(l.Level), escape(l.Text))
	}
}
