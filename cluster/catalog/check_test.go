package catalog

import (
	"fmt"
	"strings"
	"testing"

	"mayfly/function"
)

// chained is a manifest that listens on some topics and may publish on others.
func chained(listens, publishes, more string) string {
	var b strings.Builder
	for t := range strings.FieldsSeq(listens) {
		fmt.Fprintf(&b, "[[trigger.mqtt]]\ntopic = %q\n", t)
	}
	var quoted []string
	for p := range strings.FieldsSeq(publishes) {
		quoted = append(quoted, fmt.Sprintf("%q", p))
	}
	fmt.Fprintf(&b, "[permissions]\npublish = [%s]\n%s", strings.Join(quoted, ", "), more)
	return b.String()
}

func TestLoopsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		before map[string]string
		f      string
		want   []string // in the error; none = deployed
	}{
		{"no overlap", nil, chained("plant/{line}/temp", "plant/+/alarm", ""), nil},
		{"itself", nil, chained("plant/{line}/{what}", "plant/+/alarm", ""), []string{`f may publish on "plant/+/alarm", which f is triggered by ("plant/{line}/{what}")`}},
		{"everything", nil, chained("a", "#", ""), []string{"loop = true"}},
		{"itself, and it knows", nil, chained("a", "#", "loop = true\n"), nil},
		{"dead letters", nil, chained("dlq/f", "", "[retry]\ndead_letter = \"dlq/f\"\n"), []string{"dlq/f"}},
		{"chain without an end that meets", map[string]string{"g": chained("b", "c", "")}, chained("a", "b", ""), nil},
		{"two", map[string]string{"g": chained("b", "a", "")}, chained("a", "b", ""), []string{"f may publish on \"b\", which g", "g may publish on \"a\", which f"}},
		{"two, the other knows", map[string]string{"g": chained("b", "a", "loop = true\n")}, chained("a", "b", ""), nil},
		{"three", map[string]string{"g": chained("b", "c", ""), "h": chained("x c", "a", "")}, chained("a", "b", ""), []string{"which g", "which h", "which f"}},
		{"others go round already", map[string]string{"g": chained("b", "c", ""), "h": chained("c", "b", "loop = true\n")}, chained("a", "b", ""), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := open(t, newMemory())
			for name, manifest := range c.before {
				if _, err := catalog.Put(t.Context(), makeFunction(t, name, manifest)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := catalog.Put(t.Context(), makeFunction(t, "f", c.f))
			if (err != nil) != (c.want != nil) || err != nil && (function.KindOf(err) != "loop" || function.ClassOf(err) != function.ClassReject) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			for _, want := range c.want {
				if text := fmt.Sprintf("%+v", err) + hint(err); !strings.Contains(text, want) {
					t.Errorf("%q is not in %s", want, text)
				}
			}
		})
	}
}

func hint(err error) string {
	e, ok := err.(*function.Error)
	if !ok {
		return ""
	}
	return e.Hint
}

// A function that was deployed before there was such a rule can be paused and removed.
func TestALoopCanBeStopped(t *testing.T) {
	m := newMemory()
	c := open(t, m)
	f, err := c.Put(t.Context(), makeFunction(t, "f", chained("a", "b", "")))
	if err != nil {
		t.Fatal(err)
	}
	f.Manifest.Permissions.Publish = []string{"a"} // behind the catalog's back
	if err := c.Snapshot().Check(f); function.KindOf(err) != "loop" {
		t.Fatal(err)
	}
	if _, err := c.SetPaused(t.Context(), "f", true); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), "f"); err != nil {
		t.Error(err)
	}
}
