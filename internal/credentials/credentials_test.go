package credentials

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func all(r io.Reader) ([]string, error) {
	var lines []string
	err := Lines(r, func(line string) error {
		if line == "bad" {
			return io.ErrUnexpectedEOF
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

func TestLoadRefusesOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := Load(path, all); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for mode, refused := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o400: false, 0o660: true, 0o644: true, 0o602: true, 0o610: false, 0o601: true} {
		if err := os.WriteFile(path, []byte(" a b \n\n# no\nc"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		lines, err := Load(path, all)
		if errors.Is(err, ErrOpen) != refused || !refused && !slices.Equal(lines, []string{"a b", "c"}) {
			t.Errorf("%v: %q, %v", mode, lines, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinesNameTheirNumber(t *testing.T) {
	_, err := all(strings.NewReader("a\n\nbad\n"))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "line 3: ") {
		t.Error(err)
	}
	if _, err := all(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line of a megabyte was read")
	}
}

func TestTokens(t *testing.T) {
	token, hash := NewToken()
	if other, _ := NewToken(); other == token || len(token) != 43 {
		t.Errorf("tokens %q and %q", token, other)
	}
	if sum, err := ParseSum(hash); err != nil || sum != TokenSum(token) {
		t.Errorf("%x, %v", sum, err)
	}
	for _, bad := range []string{"", "sha256:", hash[:70], hash + "00", "md5:" + hash[7:], strings.Replace(hash, hash[8:9], "g", 1)} {
		if _, err := ParseSum(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
