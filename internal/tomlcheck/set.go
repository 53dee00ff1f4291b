package tomlcheck

import (
	"reflect"
	"strings"
)

// Set gives the key at path ("broker.site.url") a value from its text, as environment variables and flags do; name says where it
// comes from. Text needs no quotes; the elements of a list are separated by commas. Keys of maps are made when they are new.
func (r *Reader) Set(path, text, name string) {
	from := place{name: name}
	report := func(problem, hint string) {
		r.faults = append(r.faults, from.fault(path, problem, hint))
	}
	if !r.set(r.root, strings.Split(path, "."), "", text, report) {
		return
	}
	r.seen[path] = from
	for i, c := range path {
		if c == '.' && !r.Said(path[:i]) {
			r.seen[path[:i]] = from // it made the table
		}
	}
}

func (r *Reader) set(v reflect.Value, keys []string, path, text string, report func(problem, hint string)) bool {
	fields := Fields(v.Type())
	f, ok := find(fields, keys[0])
	if !ok {
		report("unknown key", r.suggest(keys[0], path, fields))
		return false
	}
	return r.setField(f, v.Field(f.index), keys, path, text, report)
}

func (r *Reader) setField(f Field, v reflect.Value, keys []string, path, text string, report func(problem, hint string)) bool {
	path, keys = join(path, keys[0]), keys[1:]
	k := f.Type.Kind()
	switch {
	case k == reflect.Struct && !Leaf(f.Type) && len(keys) > 0:
		return r.set(v, keys, path, text, report)
	case k == reflect.Map && !Leaf(f.Type) && len(keys) > 0:
		ok := false
		r.entry(f.Elem(), v, keys[0], func(ev reflect.Value) {
			ok = r.setField(f.Elem(), ev, keys, path, text, report)
		})
		return ok
	case k == reflect.Slice && !Leaf(f.Type) && Leaf(f.Type.Elem()) && len(keys) == 0:
		return r.setList(f, v, text, report)
	case !Leaf(f.Type) || len(keys) > 0:
		report("it cannot be set from here", "say it in a file")
		return false
	}
	if err := f.set(v, text); err != nil {
		report(Describe(err))
		return false
	}
	return true
}

func (r *Reader) setList(f Field, v reflect.Value, text string, report func(problem, hint string)) bool {
	out := reflect.MakeSlice(f.Type, 0, 0)
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		ev := reflect.New(f.Type.Elem()).Elem()
		if err := f.Elem().set(ev, item); err != nil {
			report(Describe(err))
			return false
		}
		out = reflect.Append(out, ev)
	}
	v.Set(out)
	return true
}
