package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mayfly/function"
	"mayfly/internal/nearest"
)

//go:embed scaffold/templates.txtar
var templates string

// sdkFiles are the files of the SDKs that a new function gets a copy of, as in the folder sdk.
//
//go:embed scaffold/sdk.txtar
var sdkFiles string

// languages that mayfly new knows, with the folder of each one's SDK.
func languages() []string { return []string{"c", "rust", "go", "as", "command"} }

func sdkOf(language string) string {
	switch language {
	case "as":
		return "assemblyscript"
	case "command":
		return "c"
	}
	return language
}

// written is what mayfly new made.
type written struct {
	Function string   `json:"function"`
	Language string   `json:"language"`
	Dir      string   `json:"dir"`
	Files    []string `json:"files"`
}

func newCommand(a *app) *cobra.Command {
	language := "c"
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Start a function",
		Long: `Make the folder of a new function that builds, passes its tests and can be deployed as it is, with a copy of the SDK.
NAME may be a path; its last part is the function's name.

Languages: c, rust, go, as (AssemblyScript), command (any program with main that reads standard input; here in C).`,
		Example: "  mayfly new hello --lang rust\n  cd hello && mayfly build && mayfly test && mayfly deploy",
		Args:    arguments("NAME"),
	}
	cmd.Flags().StringVarP(&language, "lang", "l", "c", strings.Join(languages(), "|"))
	_ = cmd.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions(languages(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	out := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		w, err := scaffold(args[0], language)
		if err != nil {
			return err
		}
		a.note("next: cd %s && mayfly build && mayfly test && mayfly deploy", escape(w.Dir))
		return one(a, *out, view[written]{
			name: func(w written) string { return w.Function },
			detail: func(out io.Writer, w written, _ bool) {
				for _, f := range w.Files {
					fmt.Fprintln(out, escape(filepath.Join(w.Dir, f)))
				}
			},
		}, w)
	}
	return cmd
}

// scaffold writes the folder of a new function. It makes all files or none: the folder appears whole, under its name.
func scaffold(dir, language string) (written, error) {
	name := filepath.Base(filepath.Clean(dir))
	w := written{Function: name, Language: language, Dir: dir, Files: []string{}}
	if !slices.Contains(languages(), language) {
		e := &usageError{text: fmt.Sprintf("--lang %q: want one of %s", language, strings.Join(languages(), ", ")), hint: "mayfly new --help"}
		if guess := nearest.To(language, languages()); guess != "" {
			e.hint = "mayfly new " + dir + " --lang " + guess
		}
		return w, e
	}
	files, manifest := filesOf(name, language)
	if _, err := function.ParseManifest(manifestName, []byte(manifest)); err != nil {
		return w, &usageError{text: fmt.Sprintf("%q cannot be a function's name: letters a-z, digits and -, at most 63, a letter first", name), hint: "mayfly new my-function"}
	}
	if _, err := os.Lstat(dir); err == nil {
		return w, &usageError{text: dir + " is there already", hint: "choose another name, or remove it"}
	}
	for _, f := range files {
		w.Files = append(w.Files, f.name)
	}
	return w, writeFolder(dir, files)
}

// writeFolder makes dir and what is in it, by way of a folder beside it.
func writeFolder(dir string, files []file) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err != nil {
		return &usageError{text: err.Error()}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".mayfly-new-")
	if err != nil {
		return &usageError{text: err.Error()}
	}
	for _, f := range files {
		path, mode := filepath.Join(tmp, f.name), os.FileMode(0o644)
		if strings.HasSuffix(f.name, ".sh") {
			mode = 0o755
		}
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f.text), mode))
	}
	if err == nil {
		err = errors.Join(os.Chmod(tmp, 0o755), os.Rename(tmp, dir))
	}
	if err != nil {
		return &usageError{text: errors.Join(err, os.RemoveAll(tmp)).Error()}
	}
	return nil
}

// file is one file of an archive.
type file struct{ name, text string }

// filesOf returns the files of a function in a language, its manifest first, and the manifest.
func filesOf(name, language string) (files []file, manifest string) {
	fill := strings.NewReplacer("__NAME__", name)
	module := ""
	for _, f := range unpack(templates) {
		rest, mine := strings.CutPrefix(f.name, language+"/")
		switch {
		case f.name == manifestName:
			manifest = f.text
		case rest == "module" && mine:
			module = f.text
		case mine:
			files = append(files, file{fill.Replace(rest), fill.Replace(f.text)})
		}
	}
	manifest = fill.Replace(strings.Replace(manifest, "__MODULE__\n", module, 1))
	for _, f := range unpack(sdkFiles) {
		if rest, ok := strings.CutPrefix(f.name, sdkOf(language)+"/"); ok {
			files = append(files, file{"sdk/" + rest, f.text})
		}
	}
	return append([]file{{manifestName, manifest}}, files...), manifest
}

// unpack returns the files of a text archive: each begins with a line "-- NAME --"; what is before the first is a comment.
func unpack(archive string) []file {
	var files []file
	for line := range strings.Lines(archive) {
		name, ok := strings.CutPrefix(line, "-- ")
		name, end := strings.CutSuffix(name, " --\n")
		switch {
		case ok && end:
			files = append(files, file{name: name})
		case len(files) > 0:
			files[len(files)-1].text += line
		}
	}
	return files
}
