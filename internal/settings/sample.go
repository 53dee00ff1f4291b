package settings

import (
	"fmt"
	"reflect"
	"strings"

	"mayfly/internal/tomlcheck"
)

// sampleWidth is where lines of prose are broken.
const sampleWidth = 100

// Sample writes a configuration file that says every key of the struct cfg points to, what it is for and what its default
// is. It is all comments: prose after "# ", settings after "#", so that the file as it is means the defaults and a setting
// is changed by taking away one character.
func Sample(title string, cfg any) []byte {
	tomlcheck.New(cfg) // fills in the defaults
	var b strings.Builder
	prose(&b, title)
	prose(&b, "Settings that are commented out show their default.")
	table(&b, reflect.ValueOf(cfg).Elem(), "", "")
	return []byte(b.String())
}

// table writes the settings of a table and then the tables inside it. off is "#" when the table itself is commented out.
func table(b *strings.Builder, v reflect.Value, path, off string) {
	fields := tomlcheck.Fields(v.Type())
	for _, f := range fields {
		if k := f.Type.Kind(); k == reflect.Map || k == reflect.Struct && !tomlcheck.Leaf(f.Type) {
			continue
		}
		b.WriteByte('\n')
		prose(b, about(f))
		fmt.Fprintf(b, "#%s = %s\n", f.Name, f.Format(f.Of(v)))
	}
	for _, f := range fields {
		sub := strings.TrimPrefix(path+"."+f.Name, ".")
		fv := f.Of(v)
		switch k := f.Type.Kind(); {
		case k == reflect.Map:
			tableMap(b, f, sub)
		case k == reflect.Struct && !tomlcheck.Leaf(f.Type):
			b.WriteByte('\n')
			prose(b, about(f))
			fmt.Fprintf(b, "%s[%s]\n", off, sub)
			table(b, fv, sub, off)
		}
	}
}

// tableMap writes a table whose keys are up to the reader, by the example of one.
func tableMap(b *strings.Builder, f tomlcheck.Field, path string) {
	b.WriteByte('\n')
	prose(b, about(f))
	elem := f.Elem()
	if elem.Type.Kind() != reflect.Struct || tomlcheck.Leaf(elem.Type) {
		fmt.Fprintf(b, "#[%s]\n#NAME = %s\n", path, elem.Format(reflect.Zero(elem.Type)))
		return
	}
	example := reflect.New(elem.Type)
	tomlcheck.New(example.Interface())
	fmt.Fprintf(b, "#[%s.NAME]\n", path)
	table(b, example.Elem(), path+".NAME", "#")
}

// about is what there is to know of a setting in words.
func about(f tomlcheck.Field) string {
	parts := []string{f.Doc}
	if f.Words != nil {
		parts = append(parts, "One of "+strings.Join(f.Words, ", "))
	}
	switch {
	case f.Min != "" && f.Max != "":
		parts = append(parts, fmt.Sprintf("From %s to %s", f.Min, f.Max))
	case f.Min != "":
		parts = append(parts, "At least "+f.Min)
	case f.Max != "":
		parts = append(parts, "At most "+f.Max)
	}
	if f.Required {
		parts = append(parts, "It must be said")
	}
	for i, p := range parts {
		if p = strings.TrimSuffix(p, "."); p == "" {
			continue
		}
		if first, _, _ := strings.Cut(p, " "); !strings.ContainsAny(first, ":/_.") { // tcp://host stays as it is
			p = strings.ToUpper(p[:1]) + p[1:]
		}
		parts[i] = p + "."
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

// prose writes text as comment lines.
func prose(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > sampleWidth {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	if line != "#" {
		b.WriteString(line + "\n")
	}
}
