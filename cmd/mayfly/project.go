package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mayfly/function"
)

// project is a function's folder: its manifest and where its module is.
type project struct {
	file     string // of the manifest, as a person would name it
	dir      string
	text     []byte
	manifest function.Manifest
}

const manifestName = "function.toml"

// openProject reads the manifest that arg names: a file, or a folder that holds function.toml.
func openProject(arg string) (project, error) {
	p := project{file: arg}
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		p.file = filepath.Join(arg, manifestName)
	}
	p.dir = filepath.Dir(p.file)
	text, err := os.ReadFile(p.file)
	if errors.Is(err, os.ErrNotExist) {
		return p, &usageError{text: fmt.Sprintf("there is no manifest %s", p.file), hint: "name the folder of a function, or its " + manifestName}
	}
	if err != nil {
		return p, &usageError{text: err.Error()}
	}
	p.text = text
	p.manifest, err = function.ParseManifest(p.file, text)
	if err != nil {
		return p, &usageError{text: err.Error(), hint: "correct it, then: mayfly test " + p.dir} // file:line:col, as the parser says it
	}
	return p, nil
}

// module reads the module the manifest names.
func (p *project) module() ([]byte, error) {
	path := p.manifest.Module.Path
	if path == "" {
		return nil, &usageError{text: p.file + ": the module is in a registry", hint: "mayfly deploy fetches it from there"}
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.dir, path)
	}
	module, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		e := &usageError{text: fmt.Sprintf("the module %s is not there", path), hint: "build it first"}
		if p.manifest.Build.Command != "" {
			e.hint = "mayfly build " + p.dir
		}
		return nil, e
	}
	if err != nil {
		return nil, &usageError{text: err.Error()}
	}
	return module, nil
}

// argOr returns the first argument, or what it is without one.
func argOr(args []string, without string) string {
	if len(args) == 0 {
		return without
	}
	return args[0]
}
