package extract

import (
	"fmt"
	"slices"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// builtins are the functions a condition may call: each costs at most one look at its arguments and gives nothing bigger.
// Loops (any, filter, map), builders (repeat, join, toJSON) and the clock (now) are not among them.
func builtins() []string {
	return []string{
		"len", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix", "upper", "lower",
		"indexOf", "lastIndexOf", "hasPrefix", "hasSuffix", "max", "min", "type", "get",
	}
}

// mentioned is what a condition looks at.
type mentioned struct {
	variables   []string // but json
	json        int      // how often it says json
	members     int      // how often that is json.name with a fixed name
	memberNames []string
	err         error
}

// check parses a condition and refuses what could be expensive or is not about the event.
func check(text string) (*mentioned, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, plainError(err)
	}
	m := &mentioned{}
	ast.Walk(&tree.Node, m)
	return m, m.err
}

// Visit looks at one part of the expression. Parts that are not named here are refused.
func (m *mentioned) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode, *ast.ConstantNode, *ast.UnaryNode,
		*ast.ChainNode, *ast.SliceNode, *ast.ConditionalNode, *ast.ArrayNode:
	case *ast.IdentifierNode:
		m.identifier(n.Value)
	case *ast.MemberNode:
		m.member(n)
	case *ast.BinaryNode:
		m.binary(n)
	case *ast.BuiltinNode:
		m.function(n.Name)
	case *ast.CallNode:
		m.refuse("calls of anything but the built-in functions")
	case *ast.PredicateNode, *ast.PointerNode:
		m.refuse("loops over lists")
	case *ast.VariableDeclaratorNode, *ast.SequenceNode:
		m.refuse("variables")
	default:
		m.refuse(fmt.Sprintf("%q", n.String()))
	}
}

func (m *mentioned) refuse(what string) {
	if m.err == nil {
		m.err = fmt.Errorf("a condition cannot use %s", what)
	}
}

func (m *mentioned) identifier(name string) {
	switch {
	case name == "json":
		m.json++
	case name == "$env":
		m.refuse(name)
	case !slices.Contains(m.variables, name):
		m.variables = append(m.variables, name)
	}
}

func (m *mentioned) member(n *ast.MemberNode) {
	of, isName := n.Node.(*ast.IdentifierNode)
	property, isFixed := n.Property.(*ast.StringNode)
	if !isName || of.Value != "json" || !isFixed {
		return
	}
	m.members++
	if !slices.Contains(m.memberNames, property.Value) {
		m.memberNames = append(m.memberNames, property.Value)
	}
}

func (m *mentioned) binary(n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		m.refuse("ranges")
	case "matches":
		if _, fixed := n.Right.(*ast.StringNode); !fixed {
			m.refuse("a pattern for matches that is not written out")
		}
	}
}

func (m *mentioned) function(name string) {
	if !slices.Contains(builtins(), name) {
		m.refuse(name + "()")
	}
}
