package tomlcheck

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"mayfly/internal/nearest"
)

// table reads the keys of n into struct v.
func (r *Reader) table(v reflect.Value, n *node, path string) {
	fields := Fields(v.Type())
	for _, e := range n.keys {
		sub := join(path, e.name)
		f, ok := find(fields, e.name)
		if !ok {
			if len(r.faults) < maxFaults {
				r.report(e.at, sub, "unknown key", r.suggest(e.name, path, fields))
			}
			continue
		}
		r.seen[sub] = e.value.at
		r.value(f, v.Field(f.index), e.value, sub)
	}
}

// suggest says what an unknown key may have been meant to be: a key of the same table, or of another one.
func (r *Reader) suggest(name, path string, fields []Field) string {
	known := names(fields)
	if w := nearest.To(name, known); w != "" {
		r.meant[join(path, w)] = true
		return fmt.Sprintf("did you mean %q?", w)
	}
	if where := elsewhere(r.root.Type(), name, ""); where != "" && where != path {
		return fmt.Sprintf("%q belongs in %s", name, where)
	}
	if len(known) == 0 {
		return ""
	}
	return "known here: " + strings.Join(known, ", ")
}

// elsewhere finds the table that has a key of that name.
func elsewhere(t reflect.Type, name, header string) string {
	for _, f := range Fields(t) {
		if f.Name == name && header != "" {
			return header
		}
		ft, open, closing := f.Type, "[", "]"
		switch k := ft.Kind(); {
		case Leaf(ft):
			continue
		case k == reflect.Slice:
			ft, open, closing = ft.Elem(), "[[", "]]"
		case k == reflect.Map:
			ft, closing = ft.Elem(), ".NAME]"
		}
		if ft.Kind() != reflect.Struct || Leaf(ft) {
			continue
		}
		if found := elsewhere(ft, name, open+join(strings.Trim(header, "[]"), f.Name)+closing); found != "" {
			return found
		}
	}
	return ""
}

// value reads n into v by the kind of Go value that is wanted.
func (r *Reader) value(f Field, v reflect.Value, n *node, path string) {
	k := f.Type.Kind()
	switch {
	case Leaf(f.Type):
		r.leaf(f, v, n, path)
	case k == reflect.Pointer:
		f.Type = f.Type.Elem()
		v.Set(reflect.New(f.Type))
		r.value(f, v.Elem(), n, path)
	case k == reflect.Struct:
		if r.want(n, n.isTable(), "a table", path) {
			r.table(v, n, path)
		}
	case k == reflect.Slice:
		r.list(f, v, n, path)
	case k == reflect.Map:
		r.entries(f, v, n, path)
	default:
		panic(fmt.Sprintf("tomlcheck: field %s has type %s, which no file can say", path, f.Type))
	}
}

func (r *Reader) want(n *node, ok bool, what, path string) bool {
	if ok {
		return true
	}
	hint := ""
	switch {
	case n.kind == unstable.ArrayTable && what == "a table":
		hint = fmt.Sprintf("there is only one: write [%s]", path)
	case n.kind == unstable.String && what == "a list":
		hint = fmt.Sprintf("in brackets: [%s]", Quote(n.text))
	}
	r.report(n.at, path, fmt.Sprintf("it must be %s, not %s", what, nameOf(n.kind)), hint)
	return false
}

func (r *Reader) list(f Field, v reflect.Value, n *node, path string) {
	elem := f.Elem()
	if !Leaf(elem.Type) && n.kind == unstable.Table {
		r.report(n.at, path, "it is a list of tables", fmt.Sprintf("write [[%s]], once for each", path))
		return
	}
	if !r.want(n, n.kind == unstable.Array || n.kind == unstable.ArrayTable, "a list", path) {
		return
	}
	v.Set(reflect.MakeSlice(f.Type, len(n.items), len(n.items)))
	for i, item := range n.items {
		sub := fmt.Sprintf("%s[%d]", path, i)
		r.seen[sub] = item.at
		if elem.Type.Kind() == reflect.Struct && !Leaf(elem.Type) {
			r.fill(v.Index(i))
		}
		r.value(elem, v.Index(i), item, sub)
	}
}

