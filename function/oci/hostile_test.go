package oci_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"mayfly/function"
	"mayfly/function/oci"
)

// liar is a registry that says what it likes.
type liar struct {
	manifest    string
	contentType string
	digest      string // header; "" = none
	blob        func(w http.ResponseWriter)
}

func (l liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/blobs/") {
		l.blob(w)
		return
	}
	w.Header().Set("Content-Type", l.contentType)
	if l.digest != "" {
		w.Header().Set("Docker-Content-Digest", l.digest)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(l.manifest)))
	_, _ = io.WriteString(w, l.manifest)
}

const imageManifest = "application/vnd.oci.image.manifest.v1+json"

func manifest(layers string) string {
	return fmt.Sprintf(`{"schemaVersion": 2, "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": %q, "size": 2}, "layers": [%s]}`,
		function.DigestOf([]byte("{}")), layers)
}

func layer(module string, size int) string {
	return fmt.Sprintf(`{"mediaType": "application/wasm", "digest": %q, "size": %d}`, function.DigestOf([]byte(module)), size)
}

func sends(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
}

// [R1] Nothing of what a lying registry says is taken for a function.
func TestLyingRegistry(t *testing.T) {
	good := manifest(layer("module", 6))
	other := function.DigestOf([]byte("other")).String()
	for name, c := range map[string]struct {
		liar
		ref  string // after the repository
		kind string // "unavailable" is what the library refuses by itself
	}{
		"no JSON":               {liar{"oops", imageManifest, "", nil}, ":1", "artifact"},
		"index":                 {liar{`{"schemaVersion": 2, "manifests": []}`, "application/vnd.oci.image.index.v1+json", "", nil}, ":1", "artifact"},
		"index in disguise":     {liar{`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}`, imageManifest, "", nil}, ":1", "artifact"},
		"container":             {liar{`{"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": []}`, imageManifest, "", nil}, ":1", "artifact"},
		"no module":             {liar{manifest(""), imageManifest, "", nil}, ":1", "artifact"},
		"two modules":           {liar{manifest(layer("a", 1) + "," + layer("b", 1)), imageManifest, "", nil}, ":1", "artifact"},
		"huge module":           {liar{manifest(layer("module", 9<<20)), imageManifest, "", nil}, ":1", "artifact"},
		"negative size":         {liar{manifest(layer("module", -1)), imageManifest, "", nil}, ":1", "artifact"},
		"weak digest":           {liar{manifest(`{"mediaType": "application/wasm", "digest": "md5:0cc175b9c0f1b6a831c399e269772661", "size": 1}`), imageManifest, "", nil}, ":1", "artifact"},
		"huge manifest":         {liar{`{"x": "` + strings.Repeat("x", 2<<20) + `"}`, imageManifest, "", nil}, ":1", "too-large"},
		"another than asked":    {liar{good, imageManifest, "", sends("module")}, "@" + other, "unavailable"},
		"another, and says so":  {liar{good, imageManifest, other, sends("module")}, "@" + other, "digest"},
		"tag with wrong digest": {liar{good, imageManifest, other, sends("module")}, ":1", "digest"},
		"another module":        {liar{good, imageManifest, "", sends("modulo")}, ":1", "digest"},
		"more than it said":     {liar{good, imageManifest, "", sends("module and more")}, ":1", "unavailable"},
		"less than it said":     {liar{good, imageManifest, "", sends("mod")}, ":1", "unavailable"},
		"huge function.toml": {liar{
			strings.TrimSuffix(good, "}") + `, "annotations": {"vnd.mayfly.function.toml": "` + strings.Repeat("#", 200<<10) + `"}}`,
			imageManifest, "", sends("module"),
		}, ":1", "artifact"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.liar)
			defer server.Close()
			ref := reference(t, "%s/x%s", strings.TrimPrefix(server.URL, "http://"), c.ref)
			_, got, err := client(t, oci.Options{}).Pull(t.Context(), ref)
			if err == nil || function.KindOf(err) != c.kind || got.Module != nil {
				t.Errorf("pulled %d bytes: %v (kind %s), want %s", len(got.Module), err, function.KindOf(err), c.kind)
			}
		})
	}
}

