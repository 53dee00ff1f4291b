package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// invariantsFile is where promises are numbered.
const invariantsFile = "docs/INVARIANTS.md"

const (
	ruleCited Rule = "A number in brackets is that of an invariant in docs/INVARIANTS.md."
	ruleTest  Rule = "A document names tests that exist: what it says is attacked would otherwise be believed."
)

// citations checks that the invariants cited anywhere exist, and that the tests documents name exist.
func citations(t *Tree) []Finding {
	text, err := os.ReadFile(filepath.Join(t.Root, invariantsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []Finding{{invariantsFile, err.Error(), ruleCited}}
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\*\*\[([A-Z]\d+)\] `).FindAllSubmatch(text, -1) {
		known[string(m[1])] = true
	}
	tests := t.tests()
	cited := regexp.MustCompile(`\[([A-Z]\d+)\]|promise ([A-Z]\d+)`)
	named := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")
	var found []Finding
	texts(t.Root, func(name string, line int, l []byte) {
		where := fmt.Sprintf("%s:%d", name, line)
		for _, m := range cited.FindAllSubmatch(l, -1) {
			if id := string(m[1]) + string(m[2]); !known[id] {
				found = append(found, Finding{where, "cites " + id, ruleCited})
			}
		}
		if filepath.Ext(name) != ".md" {
			return
		}
		for _, m := range named.FindAllSubmatch(l, -1) {
			if !tests[string(m[1])] {
				found = append(found, Finding{where, "names " + string(m[1]), ruleTest})
			}
		}
	})
	return found
}

// tests are the names of all test functions.
func (t *Tree) tests() map[string]bool {
	all := map[string]bool{}
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, d := range f.AST.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && f.Test && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
					all[fn.Name.Name] = true
				}
			}
		}
	}
	return all
}
