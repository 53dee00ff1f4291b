// Package credentials reads files that say who may come in: what they may look like, and who else may read them. Every such file has
// one entry or word list to a line; blank lines and lines that begin with # mean nothing.
package credentials

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// ErrOpen is wrapped when others than a file's owner and group may read it, or others than its owner may change it.
var ErrOpen = errors.New("others can read or change what is in it")

// Load reads the file at path by parse. It refuses one that others than its owner and group may read or that others than its owner may
// write, with ErrOpen: chmod 640 puts it right.
func Load[T any](path string, parse func(io.Reader) (T, error)) (none T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return none, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return none, err
	}
	if mode := info.Mode(); mode&0o027 != 0 {
		return none, fmt.Errorf("%w: its mode is %v", ErrOpen, mode&fs.ModePerm)
	}
	return parse(f)
}

// Lines calls each with every line that means something, without surrounding spaces. An error names the line.
func Lines(r io.Reader, each func(line string) error) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := each(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// NewToken returns a token of 256 random bits and the text that stands for it in a file: with so much chance in it a plain hash
// needs no salt.
func NewToken() (token, hash string) {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(b)
	sum := TokenSum(token)
	return token, sumPrefix + hex.EncodeToString(sum[:])
}

// TokenSum is the hash of a token.
func TokenSum(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

const sumPrefix = "sha256:"

// ParseSum reads the text that stands for a token.
func ParseSum(text string) (sum [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(text, sumPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != sha256.Size {
		return sum, errors.New("a hash is sha256: and 64 hexadecimal digits")
	}
	return [sha256.Size]byte(b), nil
}
