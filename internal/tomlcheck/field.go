package tomlcheck

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/internal/nearest"
)

// Field is one key a struct describes.
type Field struct {
	Name     string
	Default  string
	Words    []string // nil = any
	Min, Max string
	Doc      string
	Size     bool // an integer written with a unit of bytes
	Required bool
	Type     reflect.Type
	index    int
}

// Fields returns the keys that struct type t describes, in its order.
func Fields(t reflect.Type) []Field {
	var fs []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		get := f.Tag.Get
		out := Field{
			Name: name, Default: get("default"), Min: get("min"), Max: get("max"), Doc: get("doc"),
			Size: get("unit") == "bytes", Required: get("required") == "true", Type: f.Type, index: i,
		}
		if words := get("words"); words != "" {
			out.Words = strings.Split(words, "|")
		}
		fs = append(fs, out)
	}
	return fs
}

func find(fs []Field, name string) (Field, bool) {
	for _, f := range fs {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

func names(fs []Field) []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.Name
	}
	return out
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	scalarType   = reflect.TypeFor[Scalar]()
)

// Scalar is a field that takes a string, number or boolean and keeps its text.
type Scalar string

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// Leaf says whether values of type t are written as one TOML value and not as a table or list.
func Leaf(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch k := t.Kind(); k {
	case reflect.String, reflect.Bool, reflect.Float64:
		return true
	default:
		return k >= reflect.Int && k <= reflect.Uint64
	}
}

// Elem is the description of the elements of a list or map: what a field says of its values holds for them.
func (f Field) Elem() Field {
	f.Type, f.Default = f.Type.Elem(), ""
	return f
}

// Of returns the field of a struct value of the type that Fields described.
func (f Field) Of(v reflect.Value) reflect.Value { return v.Field(f.index) }

// Issue is an error with a hint. UnmarshalText may return one.
type Issue struct{ Problem, Hint string }

func (e *Issue) Error() string {
	if e.Hint == "" {
		return e.Problem
	}
	return e.Problem + "; " + e.Hint
}

// set reads text into v, which is a leaf.
func (f Field) set(v reflect.Value, text string) error {
	if isText(f.Type) {
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	switch k := f.Type.Kind(); {
	case k == reflect.String:
		if err := f.checkWord(text); err != nil {
			return err
		}
		v.SetString(text)
	case k == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case k == reflect.Float64:
		x, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsNaN(x) {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(x)
		return f.checkBounds(x)
	default:
		return f.setInt(v, text)
	}
	return nil
}

func (f Field) checkWord(text string) error {
	if len(f.Words) == 0 || slices.Contains(f.Words, text) {
		return nil
	}
	hint := "one of " + list(f.Words)
	if w := nearest.To(text, f.Words); w != "" {
		hint = fmt.Sprintf("did you mean %q? (%s)", w, hint)
	}
	return &Issue{fmt.Sprintf("%q is not allowed here", text), hint}
}

// list writes words for people: "a", "b" or "c".
func list(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}

func (f Field) setInt(v reflect.Value, text string) error {
	n, err := f.parseInt(text)
	if err != nil {
		return err
	}
	signed := f.Type.Kind() <= reflect.Int64
	if signed && v.OverflowInt(n) || !signed && (n < 0 || v.OverflowUint(uint64(n))) {
		return fmt.Errorf("%s does not fit", text)
	}
	if signed {
		v.SetInt(n)
	} else {
		v.SetUint(uint64(n))
	}
	return f.checkBounds(float64(n))
}

func (f Field) parseInt(text string) (int64, error) {
	switch {
	case f.Type == durationType:
		d, err := ParseDuration(text)
		return int64(d), err
	case f.Size:
		return ParseSize(strings.ReplaceAll(text, "_", ""))
	}
	n, err := strconv.ParseInt(text, 0, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s does not fit", text)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return n, nil
}

func (f Field) checkBounds(x float64) error {
	for _, b := range []struct {
		text string
		over bool
		word string
	}{{f.Min, false, "least"}, {f.Max, true, "most"}} {
		if b.text == "" {
			continue
		}
		bound, err := f.number(b.text)
		if err != nil {
			return fmt.Errorf("the tag of %s is wrong: %w", f.Name, err)
		}
		if b.over && x > bound || !b.over && x < bound {
			return &Issue{fmt.Sprintf("the %s is %s", b.word, b.text), ""}
		}
	}
	return nil
}

func (f Field) number(text string) (float64, error) {
	if f.Type.Kind() == reflect.Float64 {
		return strconv.ParseFloat(text, 64)
	}
	n, err := f.parseInt(text)
	return float64(n), err
}

// Format writes a value as it is written in TOML: a leaf, or a list of leaves.
func (f Field) Format(v reflect.Value) string {
	if v.Kind() == reflect.Slice && !Leaf(f.Type) {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = f.Elem().Format(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		text, err := m.MarshalText()
		if err != nil {
			return strconv.Quote(err.Error())
		}
		return Quote(string(text))
	}
	switch k := v.Kind(); {
	case k == reflect.String:
		return Quote(v.String())
	case f.Type == durationType:
		return Quote(FormatDuration(time.Duration(v.Int())))
	case f.Size && v.CanInt():
		return Quote(FormatSize(v.Int()))
	case k == reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".en") {
			s += ".0"
		}
		return s
	}
	return fmt.Sprint(v.Interface())
}

// Quote writes a TOML basic string.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
