package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"mayfly/admin"
	"mayfly/agent"
	"mayfly/function"
	"mayfly/internal/settings"
)

const systemConfig = "/etc/mayfly/mayfly.toml"

// load reads the configuration in all its layers.
func load(file string, optional bool, environ []string) (agent.Config, *settings.Origins, error) {
	var c agent.Config
	origins, err := settings.Load(&c, settings.Sources{
		File: file, Optional: optional, Dir: filepath.Join(filepath.Dir(file), "conf.d"),
		Environ: environ, Prefix: "MAYFLY_", Ignore: []string{"MAYFLY_SOCKET"},
	})
	return c, origins, err
}

// configFlag parses the one flag that run and check have.
func configFlag(verb string, args []string) (file string, optional bool, err error) {
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&file, "config", "", "")
	if err := flags.Parse(args); err != nil {
		return "", false, &usageError{verb + ": " + err.Error()}
	}
	switch {
	case file == "" && flags.NArg() == 1:
		file = flags.Arg(0)
	case flags.NArg() > 0:
		return "", false, &usageError{fmt.Sprintf("%s: unexpected %q", verb, flags.Arg(0))}
	case file == "":
		return systemConfig, true, nil
	}
	return file, false, nil
}

func check(args, environ []string, stdout io.Writer) error {
	if args[0] == "config" {
		args = args[1:]
	}
	file, optional, err := configFlag("check", args[1:])
	if err != nil {
		return err
	}
	if _, _, err := load(file, optional, environ); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: ok\n", file)
	return nil
}

//go:generate sh -c "go run . config sample > ../../configs/mayfly.toml"

// sample is the configuration file that ships with the agent, configs/mayfly.toml.
func sample() []byte {
	return settings.Sample("Configuration of mayflyd, the Mayfly agent. Reload with: systemctl reload mayflyd", &agent.Config{})
}

// shown is the configuration as operators see it.
func shown(c *agent.Config, origins *settings.Origins) []admin.Setting {
	var all []admin.Setting
	for _, e := range origins.List(c) {
		all = append(all, admin.Setting{Key: e.Path, Value: e.Value, Origin: string(e.Origin.Layer), Where: e.Origin.Where})
	}
	return all
}

// hints returns what the errors in err advise to do.
func hints(err error) []string {
	var all []string
	var walk func(error)
	walk = func(err error) {
		if e, ok := err.(*function.Error); ok && e.Hint != "" { //nolint:errorlint // the walk unwraps: every error in the tree, not the first
			all = append(all, strings.TrimSpace(e.Hint))
		}
		switch e := err.(type) { //nolint:errorlint // this is the unwrapping
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return all
}
