package main

import (
	"errors"
	"os/exec"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

func configCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Show the agent's configuration, check a file",
		Long:    "What the agent was told, and by whom; and whether a configuration file is right before it is used.",
		Example: "  mayfly config show --origin\n  mayfly config check /etc/mayfly/mayfly.toml",
	}
	cmd.AddCommand(configShow(a), configCheck(a))
	return cmd
}

func configShow(a *app) *cobra.Command {
	origin := false
	cmd := &cobra.Command{
		Use: "show", Short: "Show the effective configuration", Args: arguments(),
		Long:    "Show every setting of the running agent as it is in effect, secrets hidden; with --origin also who set it and where.",
		Example: "  mayfly config show --origin",
	}
	cmd.Flags().BoolVar(&origin, "origin", false, "also show where each setting comes from")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := a.client.Settings(cmd.Context())
		if err != nil {
			return err
		}
		return list(a, *out, settingView(origin), settings)
	}
	return cmd
}

func settingView(origin bool) view[admin.Setting] {
	return view[admin.Setting]{
		name:  func(s admin.Setting) string { return s.Key },
		empty: "the agent has no settings",
		columns: []column[admin.Setting]{
			{head: "KEY", cell: func(s admin.Setting) string { return s.Key }},
			{head: "VALUE", cell: func(s admin.Setting) string { return s.Value }},
			{head: "ORIGIN", wide: !origin, cell: func(s admin.Setting) string { return s.Origin }},
			{head: "WHERE", wide: !origin, cell: func(s admin.Setting) string { return orElse(s.Where, "-") }},
		},
	}
}

func configCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "Check configuration files", Args: arguments("FILE..."),
		Long: `Check configuration files of an agent with the mayflyd of this machine, without starting it. Faults are printed with
file, line and column. Exit code 2 if there is one.`,
		Example: "  mayfly config check /etc/mayfly/mayfly.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.mayflyd()
			if err != nil {
				return err
			}
			for _, file := range args {
				check := exec.CommandContext(cmd.Context(), path, "config", "check", file)
				check.Stdout, check.Stderr = a.Stderr, a.Stderr
				err := check.Run()
				if _, ran := errors.AsType[*exec.ExitError](err); ran {
					return exitError{exitUsage} // the faults are printed
				}
				if err != nil {
					return &usageError{text: err.Error(), hint: "set MAYFLYD to the path of mayflyd"}
				}
				a.note("%s is right", file)
			}
			return nil
		},
	}
}
