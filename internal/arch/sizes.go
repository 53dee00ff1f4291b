package arch

import (
	"fmt"
	"go/ast"
	"strings"
)

// Budgets. A body's lines are those between its braces.
const (
	maxBody     = 60
	maxTestBody = 100 // a table of cases may be long
	maxFile     = 400
	hardFile    = 600
	maxParams   = 5
	maxMethods  = 5
)

const (
	ruleBody    Rule = "A function has at most 60 lines, in tests 100: what is longer does several things that have names."
	ruleFile    Rule = "A file has at most 400 lines."
	ruleHard    Rule = "No file has more than 600 lines, and no allowance changes that."
	ruleParams  Rule = "A function has at most 5 parameters: more of them are a struct with a name."
	ruleMethods Rule = "An interface has at most 5 methods: the consumer declares what it needs."
	ruleInit    Rule = "No init: nothing happens because a package was imported."
	ruleComment Rule = "Every package says in a comment what it is."
)

// sizes checks the budgets, that there is no init, and that every package has a comment.
func sizes(t *Tree) []Finding {
	var found []Finding
	for _, p := range t.Packages {
		commented := false
		for _, f := range p.Files {
			commented = commented || f.AST.Doc != nil
			switch {
			case f.Size > hardFile:
				found = append(found, Finding{f.Name, fmt.Sprintf("%d lines", f.Size), ruleHard})
			case f.Size > maxFile && !f.Test:
				found = append(found, Finding{f.Name, fmt.Sprintf("%d lines", f.Size), ruleFile})
			}
			ast.Inspect(f.AST, func(n ast.Node) bool {
				found = append(found, t.size(n, f.Test)...)
				return true
			})
		}
		if !commented && len(p.Files) > 0 {
			found = append(found, Finding{p.Path, "no package comment", ruleComment})
		}
	}
	return found
}

// size checks one node.
func (t *Tree) size(n ast.Node, test bool) []Finding {
	var found []Finding
	complain := func(rule Rule, format string, args ...any) {
		found = append(found, Finding{t.at(n), fmt.Sprintf(format, args...), rule})
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Name.Name == "init" && n.Recv == nil {
			complain(ruleInit, "func init")
		}
		limit := maxBody
		if test {
			limit = maxTestBody
		}
		if lines := t.lines(n.Body); lines > limit {
			complain(ruleBody, "func %s has %d lines", n.Name.Name, lines)
		}
		if k := n.Type.Params.NumFields(); k > maxParams {
			complain(ruleParams, "func %s has %d parameters", n.Name.Name, k)
		}
	case *ast.FuncLit:
		if k := n.Type.Params.NumFields(); k > maxParams {
			complain(ruleParams, "a function literal has %d parameters", k)
		}
	case *ast.InterfaceType:
		if k := methods(n); k > maxMethods {
			complain(ruleMethods, "an interface has %d methods", k)
		}
	}
	return found
}

// lines are those between the braces of a body.
func (t *Tree) lines(b *ast.BlockStmt) int {
	if b == nil {
		return 0
	}
	return t.Fset.Position(b.Rbrace).Line - t.Fset.Position(b.Lbrace).Line - 1
}

// methods counts the methods an interface lists. An embedded one counts as one: five interfaces in one are no small
// interface either.
func methods(i *ast.InterfaceType) int {
	n := 0
	for _, field := range i.Methods.List {
		if _, union := field.Type.(*ast.BinaryExpr); !union {
			n += max(len(field.Names), 1)
		}
	}
	return n
}

const (
	ruleSleep  Rule = "A test does not sleep: it waits for what it needs with a deadline, or lives in a testing/synctest bubble."
	ruleNolint Rule = "A suppression names its linter and its reason: //nolint:name // reason."
	ruleImport Rule = "Use log/slog with the logger that was passed in, math/rand/v2, and errors with %w; plain testing."
)

// words checks what a Go file says: suppressions, sleeping tests and imports from another time.
func words(t *Tree) []Finding {
	var found []Finding
	for _, p := range t.Packages {
		for _, f := range p.Files {
			bubble := false
			for _, i := range f.AST.Imports {
				switch path := strings.Trim(i.Path.Value, `"`); path {
				case "testing/synctest":
					bubble = true
				case "log":
					if !strings.HasPrefix(p.Path, "test/") { // small programs that only report their own failure
						found = append(found, Finding{t.at(i), "imports " + path, ruleImport})
					}
				case "math/rand", "github.com/pkg/errors", "github.com/stretchr/testify":
					found = append(found, Finding{t.at(i), "imports " + path, ruleImport})
				}
			}
			for _, group := range f.AST.Comments {
				for _, c := range group.List {
					if badSuppression(c.Text) {
						found = append(found, Finding{t.at(c), c.Text, ruleNolint})
					}
				}
			}
			if f.Test && !bubble {
				found = append(found, t.sleeps(f.AST)...)
			}
		}
	}
	return found
}

// badSuppression says whether a comment silences a linter without naming it or without a reason.
func badSuppression(comment string) bool {
	rest, ok := strings.CutPrefix(comment, "//nolint")
	if !ok {
		return false
	}
	names, reason, ok := strings.Cut(rest, " // ")
	return !ok || !strings.HasPrefix(names, ":") || len(names) < 2 || strings.TrimSpace(reason) == ""
}

// sleeps finds calls of time.Sleep.
func (t *Tree) sleeps(file *ast.File) []Finding {
	var found []Finding
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
				found = append(found, Finding{t.at(n), "time.Sleep", ruleSleep})
			}
		}
		return true
	})
	return found
}
