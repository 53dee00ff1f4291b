package tomlcheck

import (
	"fmt"
	"reflect"
	"strings"
)

// Reader reads one or more files into one struct, later ones over earlier ones: a value replaces a value, a list replaces
// a list, tables are merged key by key. Use: New, Read and Set in order of precedence, Finish, own checks with Fault, Err.
// Not safe for concurrent use.
type Reader struct {
	root   reflect.Value
	docs   []*document
	seen   map[string]place // by path: where its value was said last
	faulty map[string]bool  // paths that faults are about, and all that they are in
	meant  map[string]bool  // paths that an unknown key was probably meant to be
	faults Faults
}

// New returns a reader into the struct that into points to, and fills in the defaults of what is zero there. It panics if
// into is no pointer to a struct: that is a mistake in the program.
func New(into any) *Reader {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("tomlcheck: %T is not a pointer to a struct", into))
	}
	r := &Reader{root: v.Elem(), seen: map[string]place{}, meant: map[string]bool{}, faulty: map[string]bool{}}
	r.fill(v.Elem())
	return r
}

// fill sets the defaults of zero leaves of a struct and the structs inside it.
func (r *Reader) fill(v reflect.Value) {
	for _, f := range Fields(v.Type()) {
		fv := v.Field(f.index)
		switch {
		case Leaf(f.Type) && f.Default != "" && fv.IsZero():
			if err := f.set(fv, f.Default); err != nil {
				panic(fmt.Sprintf("tomlcheck: default of %s.%s: %v", v.Type(), f.Name, err))
			}
		case f.Type.Kind() == reflect.Struct && !isText(f.Type):
			r.fill(fv)
		}
	}
}

// Read reads one file.
func (r *Reader) Read(file string, text []byte) {
	d := parse(file, text)
	r.docs = append(r.docs, d)
	r.seen[""] = place{doc: d}
	before := len(r.faults)
	r.table(r.root, d.root, "")
	if len(r.faults) == before && len(d.faults) == 0 {
		d.strict()
	}
	r.faults = append(r.faults, d.faults...)
}

// Said says whether a file or Set said anything about path.
func (r *Reader) Said(path string) bool { _, ok := r.seen[path]; return ok }

// Origin says where path got its value: "file:line:col" or the name given to Set. It reports false if nobody said it.
func (r *Reader) Origin(path string) (string, bool) {
	p, ok := r.seen[path]
	switch {
	case !ok:
		return "", false
	case p.doc == nil:
		return p.name, true
	}
	f := p.fault("", "", "")
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Col), true
}

// Line returns the line that path is on, 0 if it is on none.
func (r *Reader) Line(path string) int {
	if p := r.seen[path]; p.doc != nil {
		return p.fault("", "", "").Line
	}
	return 0
}

// maxFaults is how many faults are looked for: nobody reads more, and a file can be made of nothing else.
const maxFaults = 1000

func (r *Reader) report(at place, path, problem, hint string) {
	if len(r.faults) >= maxFaults {
		return
	}
	r.faults = append(r.faults, at.fault(path, problem, hint))
	for i, c := range path + "." {
		if c == '.' || c == '[' {
			r.faulty[path[:i]] = true
		}
	}
}

// Fault reports a fault about path, or about what it is in when path itself was not said.
func (r *Reader) Fault(path, problem, hint string) {
	at := path
	for {
		if p, ok := r.seen[at]; ok || at == "" {
			r.report(p, path, problem, hint)
			return
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
}

// Faulty says whether a fault about path, or about something in it, was reported.
func (r *Reader) Faulty(path string) bool {
	return r.faulty[path] || path == "" && len(r.faults) > 0
}

// Partial says whether a file could not be read to its end, so that what seems to be missing may be there.
func (r *Reader) Partial() bool {
	for _, d := range r.docs {
		if d.partial {
			return true
		}
	}
	return false
}

// Err returns the faults found, in the order of the files and lines, or nil.
func (r *Reader) Err() Faults {
	if len(r.faults) == 0 {
		return nil
	}
	files := make([]string, len(r.docs))
	for i, d := range r.docs {
		files[i] = d.file
	}
	sortFaults(r.faults, files)
	return r.faults
}

// Validator is a struct that checks what concerns more than one of its fields after it was read. The faults are by key, relative to
// the struct: "listen[0]", or "" for the struct as a whole.
type Validator interface {
	Validate() map[string]error
}

// Finish reports required keys that nobody said and asks every Validator about which nothing else was reported.
func (r *Reader) Finish() { r.finish(r.root, "") }

func (r *Reader) finish(v reflect.Value, path string) {
	for _, f := range Fields(v.Type()) {
		sub := join(path, f.Name)
		fv := v.Field(f.index)
		if f.Required && !r.Said(sub) && fv.IsZero() && !r.Partial() && !r.Faulty(sub) && !r.meant[sub] {
			r.Fault(sub, "it is missing", strings.TrimSpace("it must be said. "+f.Doc))
		}
		switch k := f.Type.Kind(); {
		case Leaf(f.Type):
		case k == reflect.Struct:
			r.finish(fv, sub)
		case k == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && !Leaf(f.Type.Elem()):
			for i := range fv.Len() {
				r.finish(fv.Index(i), fmt.Sprintf("%s[%d]", sub, i))
			}
		case k == reflect.Map && f.Type.Elem().Kind() == reflect.Struct && !Leaf(f.Type.Elem()):
			for _, key := range fv.MapKeys() {
				elem := reflect.New(f.Type.Elem()).Elem()
				elem.Set(fv.MapIndex(key))
				r.finish(elem, join(sub, key.String()))
			}
		}
	}
	if c, ok := reflect.TypeAssert[Validator](v.Addr()); ok && !r.Partial() && !r.Faulty(path) {
		for key, err := range c.Validate() {
			problem, hint := Describe(err)
			r.Fault(join(path, key), problem, hint)
		}
	}
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}
