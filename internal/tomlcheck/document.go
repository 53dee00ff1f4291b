package tomlcheck

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// MaxText is the largest file that is read, in bytes.
const MaxText = 1 << 18

// document is a TOML file as a tree that remembers where everything was written.
type document struct {
	file    string
	text    string
	root    *node
	partial bool // reading stopped early: what seems to be missing may be there
	faults  Faults
}

// node is a value. Only what its kind says is set.
type node struct {
	kind  unstable.Kind // String, Integer, Float, Bool, a date or time, Array, InlineTable, Table, ArrayTable
	text  string        // String: the value; numbers and words: as written
	at    place
	items []*node  // Array, ArrayTable
	keys  []*entry // InlineTable, Table, in the order written
	index map[string]*entry
	said  bool // Table: by a header of its own, not just by a longer key
}

type entry struct {
	name  string
	at    place // of the key
	value *node
}

func (n *node) get(name string) *entry { return n.index[name] }

func (n *node) put(e *entry) {
	if n.index == nil {
		n.index = map[string]*entry{}
	}
	n.index[e.name] = e
	n.keys = append(n.keys, e)
}

func (n *node) isTable() bool { return n.kind == unstable.Table || n.kind == unstable.InlineTable }

// maxKeys is how many keys one table may have.
const maxKeys = 2000

// parse never fails: what is wrong is in the document's faults. It does not see all that is wrong; strict does.
func parse(file string, text []byte) *document {
	d := &document{file: file, text: string(text)}
	d.root = &node{kind: unstable.Table, at: place{doc: d}, said: true}
	if len(text) > MaxText {
		d.text, d.partial = d.text[:MaxText], true
		d.fault(place{doc: d}, fmt.Sprintf("the file has %d bytes, the most is %d", len(text), MaxText), "")
		return d
	}
	data := []byte(d.text)
	p := &unstable.Parser{}
	p.Reset(data)
	into := d.root
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			into = d.header(e)
		case unstable.KeyValue:
			d.keyValue(into, e)
		}
	}
	if err := p.Error(); err != nil {
		d.partial = true
		at, message := place{doc: d, at: len(d.text)}, err.Error()
		if pe, ok := errors.AsType[*unstable.ParserError](err); ok {
			at, message = d.placeOf(data, pe.Highlight), pe.Message
		}
		d.fault(at, message, syntaxHint(at))
	}
	return d
}

// strict lets the decoder proper check what the tree is too lenient for: dates, leading zeros, tables reopened by other
// means. It is for documents without other faults: its time grows with the square of the keys of a table.
func (d *document) strict() {
	var all map[string]any
	err := toml.Unmarshal([]byte(d.text), &all)
	if err == nil {
		return
	}
	d.partial = true
	at := place{doc: d}
	message := strings.TrimPrefix(err.Error(), "toml: ")
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, col := de.Position()
		for range line - 1 {
			at.at += strings.IndexByte(d.text[at.at:], '\n') + 1
		}
		at.at = min(at.at+max(col-1, 0), len(d.text))
	}
	d.fault(at, message, "")
}

// syntaxHint knows the mistakes people make most.
func syntaxHint(at place) string {
	rest := at.doc.text[at.at:]
	start := strings.LastIndexByte(at.doc.text[:at.at], '\n') + 1
	line, _, _ := strings.Cut(at.doc.text[start:], "\n")
	_, value, found := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	switch {
	case !found && strings.Contains(line, ":"):
		return `TOML says key = "value", with = and not with :`
	case found && value != "" && (value[0] >= 'a' && value[0] <= 'z' || value[0] >= 'A' && value[0] <= 'Z'):
		return "text must be quoted: \"" + strings.Trim(strings.Fields(value)[0], "\"'`") + "\""
	case found && value == "":
		return "a value must follow the =, on the same line"
	case strings.HasPrefix(strings.TrimSpace(line), "[") && !strings.Contains(rest, "]"):
		return "a table header ends with ]"
	}
	return ""
}

