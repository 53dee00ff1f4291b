package oci_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/function"
	"mayfly/function/oci"
	"mayfly/internal/dockerregistry"
)

const source = "manifest = 1\nname = \"overheat\"\n"

func artifact() oci.Artifact {
	return oci.Artifact{Source: []byte(source), Module: append([]byte("\x00asm"), bytes.Repeat([]byte("x"), 5000)...)}
}

func client(t testing.TB, o oci.Options) *oci.Client {
	t.Helper()
	c, err := oci.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reference(t testing.TB, format string, args ...any) oci.Reference {
	t.Helper()
	r, err := oci.ParseReference(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// [R1] What was pushed to a real registry comes back by its tag and by its digest, and the digest is that of the content alone.
func TestWhatIsPushedIsPulled(t *testing.T) {
	host := dockerregistry.Run(t, dockerregistry.Options{}).Host
	c := client(t, oci.Options{})
	want := artifact()
	first, err := c.Push(t.Context(), reference(t, "oci://%s/iot/overheat:1.2.0", host), want, map[string]string{"org.opencontainers.image.version": "1.2.0", "empty": ""})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Push(t.Context(), reference(t, "oci://%s/iot/overheat:stable", host), want, map[string]string{"org.opencontainers.image.version": "1.2.0"})
	if err != nil || again != first {
		t.Fatalf("the same function is %v and %v, %v", first, again, err)
	}
	for _, r := range []oci.Reference{reference(t, "oci://%s/iot/overheat:1.2.0", host), first} {
		at, got, err := c.Pull(t.Context(), r)
		if err != nil || at != first || !bytes.Equal(got.Module, want.Module) || string(got.Source) != source {
			t.Errorf("pulled %v, %q, %d bytes: %v", at, got.Source, len(got.Module), err)
		}
	}
	newer := want
	newer.Module = append(bytes.Clone(want.Module), '2')
	if _, err := c.Push(t.Context(), reference(t, "oci://%s/iot/overheat:stable", host), newer, nil); err != nil {
		t.Fatal(err)
	}
	if at, got, err := c.Pull(t.Context(), first); err != nil || at != first || !bytes.Equal(got.Module, want.Module) {
		t.Errorf("a moved tag changed what a digest means: %v %v", at, err)
	}
	if at, _, err := c.Pull(t.Context(), reference(t, "oci://%s/iot/overheat:stable", host)); err != nil || at == first {
		t.Errorf("the tag is still %v, %v", at, err)
	}
}

// The layout is the one other programs know.
func TestLayout(t *testing.T) {
	host := dockerregistry.Run(t, dockerregistry.Options{}).Host
	at, err := client(t, oci.Options{}).Push(t.Context(), reference(t, "oci://%s/x:1", host), artifact(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/x/manifests/"+at.Digest, nil)
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m struct {
		MediaType string
		Config    struct{ MediaType string }
		Layers    []struct{ MediaType, Digest string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	if m.MediaType != "application/vnd.oci.image.manifest.v1+json" || m.Config.MediaType != "application/vnd.wasm.config.v0+json" || len(m.Layers) != 1 ||
		m.Layers[0].MediaType != "application/wasm" || m.Layers[0].Digest != function.DigestOf(artifact().Module).String() {
		t.Errorf("the layout is %+v", m)
	}
}

func login(t testing.TB, host, user, password string) string {
	t.Helper()
	dir := t.TempDir()
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	text := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, secret)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// helper puts a Docker credential helper on the PATH, which answers for every registry.
func helper(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = get ] || exit 1\ncat >/dev/null\necho '{\"Username\": %q, \"Secret\": %q}'\n", dockerregistry.User, dockerregistry.Password)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-mayflytest"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore": "mayflytest"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestPassword(t *testing.T) {
	host := dockerregistry.Run(t, dockerregistry.Options{Locked: true}).Host
	ref := reference(t, "oci://%s/iot/overheat:1", host)
	for name, dir := range map[string]string{
		"nobody": "", "no file": t.TempDir(), "wrong": login(t, host, dockerregistry.User, "guess"), "of another": login(t, "other.example", dockerregistry.User, dockerregistry.Password),
	} {
		_, err := client(t, oci.Options{DockerConfig: dir}).Push(t.Context(), ref, artifact(), nil)
		if function.KindOf(err) != "denied" || strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, dir := range map[string]string{"file": login(t, host, dockerregistry.User, dockerregistry.Password), "helper": helper(t)} {
		c := client(t, oci.Options{DockerConfig: dir})
		at, err := c.Push(t.Context(), ref, artifact(), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, _, err := c.Pull(t.Context(), at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := client(t, oci.Options{}).Pull(t.Context(), ref); function.KindOf(err) != "denied" {
		t.Errorf("pulled without a password: %v", err)
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := oci.New(oci.Options{DockerConfig: bad}); err == nil {
		t.Error("a damaged config.json says nothing")
	}
}

// [R1] A blob that was changed on the registry's disk is not a module.
func TestDamagedOnTheRegistry(t *testing.T) {
	r := dockerregistry.Run(t, dockerregistry.Options{})
	host, root := r.Host, r.Root
	c := client(t, oci.Options{})
	at, err := c.Push(t.Context(), reference(t, "oci://%s/x:1", host), artifact(), nil)
	if err != nil {
		t.Fatal(err)
	}
	hex := strings.TrimPrefix(function.DigestOf(artifact().Module).String(), "sha256:")
	file := filepath.Join(root, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[100] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Pull(t.Context(), at); function.KindOf(err) != "digest" {
		t.Errorf("a changed module: %v", err)
	}
}

func TestAbsent(t *testing.T) {
	host := dockerregistry.Run(t, dockerregistry.Options{}).Host
	c := client(t, oci.Options{})
	if _, _, err := c.Pull(t.Context(), reference(t, "oci://%s/nobody:1", host)); function.KindOf(err) != "not-found" {
		t.Error(err)
	}
	gone := reference(t, "oci://127.0.0.1:1/x:1")
	if _, _, err := c.Pull(t.Context(), gone); function.KindOf(err) != "unavailable" {
		t.Error(err)
	}
	if _, err := c.Push(t.Context(), gone.At(function.DigestOf(nil).String()), artifact(), nil); function.KindOf(err) != "invalid" {
		t.Error(err)
	}
}
