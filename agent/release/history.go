// Package release keeps what was deployed before, and judges a version on trial: pure values, no clock, no I/O. DESIGN.md beside this file
// says what happens to them and when.
package release

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/function"
)

// Version is a version of a function that is not deployed any more.
type Version struct {
	Revision uint64            `json:"revision"` // of the function's record when this was deployed last
	Deployed time.Time         `json:"deployed"`
	Manifest function.Manifest `json:"manifest"`
	Module   string            `json:"module"`           // its digest
	Failed   string            `json:"failed,omitempty"` // why it was given up on trial; such a version is not gone back to unless it is named
}

// same says whether going back to one of the two is going back to the other.
func (v Version) same(w Version) bool {
	return v.Module == w.Module && v.Failed == w.Failed && reflect.DeepEqual(v.Manifest, w.Manifest)
}

// Of is what f is now, as a version.
func Of(f *function.Function) Version {
	return Version{Revision: f.Version, Deployed: f.Deployed, Manifest: f.Manifest, Module: f.Module.String()}
}

// History is what a function was before, newest first.
type History []Version

// Keep is how many versions are kept besides the deployed one.
const Keep = 10

// MaxBytes bounds an encoded history. Ten versions of a usual manifest take some two thousand.
const MaxBytes = 96 << 10

// With returns the history after v, which comes first now. An older version that is the same is left out: it is v.
func (h History) With(v Version) History {
	older := slices.DeleteFunc(slices.Clone(h), v.same)
	return append(History{v}, older[:min(len(older), Keep-1)]...)
}

// Encode returns h in a form for the catalog, and leaves out the oldest versions until that takes no more than MaxBytes. Versions of one
// function are much alike, so they are compressed together.
func (h History) Encode() ([]byte, error) {
	for ; ; h = h[:len(h)-1] {
		text, err := json.Marshal(h)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err == nil {
			_, err = w.Write(text)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil || b.Len() <= MaxBytes || len(h) == 0 {
			return b.Bytes(), err
		}
	}
}

// maxText bounds what a history may unfold to.
const maxText = 8 << 20

// Decode reads what Encode wrote.
func Decode(body []byte) (History, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), maxText+1))
	if err != nil {
		return nil, fmt.Errorf("not a history: %w", err)
	}
	if len(text) > maxText {
		return nil, fmt.Errorf("not a history: it takes more than %d bytes", maxText)
	}
	var h History
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, fmt.Errorf("not a history: %w", err)
	}
	for _, v := range h {
		if _, err := function.ParseDigest(v.Module); err != nil {
			return nil, fmt.Errorf("not a history: %w", err)
		}
	}
	return h, nil
}

var errNothing = errors.New("no other version of it is kept")

// Find returns the version to go back to from now: with word "" the newest that is another and did not fail on trial; else the one of that
// revision, of that version in its manifest (the newest), or with that beginning of its module's digest, at least 6 digits of it.
func (h History) Find(word string, now Version) (Version, error) {
	if word == "" {
		for _, v := range h {
			if v.Failed == "" && !v.same(now) {
				return v, nil
			}
		}
		return Version{}, errNothing
	}
	matches := []func(Version) bool{
		func(v Version) bool { return strconv.FormatUint(v.Revision, 10) == word },
		func(v Version) bool { return v.Manifest.Version == word },
		func(v Version) bool {
			return len(strings.TrimPrefix(word, "sha256:")) >= 6 && strings.HasPrefix(strings.TrimPrefix(v.Module, "sha256:"), strings.TrimPrefix(word, "sha256:"))
		},
	}
	for _, match := range matches {
		if i := slices.IndexFunc(h, match); i >= 0 {
			return h[i], nil
		}
	}
	return Version{}, fmt.Errorf("no kept version has the revision, version or digest %q", word)
}