// What another tool made is a module without a function.toml, also beside layers of other types.
func TestModuleOfAnotherTool(t *testing.T) {
	text := manifest(`{"mediaType": "text/plain", "digest": "` + function.DigestOf([]byte("readme")).String() + `", "size": 6}, ` + layer("module", 6))
	server := httptest.NewServer(liar{text, imageManifest, "", sends("module")})
	defer server.Close()
	_, got, err := client(t, oci.Options{}).Pull(t.Context(), reference(t, "%s/x:1", strings.TrimPrefix(server.URL, "http://")))
	if err != nil || string(got.Module) != "module" || got.Source != nil {
		t.Errorf("pulled %q, %q: %v", got.Module, got.Source, err)
	}
}

// A registry elsewhere is spoken to over TLS, and does not lead out of it.
func TestPlainHTTPIsAskedFor(t *testing.T) {
	var seen []string
	record := recorder(func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r.URL.Scheme)
		if r.URL.Scheme == "https" && r.URL.Host == "redirects.example" {
			return &http.Response{StatusCode: 307, Header: http.Header{"Location": {"http://elsewhere.example/"}}, Body: http.NoBody, Request: r}, nil
		}
		return &http.Response{StatusCode: 404, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	for _, c := range []struct {
		host  string
		plain bool
		want  string
	}{
		{"registry.example", false, "https"},
		{"registry.example:5000", true, "http"},
		{"10.0.0.1:5000", false, "https"},
		{"127.0.0.1:5000", false, "http"},
		{"[::1]:5000", false, "http"},
		{"localhost:5000", false, "http"},
		{"localhost.example", false, "https"},
		{"redirects.example", false, "https"},
	} {
		seen = nil
		_, _, err := client(t, oci.Options{PlainHTTP: c.plain, Transport: record}).Pull(t.Context(), reference(t, "%s/x:1", c.host))
		if err == nil || len(seen) == 0 {
			t.Errorf("%s: %v, %v", c.host, seen, err)
		}
		for _, scheme := range seen {
			if scheme != c.want {
				t.Errorf("%s was spoken to over %s, want %s", c.host, scheme, c.want)
			}
		}
	}
}

type recorder func(*http.Request) (*http.Response, error)

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

func TestParseReference(t *testing.T) {
	digest := function.DigestOf(nil).String()
	for text, want := range map[string]string{
		"oci://registry.local/iot/overheat:1.2.0":       "oci://registry.local/iot/overheat:1.2.0",
		"registry.local:5000/overheat":                  "oci://registry.local:5000/overheat:latest",
		"oci://registry.local/overheat@" + digest:       "oci://registry.local/overheat@" + digest,
		"oci://registry.local/overheat:1.2.0@" + digest: "oci://registry.local/overheat@" + digest,
		"overheat":                "",
		"oci://":                  "",
		"oci://host/UPPER:1":      "",
		"oci://host/x@sha256:abc": "",
		"oci://host/x@sha512:" + strings.Repeat("0a", 64):  "",
		"oci://host/x:" + strings.Repeat("t", 200):         "",
		"oci://host/../etc:1":                              "",
		"oci://user:pass@host/x:1":                         "",
		"https://registry.local/overheat:1.2.0":            "",
		"oci://registry.local/overheat:1.2.0 --plain-http": "",
	} {
		r, err := oci.ParseReference(text)
		if want == "" && (err == nil || function.KindOf(err) != "reference") || want != "" && (err != nil || r.String() != want) {
			t.Errorf("%q is %v, %v; want %q", text, r, err, want)
		}
	}
}

// FuzzPull feeds a client manifests; whatever it accepts is what its digest says.
func FuzzPull(f *testing.F) {
	f.Add([]byte(manifest(layer("module", 6))))
	f.Add([]byte(`{"schemaVersion": 2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		transport := recorder(func(r *http.Request) (*http.Response, error) {
			body, kind := "module", "application/octet-stream"
			if strings.Contains(r.URL.Path, "/manifests/") {
				body, kind = string(text), imageManifest
			}
			return &http.Response{StatusCode: 200, ContentLength: int64(len(body)), Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
		})
		at, got, err := client(t, oci.Options{Transport: transport}).Pull(t.Context(), reference(t, "registry.example/x:1"))
		if err != nil {
			return
		}
		var m struct {
			Layers []struct{ Digest, MediaType string }
		}
		if err := json.Unmarshal(text, &m); err != nil || string(got.Module) != "module" || at.Digest != function.DigestOf(text).String() {
			t.Errorf("accepted %q of %q: %v", got.Module, text, err)
		}
	})
}
