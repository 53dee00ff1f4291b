package admin

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/function"
)

type testClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func openTokens(t *testing.T, file string) (*Tokens, *testClock) {
	t.Helper()
	clock := &testClock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	tokens, err := OpenTokens(file, nil, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, clock
}

func TestTokenLife(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	tokens, clock := openTokens(t, file)
	made, err := tokens.Create(AccessRequest{Name: "ci", Scope: ScopeDeploy, TTLMS: time.Hour.Milliseconds()})
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range []func() *Tokens{
		func() *Tokens { return tokens },
		func() *Tokens { again, _ := openTokens(t, file); return again },
	} {
		if c, err := open().Authenticate(made.Token); err != nil || c != (Caller{"ci", ScopeDeploy}) {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	other, err := tokens.Create(AccessRequest{Name: "other", Scope: ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "a word": "x", "no secret": "mayflyapi." + made.ID + ".", "another's secret": "mayflyapi." + made.ID + strings.TrimPrefix(other.Token, "mayflyapi."+other.ID),
		"another's id": "mayflyapi." + other.ID + strings.TrimPrefix(made.Token, "mayflyapi."+made.ID), "a space": made.Token + " ",
		"not base64": "mayflyapi." + made.ID + ".***", "five parts": made.Token + ".a.b", "another kind": strings.Replace(made.Token, "api", "join", 1),
	} {
		if _, err := tokens.Authenticate(text); function.KindOf(err) != KindDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	clock.pass(time.Hour)
	if _, err := tokens.Authenticate(made.Token); function.KindOf(err) != KindDenied || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its time: %v", err)
	}
	if err := tokens.Revoke(other.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Authenticate(other.Token); function.KindOf(err) != KindDenied {
		t.Errorf("after its revocation: %v", err)
	}
	if err := tokens.Revoke(other.ID); function.KindOf(err) != KindNotFound {
		t.Errorf("twice: %v", err)
	}
}

// Whoever reads the disk has no token ([O5]).
func TestTokensAreNotOnDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	pin := []byte(strings.Repeat("p", 32))
	tokens, err := OpenTokens(file, func() []byte { return pin }, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tokens.Create(AccessRequest{Name: "ci", Scope: ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(made.Token, ".")
	if len(parts) != 4 || parts[3] != base64.RawURLEncoding.EncodeToString(pin) {
		t.Fatalf("%q does not pin the authority", made.Token)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), parts[2]) || !strings.Contains(string(text), made.ID) {
		t.Errorf("on disk is\n%s", text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, l := range tokens.List() {
		if l.Token != "" {
			t.Error("a list holds a secret")
		}
	}
	if _, err := tokens.Authenticate(made.Token); err != nil {
		t.Error(err)
	}
}

// A change that does not get to the disk has not happened, in memory either; what is half there is refused ([O5]).
func TestTokensSurviveAnyCut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "tokens.json")
	tokens, _ := openTokens(t, file)
	made, err := tokens.Create(AccessRequest{Name: "ci", Scope: ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Create(AccessRequest{Name: "lost", Scope: ScopeRead}); function.KindOf(err) != KindUnavailable || len(tokens.List()) != 1 {
		t.Errorf("a token that is not on disk was made: %v, %v", err, tokens.List())
	}
	if err := tokens.Revoke(made.ID); err == nil || len(tokens.List()) != 1 {
		t.Errorf("a revocation that is not on disk was made: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range len(text) - 2 { // without the last bracket at least; the line break may be missing
		if err := os.WriteFile(file, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokens(file, nil, time.Now); err == nil {
			t.Fatalf("the first %d bytes were taken for all", n)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestTokensAreBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	_, clock := openTokens(t, file)
	var full []storedToken
	for i := range MaxAccessTokens {
		full = append(full, storedToken{AccessToken: AccessToken{ID: string(rune('a' + i)), Name: "n", Scope: ScopeRead, Created: clock.now(), Expires: clock.now().Add(time.Hour)}})
	}
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, clock := openTokens(t, file)
	if _, err := tokens.Create(AccessRequest{Name: "more", Scope: ScopeRead}); function.KindOf(err) != KindConflict {
		t.Fatalf("one too many: %v", err)
	}
	clock.pass(2 * time.Hour) // those that expired make room
	if _, err := tokens.Create(AccessRequest{Name: "more", Scope: ScopeRead}); err != nil || len(tokens.List()) != 1 {
		t.Fatalf("%v, %d are kept", err, len(tokens.List()))
	}
	for _, r := range []AccessRequest{{Scope: ScopeRead}, {Name: "n"}, {Name: "n", Scope: "root"}, {Name: "n", Scope: ScopeRead, TTLMS: -1}} {
		if _, err := tokens.Create(r); function.KindOf(err) != KindInvalid {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
