package changelog

import (
	"bytes"
	"reflect"
	"testing"
)

// What is read is what would be written again, and nothing else is read.
func FuzzDecode(f *testing.F) {
	s := Stamp{Version{3, 9}, 77}
	r := Record{s, 5, []Write{{Key: []byte("k"), Value: []byte("v"), Expires: 7}, {Key: []byte("gone"), Value: []byte{}, Delete: true}}, []Mark{{[]byte("m"), []byte{1}}}}
	e := Entry{s, Write{Key: []byte("k"), Value: []byte("v")}}
	h := Head{Node: "a", Claim: 4, First: 2, Keys: 8, Partial: true, Spans: []Span{{1, 2, 0}, {3, 77, 8}}}
	for _, text := range [][]byte{r.Encode(), e.Encode(), h.Encode(), nil} {
		f.Add(text)
	}
	if got, err := DecodeRecord(r.Encode()); err != nil || !reflect.DeepEqual(got, r) {
		f.Errorf("%+v, %v", got, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := seal(bytes.Clone(b))
		for _, text := range [][]byte{b, sealed} {
			if r, err := DecodeRecord(text); err == nil {
				if again, err := DecodeRecord(r.Encode()); err != nil || !reflect.DeepEqual(r, again) {
					t.Errorf("%+v and %+v, %v", r, again, err)
				}
			}
			if e, err := DecodeEntry(text); err == nil {
				if again, err := DecodeEntry(e.Encode()); err != nil || !reflect.DeepEqual(e, again) {
					t.Errorf("%+v and %+v, %v", e, again, err)
				}
			}
			if h, err := DecodeHead(text); err == nil {
				if again, err := DecodeHead(h.Encode()); err != nil || !reflect.DeepEqual(h, again) {
					t.Errorf("%+v and %+v, %v", h, again, err)
				}
			}
		}
	})
}

func TestDecide(t *testing.T) {
	head := Head{Node: "b", Claim: 5, Spans: []Span{{4, 40, 10}, {5, 50, 20}}}
	stamp := func(epoch, seq, writer uint64) Stamp { return Stamp{Version{epoch, seq}, writer} }
	partial := head
	partial.Partial = true
	for name, c := range map[string]struct {
		image Image
		local Local
		want  Verdict
	}{
		"a new function":               {Image{}, Local{Node: "a"}, Keep},
		"the broker has forgotten":     {Image{}, Local{Node: "a", Tip: stamp(5, 25, 50)}, Keep},
		"both in pieces":               {Image{}, Local{Node: "a", Half: true}, Wait},
		"records without a head":       {Image{Torn: true}, Local{Node: "a"}, Wait},
		"a new node":                   {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a"}, Adopt},
		"half a copy":                  {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a", Half: true, Tip: stamp(5, 25, 50)}, Adopt},
		"the last owner, ahead":        {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "b", Tip: stamp(5, 27, 50)}, Keep},
		"an owner before, behind":      {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a", Tip: stamp(4, 20, 40)}, Adopt},
		"an owner before, beyond":      {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a", Tip: stamp(4, 30, 40)}, Adopt},
		"another one of this epoch":    {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a", Tip: stamp(5, 30, 51)}, Adopt},
		"the broker has gone back":     {Image{Head: head, Tip: stamp(5, 25, 50)}, Local{Node: "a", Tip: stamp(6, 40, 60)}, Keep},
		"nobody has committed since":   {Image{Head: head}, Local{Node: "a", Tip: stamp(4, 12, 40)}, Adopt},
		"this node was making it anew": {Image{Head: partial}, Local{Node: "b", Tip: stamp(4, 20, 40)}, Keep},
		"another was making it anew":   {Image{Head: partial}, Local{Node: "a", Tip: stamp(4, 20, 40)}, Wait},
	} {
		if got := Decide(&c.image, c.local); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
