package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mayfly/function"
)

func buildCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build a function's module",
		Long: `Run the command of [build] in a function's folder (default: this one) with the shell, and check that the module is
there afterwards. The output of the command goes to standard error.`,
		Example: "  mayfly build examples/convert && mayfly deploy examples/convert",
		Args:    arguments("[DIR]"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.build(cmd.Context(), argOr(args, ".")) },
	}
}

func (a *app) build(ctx context.Context, arg string) error {
	p, err := openProject(arg)
	if err != nil {
		return err
	}
	command := p.manifest.Build.Command
	if command == "" {
		return &usageError{text: p.file + " has no [build] command", hint: "add one, for example: [build] command = \"make\""}
	}
	a.note("%s: %s", p.manifest.Name, escape(command))
	began := a.Now()
	sh := exec.CommandContext(ctx, "sh", "-c", command)
	sh.Dir, sh.Stdout, sh.Stderr = p.dir, a.Stderr, a.Stderr
	sh.WaitDelay = 5 * time.Second
	if err := sh.Run(); err != nil {
		return &function.Error{
			Op: "build", Subject: p.manifest.Name, Class: function.ClassReject, Kind: "build", Err: err,
			Hint: fmt.Sprintf("its output is above; by hand: cd %s && %s", p.dir, command),
		}
	}
	path := p.manifest.Module.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.dir, path)
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return &function.Error{
			Op: "build", Subject: p.manifest.Name, Class: function.ClassReject, Kind: "build",
			Err: fmt.Errorf("the command succeeded, but %s is not there", path), Hint: "compare module.path in " + p.file + " with what the command writes",
		}
	}
	if err != nil {
		return err
	}
	a.note("%s, %s, in %s", path, size(info.Size()), micros(a.Now().Sub(began).Microseconds()))
	return nil
}
