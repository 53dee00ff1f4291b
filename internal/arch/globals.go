package arch

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

const ruleGlobal Rule = "No mutable package variables: state belongs to a value that somebody made. Errors and tables that nobody changes are fine."

// globals finds package variables that change, or that could.
//
// A variable may stay when it is `_` (an assertion), or when its type and first value hold no lock, no atomic, no channel and no
// function, and nothing in the package, tests included, assigns to it or to a part of it, takes its address or calls a
// pointer method on it. A table built by a call is fine on the same terms.
func globals(t *Tree) []Finding {
	var found []Finding
	for _, p := range t.Packages {
		found = append(found, t.packageGlobals(p)...)
	}
	return found
}

func (t *Tree) packageGlobals(p *Package) []Finding {
	info := t.resolve(p)
	changed := changes(p, info)
	var found []Finding
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		for _, d := range f.AST.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				for _, name := range spec.Names {
					if why := mutable(name, spec, info, changed); why != "" && !embedded(g, spec) {
						found = append(found, Finding{t.at(name), "var " + name.Name + " " + why, ruleGlobal})
					}
				}
			}
		}
	}
	return found
}

// embedded says whether a variable is filled by go:embed.
func embedded(g *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, spec.Doc} {
		if doc != nil {
			for _, c := range doc.List {
				if strings.HasPrefix(c.Text, "//go:embed ") {
					return true
				}
			}
		}
	}
	return false
}

// resolve finds out which package variable an identifier means. Imported packages are not read, so the types of much else
// stay unknown; that is enough here, and quick.
func (t *Tree) resolve(p *Package) *types.Info {
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	var files []*ast.File
	for _, f := range p.Files {
		if f.AST.Name.Name == p.Name {
			files = append(files, f.AST)
		}
	}
	config := types.Config{Importer: unread{}, Error: func(error) {}, FakeImportC: true, DisableUnusedImportCheck: true}
	_, _ = config.Check(p.ImportPath, t.Fset, files, info) // incomplete on purpose: see above
	return info
}

type unread struct{}

func (unread) Import(string) (*types.Package, error) { return nil, errors.New("not read") }

// changes are the package variables of p that something changes.
func changes(p *Package, info *types.Info) map[types.Object]string {
	changed := map[types.Object]string{}
	mark := func(e ast.Expr, how string) {
		if v, ok := info.Uses[root(e)].(*types.Var); ok && v.Parent() == v.Pkg().Scope() {
			changed[v] = how
		}
	}
	for _, f := range p.Files {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, l := range n.Lhs {
						mark(l, "is assigned to")
					}
				}
			case *ast.IncDecStmt:
				mark(n.X, "is assigned to")
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					mark(n.Key, "is assigned to")
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND && !element(n.X) {
					mark(n.X, "has its address taken")
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear" || id.Name == "copy") && len(n.Args) > 0 {
					mark(n.Args[0], "is changed by "+id.Name)
				}
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && pointerMethod(info.Selections[s]) {
					mark(s.X, "has a method called that may change it")
				}
			}
			return true
		})
	}
	return changed
}

// element says whether e is an element of a table: its address is how one looks at a row without copying it.
func element(e ast.Expr) bool {
	_, ok := ast.Unparen(e).(*ast.IndexExpr)
	return ok
}

// root is the identifier an expression starts with: x of x.a[i].
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// pointerMethod says whether a selection is a method with a pointer receiver.
func pointerMethod(s *types.Selection) bool {
	if s == nil || s.Kind() != types.MethodVal {
		return false
	}
	f, ok := s.Obj().(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return false
	}
	_, pointer := f.Signature().Recv().Type().(*types.Pointer)
	return pointer
}

// mutable says how a package variable can change, or "".
func mutable(name *ast.Ident, spec *ast.ValueSpec, info *types.Info, changed map[types.Object]string) string {
	if name.Name == "_" {
		return ""
	}
	if how := changed[info.Defs[name]]; how != "" {
		return how
	}
	if spec.Type == nil && len(spec.Values) == 0 {
		return ""
	}
	if len(spec.Values) == 0 {
		return "has no value: somebody must set it"
	}
	why := ""
	for _, part := range append([]ast.Expr{spec.Type}, spec.Values...) {
		if part == nil {
			continue
		}
		ast.Inspect(part, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ChanType:
				why = "holds a channel"
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
					why = "holds " + x.Name + "." + n.Sel.Name
				}
			}
			_, literal := n.(*ast.FuncLit)
			return !literal
		})
	}
	return why
}
