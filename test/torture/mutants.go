package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is a promise broken on purpose: one place of the agent's sources changed while it is built, the tree itself untouched.
type mutant struct {
	name, file, old, new string
	caught               string // the case that must notice
}

func mutants() []mutant {
	return []mutant{
		{
			"acknowledge-before-commit", "agent/dispatch/commit.go",
			"	crashpoint.Here(crashpoint.Ran)\n", "	d.over(t, triggers.Settlement{})\n	crashpoint.Here(crashpoint.Ran)\n", "kill-agent",
		},
		{
			"drop-the-done-mark", "agent/dispatch/state.go",
			"	key, value := d.mark(f, t)\n	if key == nil {\n", "	key, value := d.mark(f, t)\n	if true || key == nil {\n", "kill-agent",
		},
		{
			"skip-the-sync", "store/database.go",
			"unix.Fdatasync(int(f.Fd()))", "unix.Access(f.Name(), 0)", "power-cut",
		},
	}
}

// mutantCases are the cases that must notice, each with its mutant: one that does not fail is the failure.
func mutantCases() []torment {
	byName := map[string]torment{}
	for _, c := range cases() {
		byName[c.name] = c
	}
	var all []torment
	for _, m := range mutants() {
		c := byName[m.caught]
		all = append(all, torment{m.name, "must be caught by " + m.caught, c.long, func(t *trial) error {
			flags, err := t.overlay(m)
			if err != nil {
				return err
			}
			t.mutated, t.mutantFlags = m.name, flags
			return c.run(t)
		}})
	}
	return all
}

// overlay writes the changed source and says how to build with it.
func (t *trial) overlay(m mutant) ([]string, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	source := filepath.Join(root, m.file)
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("mutant %s: its place occurs %d times in %s: bring the mutant up to date", m.name, n, m.file)
	}
	changed := filepath.Join(t.dir, filepath.Base(m.file))
	list := filepath.Join(t.dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err == nil {
		err = errors.Join(os.WriteFile(changed, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o644),
			os.WriteFile(list, replace, 0o644))
	}
	return []string{"-overlay", list}, err
}