func (d *document) fault(at place, problem, hint string) {
	if len(d.faults) >= maxFaults {
		return
	}
	d.faults = append(d.faults, at.fault("", problem, hint))
}

func (d *document) placeOf(data, part []byte) place {
	if at := cap(data) - cap(part); len(part) > 0 && at >= 0 && at <= len(data) {
		return place{doc: d, at: at, size: len(part)}
	}
	return place{doc: d, at: len(data)}
}

func (d *document) placeAt(r unstable.Range) place {
	return place{doc: d, at: int(r.Offset), size: int(r.Length)}
}

// header handles [a.b] and [[a.b]] and returns the table that the following keys belong to.
func (d *document) header(e *unstable.Node) *node {
	t, last := d.descend(d.root, e.Key())
	if t == nil {
		return &node{kind: unstable.Table} // the keys below it are lost: its place is taken, which is said
	}
	old := t.get(last.name)
	if e.Kind == unstable.ArrayTable {
		if old == nil {
			old = &entry{last.name, last.at, &node{kind: unstable.ArrayTable, at: last.at}}
			t.put(old)
		}
		if old.value.kind == unstable.ArrayTable {
			item := &node{kind: unstable.Table, at: last.at, said: true}
			old.value.items = append(old.value.items, item)
			return item
		}
	} else if old == nil {
		n := &node{kind: unstable.Table, at: last.at, said: true}
		t.put(&entry{last.name, last.at, n})
		return n
	} else if n := old.value; n.kind == unstable.Table && !n.said {
		n.said, n.at, old.at = true, last.at, last.at
		return n
	}
	d.twice(last, old)
	return &node{kind: unstable.Table}
}

func (d *document) twice(again, first *entry) {
	if len(d.faults) >= maxFaults {
		return
	}
	line := first.at.fault("", "", "").Line
	d.fault(again.at, fmt.Sprintf("%q is given twice", again.name), fmt.Sprintf("the first is on line %d", line))
}

// descend goes to the table that holds the last part of a dotted key, making the tables on the way. It returns nil if one of
// them is taken by another value.
func (d *document) descend(t *node, key unstable.Iterator) (*node, *entry) {
	var last *entry
	for key.Next() {
		k := key.Node()
		if last != nil {
			if t = d.step(t, last); t == nil {
				return nil, nil
			}
		}
		last = &entry{name: string(k.Data), at: d.placeAt(k.Raw)}
	}
	return t, last
}

func (d *document) step(t *node, key *entry) *node {
	old := t.get(key.name)
	if old == nil {
		n := &node{kind: unstable.Table, at: key.at}
		t.put(&entry{key.name, key.at, n})
		return n
	}
	switch n := old.value; {
	case n.kind == unstable.Table:
		return n
	case n.kind == unstable.ArrayTable:
		return n.items[len(n.items)-1]
	}
	d.twice(key, old)
	return nil
}

func (d *document) keyValue(t *node, e *unstable.Node) {
	t, last := d.descend(t, e.Key())
	if t == nil {
		return
	}
	if old := t.get(last.name); old != nil {
		d.twice(last, old)
		return
	}
	if len(t.keys) == maxKeys {
		d.partial = true
		d.fault(last.at, fmt.Sprintf("the table has more than %d keys", maxKeys), "")
		return
	}
	last.value = d.value(e.Value(), last.at)
	t.put(last)
}

// value copies a value out of the parser. Arrays do not know their place, so it is that of the key.
func (d *document) value(v *unstable.Node, key place) *node {
	n := &node{kind: v.Kind, at: d.placeAt(v.Raw)}
	switch v.Kind {
	case unstable.Array:
		n.at = key
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, d.value(it.Node(), key))
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			d.keyValue(n, it.Node())
		}
	default:
		n.text = string(v.Data)
	}
	return n
}
