package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

// What programs read says what was meant, and shows a terminal nothing but printable characters.
func TestEncodeRoundTrip(t *testing.T) {
	type record struct {
		Text string              `json:"text"`
		List []string            `json:"list"`
		N    int                 `json:"n"`
		Map  map[string]string   `json:"map"`
		Deep [][]record          `json:"deep,omitempty"`
		Subs []map[string]record `json:"subs,omitempty"`
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SampledFrom([]string{"", "yes", "- a", "a: b", "~", "1e3", "0x1", "#", "a #b", "\t", "\u0085", "\u202e", "\U000e0001", "x\n  y\n", "é"})
		word := rapid.OneOf(words, rapid.String())
		leaf := func() record {
			return record{
				Text: word.Draw(t, "text"), List: rapid.SliceOfN(word, 0, 3).Draw(t, "list"), N: rapid.Int().Draw(t, "n"),
				Map: rapid.MapOfN(word, word, 0, 3).Draw(t, "map"),
			}
		}
		in := leaf()
		in.Deep = [][]record{{leaf(), leaf()}, {}, {leaf()}}
		in.Subs = []map[string]record{{"a": leaf(), "b": leaf()}}
		for _, f := range []format{"json", "yaml"} {
			var b bytes.Buffer
			if err := encode(&b, f, in); err != nil {
				t.Fatal(err)
			}
			for _, r := range b.String() {
				if !unicode.IsPrint(r) && r != '\n' {
					t.Fatalf("%s shows %U: %q", f, r, b.String())
				}
			}
			var out record
			var err error
			if f == "json" {
				err = json.Unmarshal(b.Bytes(), &out)
			} else {
				err = yaml.Unmarshal(b.Bytes(), &out)
			}
			want, _ := json.Marshal(in)
			got, _ := json.Marshal(out)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %s came back as %s (%v) through\n%s", f, want, got, err, b.String())
			}
		}
	})
}
