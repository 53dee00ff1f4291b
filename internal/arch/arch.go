// Package arch holds the shape of the project as data and compares the sources with it: who may import whom, how large
// things may grow, and what must not be written at all.
//
// The rules run as this package's tests. A finding names the place, what is wrong and the sentence that forbids it. What
// cannot be avoided is listed in Allowed with its reason.
package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Finding is one place where the sources break a rule.
type Finding struct {
	Where string // file:line below the root, or a package
	What  string // what is there, without the position: an allowance refers to Where's file and the rule
	Rule  Rule
}

func (f Finding) String() string { return f.Where + ": " + f.What + "\n\t" + string(f.Rule) }

// Rule is the sentence that forbids something.
type Rule string

// Package is one package of the tree as `go list` reports it, with its files parsed.
type Package struct {
	ImportPath, Dir, Name              string
	GoFiles, CgoFiles, IgnoredGoFiles  []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
	Module                             *struct{ Path, Dir string }
	Path                               string // below the module, "." for its root
	Files                              []File // all of them, whatever the platform
}

// File is one Go source file.
type File struct {
	Name string // below the module's root
	Test bool
	AST  *ast.File
	Size int // lines
}

// Tree is all packages of a module.
type Tree struct {
	Root     string // directory of the module
	Module   string
	Fset     *token.FileSet
	Packages []*Package
}

// Load reads the module that dir is in.
func Load(ctx context.Context, dir string) (*Tree, error) {
	root, err := list(ctx, dir, "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	out, err := list(ctx, strings.TrimSpace(string(root)), "-e", "-json", "./...")
	if err != nil {
		return nil, err
	}
	t := &Tree{Fset: token.NewFileSet()}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(Package)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return t, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Module == nil {
			return nil, fmt.Errorf("package %s belongs to no module", p.ImportPath)
		}
		t.Root, t.Module = p.Module.Dir, p.Module.Path
		if err := t.parse(p); err != nil {
			return nil, err
		}
		t.Packages = append(t.Packages, p)
	}
}

// list runs go list in a directory.
func list(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Dir = dir
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, complaint.String())
	}
	return out, nil
}

// parse fills in what go list does not say.
func (t *Tree) parse(p *Package) error {
	p.Path = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, t.Module), "/")
	if p.Path == "" {
		p.Path = "."
	}
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		file, err := parser.ParseFile(t.Fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, File{
			Name: filepath.Join(p.Path, name),
			Test: strings.HasSuffix(name, "_test.go"),
			AST:  file,
			Size: t.Fset.File(file.FileStart).LineCount(),
		})
	}
	return nil
}

// at is the position of n below the root.
func (t *Tree) at(n ast.Node) string {
	p := t.Fset.Position(n.Pos())
	name, err := filepath.Rel(t.Root, p.Filename)
	if err != nil {
		name = p.Filename
	}
	return fmt.Sprintf("%s:%d", name, p.Line)
}

// Check applies all rules and returns what is left after the allowances, in order of place. An allowance that excuses nothing is a
// finding too: it would hide the next one.
func Check(t *Tree, table Table, allowed []Allowance) []Finding {
	var found []Finding
	for _, rule := range []func(*Tree) []Finding{table.check, sizes, globals, words, files, citations} {
		found = append(found, rule(t)...)
	}
	used := make([]bool, len(allowed))
	found = slices.DeleteFunc(found, func(f Finding) bool {
		i := slices.IndexFunc(allowed, func(a Allowance) bool { return a.covers(f) })
		if i >= 0 {
			used[i] = true
		}
		return i >= 0
	})
	for i, a := range allowed {
		if !used[i] {
			found = append(found, Finding{a.Where, "an allowance that excuses nothing: " + a.Reason, ruleAllowance})
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(a.Where, b.Where) })
	return found
}

const ruleAllowance Rule = "Remove it: it would hide the next finding."

// Allowance excuses findings of one rule in one file or package, with the reason why it cannot be avoided.
type Allowance struct {
	Where  string // a file, or a package
	What   string // part of the finding's What; "" = any
	Rule   Rule
	Reason string
}

func (a Allowance) covers(f Finding) bool {
	where, _, _ := strings.Cut(f.Where, ":")
	return a.Rule == f.Rule && a.Where == where && strings.Contains(f.What, a.What) && f.Rule != ruleHard
}
