// Package settings loads the agent's own configuration in layers: the defaults, the configuration file, the files of
// conf.d in the order of their names, environment variables, flags. A later layer wins, key by key. It remembers where
// every value came from and reports all faults of all layers at once. What can be configured is the caller's struct,
// described by the tags of package tomlcheck; this package knows no component.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"mayfly/internal/tomlcheck"
)

// Sources says where the layers are.
type Sources struct {
	File     string            // "/etc/mayfly/mayfly.toml"; "" = none
	Optional bool              // File need not exist
	Dir      string            // "/etc/mayfly/conf.d"; it need not exist; "" = none
	Environ  []string          // as os.Environ returns it
	Prefix   string            // of the environment variables that count: "MAYFLY_"
	Ignore   []string          // environment variables with the prefix that are somebody else's
	Flags    map[string]string // by path: "log.level" -> "debug"
}

// Layer is a kind of source.
type Layer string

// Layers, the first overruled by all others.
const (
	LayerDefault Layer = "default"
	LayerFile    Layer = "file"
	LayerEnv     Layer = "env"
	LayerFlag    Layer = "flag"
)

// Origin says where a value came from.
type Origin struct {
	Layer Layer
	Where string // "/etc/mayfly/mayfly.toml:12:8", "MAYFLY_LOG__LEVEL", "--log.level"; "" for a default
}

// Origins knows where the values of a loaded configuration came from. It never changes.
type Origins struct {
	set    map[string]Origin
	reader *tomlcheck.Reader
}

// Load fills the struct that into points to and returns where its values came from. The error is tomlcheck.Faults when the
// contents are at fault, else one of reading files; into is then in no useful state.
func Load(into any, src Sources) (*Origins, error) {
	r := tomlcheck.New(into)
	files, err := src.files()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file == src.File && src.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		r.Read(file, text)
	}
	o := &Origins{set: map[string]Origin{}, reader: r}
	o.environment(src)
	for _, path := range slices.Sorted(maps.Keys(src.Flags)) {
		r.Set(path, src.Flags[path], "--"+path)
		o.set[path] = Origin{LayerFlag, "--" + path}
	}
	r.Finish()
	if faults := r.Err(); faults != nil {
		return nil, faults
	}
	return o, nil
}

// files lists what is to be read, in order. Hidden files and those that do not end in .toml are passed over: editors and
// package managers leave such files behind.
func (s Sources) files() ([]string, error) {
	var files []string
	if s.File != "" {
		files = append(files, s.File)
	}
	if s.Dir == "" {
		return files, nil
	}
	entries, err := os.ReadDir(s.Dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration directory: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(s.Dir, name))
		}
	}
	return files, nil
}

// environment applies PREFIX_TABLE__KEY variables, sorted by name. Two underscores stand for a dot; letters are taken
// as lower case.
func (o *Origins) environment(src Sources) {
	variables := slices.Sorted(slices.Values(src.Environ))
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		key, ours := strings.CutPrefix(name, src.Prefix)
		if !ours || src.Prefix == "" || key == "" || slices.Contains(src.Ignore, name) {
			continue
		}
		path := strings.ToLower(strings.ReplaceAll(key, "__", "."))
		o.reader.Set(path, value, name)
		o.set[path] = Origin{LayerEnv, name}
	}
}

// Of returns where the value at path came from. The elements of a list come from where the list does.
func (o *Origins) Of(path string) Origin {
	if origin, ok := o.set[path]; ok {
		return origin
	}
	if where, ok := o.reader.Origin(path); ok {
		return Origin{LayerFile, where}
	}
	return Origin{Layer: LayerDefault}
}

// Entry is one value of a configuration.
type Entry struct {
	Path   string
	Value  string // as it is written in TOML
	Origin Origin
}

// List returns all values of cfg, which Load filled, with their origins, in the order of the struct.
func (o *Origins) List(cfg any) []Entry {
	return o.list(reflect.ValueOf(cfg).Elem(), "", nil)
}

func (o *Origins) list(v reflect.Value, path string, out []Entry) []Entry {
	for _, f := range tomlcheck.Fields(v.Type()) {
		sub := strings.TrimPrefix(path+"."+f.Name, ".")
		fv := f.Of(v)
		switch k := f.Type.Kind(); {
		case k == reflect.Map:
			out = o.listMap(f, fv, sub, out)
		case k == reflect.Struct && !tomlcheck.Leaf(f.Type):
			out = o.list(fv, sub, out)
		default:
			out = append(out, Entry{sub, f.Format(fv), o.Of(sub)})
		}
	}
	return out
}

func (o *Origins) listMap(f tomlcheck.Field, v reflect.Value, path string, out []Entry) []Entry {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		sub, ev := path+"."+key.String(), v.MapIndex(key)
		if elem := f.Elem(); elem.Type.Kind() == reflect.Struct && !tomlcheck.Leaf(elem.Type) {
			out = o.list(ev, sub, out)
		} else {
			out = append(out, Entry{sub, elem.Format(ev), o.Of(sub)})
		}
	}
	return out
}
