package tomlcheck

import (
	"reflect"
	"strings"
)

// Set gives the key at path ("broker.site.url") a value from its text, as environment variables and flags do; name says where it
// comes from. Text needs no quotes; the elements of a list are separated by commas. Keys of maps are made when they are new.
func (r *Reader) Set(path, text, name string) {
	from := place{name: name}
	if err := r.set(r.root, strings.Split(path, "."), "", text); err != nil {
		problem, hint := Describe(err)
		r.report(from, path, problem, hint)
		return
	}
	r.seen[path] = from
	for i, c := range path {
		if c == '.' && !r.Said(path[:i]) {
			r.seen[path[:i]] = from // it made the table
		}
	}
}

func (r *Reader) set(v reflect.Value, keys []string, path, text string) error {
	fields := Fields(v.Type())
	f, ok := find(fields, keys[0])
	if !ok {
		return &Issue{"unknown key", r.suggest(keys[0], path, fields)}
	}
	return r.setField(f, v.Field(f.index), keys, path, text)
}

// setField sets what keys[1:] lead to in v, which is the field, or the element of a map, that keys[0] names.
func (r *Reader) setField(f Field, v reflect.Value, keys []string, path, text string) error {
	path, keys = join(path, keys[0]), keys[1:]
	k := f.Type.Kind()
	switch {
	case Leaf(f.Type) && len(keys) == 0:
		return f.set(v, text)
	case Leaf(f.Type):
	case k == reflect.Struct && len(keys) > 0:
		return r.set(v, keys, path, text)
	case k == reflect.Map && len(keys) > 0:
		var err error
		r.entry(f.Elem(), v, keys[0], func(ev reflect.Value) { err = r.setField(f.Elem(), ev, keys, path, text) })
		return err
	case k == reflect.Slice && Leaf(f.Type.Elem()) && len(keys) == 0:
		return setList(f, v, text)
	}
	return &Issue{"it cannot be set from here", "say it in a file"}
}

func setList(f Field, v reflect.Value, text string) error {
	out := reflect.MakeSlice(f.Type, 0, 0)
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		ev := reflect.New(f.Type.Elem()).Elem()
		if err := f.Elem().set(ev, item); err != nil {
			return err
		}
		out = reflect.Append(out, ev)
	}
	v.Set(out)
	return nil
}
