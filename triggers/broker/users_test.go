package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testHash = "pbkdf2-sha256:1000:AAAAAAAAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestHashPasswordRoundTrip(t *testing.T) {
	a, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := hashPassword("secret", 1000)
	if a == b {
		t.Error("two hashes of one password are equal: no salt")
	}
	h, err := parseHash(a)
	if err != nil {
		t.Fatal(err)
	}
	if !h.matches([]byte("secret")) || h.matches([]byte("Secret")) || h.matches(nil) {
		t.Error("the hash does not tell its password from others")
	}
}

func TestParseUsersFaults(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "# nobody\n", "nobody could connect"},
		{"word before user", "publish a\n", `line 1: "publish" before the first user`},
		{"unknown word", "user a\n  topic x\n", `line 2: unknown word "topic"`},
		{"plain password", "user a\n  password secret\n", "line 2: password is not a hash"},
		{"weak hash", "user a\n  password pbkdf2-sha256:1:AAAAAAAAAAAAAAAAAAAAAA:AAAA\n", "iterations"},
		{"no password", "user a\n publish x\n", `user "a" has no password`},
		{"filter", "user a\n password " + testHash + "\n publish a/#/b\n", "line 3: "},
		{"twice", "user a\nuser a\n", `line 2: user "a" is there twice`},
		{"no name", "user\n", "line 1: a user's name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseUsers(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestUsersPermissions(t *testing.T) {
	hash, _ := hashPassword("pw", 1000)
	u, err := ParseUsers(strings.NewReader("user s\n password " + hash + "\n publish plant/1/#\n subscribe plant/1/cmd\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := u.authenticate([]byte("s"), []byte("pw"))
	if u.authenticate([]byte("s"), []byte("pw")) != s { // now known
		t.Error("the second time it is another")
	}
	if s == nil || u.authenticate([]byte("s"), []byte("x")) != nil || u.authenticate([]byte("t"), []byte("pw")) != nil {
		t.Fatal("authentication")
	}
	if s.may("plant/1/cmd/secret", false) || !s.may("plant/1/temp", true) || s.may("plant/2/temp", true) || s.may("plant/1/temp", false) || !s.may("plant/1/cmd", false) ||
		s.may("plant/1/#", false) {
		t.Error("permissions")
	}
}

func BenchmarkHash(b *testing.B) {
	text, err := HashPassword("pw")
	if err != nil {
		b.Fatal(err)
	}
	h, err := parseHash(text)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !h.matches([]byte("pw")) {
			b.Fatal("no match")
		}
	}
}

func TestLoadUsersRefusesOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	text := []byte("user a\n password " + testHash + "\n")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o644: false, 0o660: false} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadUsers(path); (err == nil) != ok {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}
