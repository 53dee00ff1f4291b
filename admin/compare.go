package admin

import (
	"fmt"
	"reflect"
	"strings"

	"mayfly/function"
)

// compare returns every value that is another in next, by its name in a manifest. What has no bearing on how the function
// runs (tests, how it is built, the text itself) is left out.
func compare(old, next *function.Manifest) []Change {
	was, is := flat(old), flat(next)
	before := map[string]string{}
	for _, a := range was {
		before[a.Name] = a.Value
	}
	out, seen := []Change{}, map[string]bool{}
	for _, a := range is {
		seen[a.Name] = true
		if before[a.Name] != a.Value {
			out = append(out, Change{Field: a.Name, From: before[a.Name], To: a.Value})
		}
	}
	for _, a := range was {
		if !seen[a.Name] {
			out = append(out, Change{Field: a.Name, From: a.Value})
		}
	}
	return out
}

// flat returns what a manifest says as names and values, in its order; what it leaves empty is left out.
func flat(m *function.Manifest) []Attr {
	if m == nil {
		return nil
	}
	trimmed := *m
	trimmed.Name, trimmed.Source, trimmed.Tests, trimmed.Build = "", "", nil, function.Build{}
	trimmed.Config = nil
	out := flatten(nil, "", reflect.ValueOf(trimmed), "")
	for _, s := range m.Config {
		out = append(out, Attr{"config." + s.Key, s.Value})
	}
	return out
}

// flatten adds v, which is called name, to out.
func flatten(out []Attr, name string, v reflect.Value, unit string) []Attr {
	if text, ok := leaf(v, unit); ok {
		if text != "" {
			out = append(out, Attr{name, text})
		}
		return out
	}
	switch v.Kind() { // a manifest has no other kinds, as its test shows
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" {
				key = name + "." + key
			} else if f.Type.Kind() == reflect.Slice {
				key = "trigger." + key // mqtt, http, cron
			}
			out = flatten(out, key, v.Field(i), f.Tag.Get("unit"))
		}
	case reflect.Slice:
		for i := range v.Len() {
			out = flatten(out, fmt.Sprintf("%s[%d]", name, i), v.Index(i), unit)
		}
	}
	return out
}

// leaf returns a value that has no parts as a manifest would say it, "" for nothing.
func leaf(v reflect.Value, unit string) (string, bool) {
	if s, ok := reflect.TypeAssert[fmt.Stringer](v); ok { // a pattern, a duration, a rate
		if v.IsZero() {
			return "", true
		}
		return s.String(), true
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String {
		var words []string
		for i := range v.Len() {
			words = append(words, v.Index(i).String())
		}
		return strings.Join(words, ", "), true
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Struct {
		return "", false
	}
	if v.Kind() == reflect.Bool && !v.Bool() {
		return "", true
	}
	if unit == "bytes" {
		return byteSize(v.Int()), true
	}
	return fmt.Sprint(v.Interface()), true
}

// byteSize writes bytes as a manifest does.
func byteSize(n int64) string {
	switch {
	case n == 0:
		return ""
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprint(n)
}