func (r *Reader) entries(f Field, v reflect.Value, n *node, path string) {
	if !r.want(n, n.isTable(), "a table", path) {
		return
	}
	elem := f.Elem()
	for _, e := range n.keys {
		sub := join(path, e.name)
		r.seen[sub] = e.value.at
		r.entry(elem, v, e.name, func(ev reflect.Value) { r.value(elem, ev, e.value, sub) })
	}
}

// entry lets change work on the map's element of that key, making it with its defaults if it is new.
func (r *Reader) entry(elem Field, v reflect.Value, key string, change func(reflect.Value)) {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	k := reflect.ValueOf(key).Convert(v.Type().Key())
	ev := reflect.New(elem.Type).Elem()
	if old := v.MapIndex(k); old.IsValid() {
		ev.Set(old)
	} else if elem.Type.Kind() == reflect.Struct && !Leaf(elem.Type) {
		r.fill(ev)
	}
	change(ev)
	v.SetMapIndex(k, ev)
}

// leaf checks that the TOML value is of the right sort and lets the field read its text.
func (r *Reader) leaf(f Field, v reflect.Value, n *node, path string) {
	if want := f.sort(); !fits(want, n.kind) {
		hint := ""
		switch {
		case want == aDuration && n.kind == unstable.Integer:
			hint = fmt.Sprintf("a number alone has no unit: write %q or %q", n.text+"ms", n.text+"s")
		case n.kind == unstable.String:
			hint = "without the quotes"
		case want == aString && n.text != "":
			hint = fmt.Sprintf("in quotes: %s", Quote(n.text))
		}
		r.report(n.at, path, fmt.Sprintf("it must be %s, not %s", want, nameOf(n.kind)), hint)
		return
	}
	text := n.text
	if f.Type == scalarType && n.kind != unstable.String {
		text = strings.ReplaceAll(text, "_", "")
	}
	if err := f.set(v, text); err != nil {
		problem, hint := Describe(err)
		r.report(n.at, path, problem, hint)
	}
}

// Describe takes an error apart into the problem and what to do about it: those of an Issue, else what is before and after "; ".
func Describe(err error) (problem, hint string) {
	if i, ok := errors.AsType[*Issue](err); ok {
		return i.Problem, i.Hint
	}
	problem, hint, _ = strings.Cut(err.Error(), "; ")
	return problem, hint
}

// What TOML values leaves want, in words.
const (
	aString   = "a string"
	aDuration = `a duration such as "500ms"`
	aSize     = `a size such as "8MiB"`
	aBool     = "true or false"
	aNumber   = "a number"
	aWhole    = "a whole number"
	aScalar   = "a string, number or boolean"
)

// sort says what TOML value a leaf wants.
func (f Field) sort() string {
	k := f.Type.Kind()
	switch {
	case f.Type == scalarType:
		return aScalar
	case f.Type == durationType:
		return aDuration
	case isText(f.Type), k == reflect.String:
		return aString
	case f.Size:
		return aSize
	case k == reflect.Bool:
		return aBool
	case k == reflect.Float64:
		return aNumber
	}
	return aWhole
}

func fits(want string, k unstable.Kind) bool {
	switch want {
	case aString, aDuration:
		return k == unstable.String
	case aSize:
		return k == unstable.String || k == unstable.Integer
	case aBool:
		return k == unstable.Bool
	case aNumber:
		return k == unstable.Float || k == unstable.Integer
	case aWhole:
		return k == unstable.Integer
	}
	return k == unstable.String || k == unstable.Float || k == unstable.Integer || k == unstable.Bool
}

func nameOf(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "a string"
	case unstable.Bool:
		return "a boolean"
	case unstable.Integer:
		return "a whole number"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Array:
		return "a list"
	case unstable.ArrayTable:
		return "a list of tables"
	case unstable.Table, unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}
