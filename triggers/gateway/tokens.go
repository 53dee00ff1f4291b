package gateway

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Tokens are the names and hashes of one tokens file: one to a line, "<name> sha256:<64 hexadecimal digits>", # begins a
// comment. The tokens have 256 random bits, so their plain hash needs no salt. Immutable; safe for concurrent use.
type Tokens struct{ sums [][sha256.Size]byte }

// NewToken returns a new token and the text that stands for it in a tokens file after its name.
func NewToken() (token, hash string) {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(token))
	return token, "sha256:" + hex.EncodeToString(sum[:])
}

// LoadTokens reads a tokens file. It refuses one that others than its owner and group may read or that others may write.
func LoadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, configError(path, err, "")
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, configError(path, err, "")
	} else if info.Mode().Perm()&0o027 != 0 {
		return nil, configError(path, fmt.Errorf("mode %v lets others read or change tokens", info.Mode().Perm()), "chmod 640 "+path)
	}
	t, err := ParseTokens(f)
	if err != nil {
		return nil, configError(path, err, "")
	}
	return t, nil
}

// ParseTokens reads the text of a tokens file. Its errors name the line.
func ParseTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{}
	names := map[string]bool{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		field := strings.Fields(lines.Text())
		if len(field) == 0 || field[0][0] == '#' {
			continue
		}
		if len(field) != 2 {
			return nil, fmt.Errorf("line %d: want a name and sha256:<hash>", n)
		}
		if names[field[0]] {
			return nil, fmt.Errorf("line %d: token %q is there twice", n, field[0])
		}
		names[field[0]] = true
		text, ok := strings.CutPrefix(field[1], "sha256:")
		sum, err := hex.DecodeString(text)
		if !ok || err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("line %d: the hash of token %q is not sha256: and 64 hexadecimal digits", n, field[0])
		}
		t.sums = append(t.sums, [sha256.Size]byte(sum))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.sums) == 0 {
		return nil, errors.New("no token in it: nobody could call")
	}
	return t, nil
}

// allow says whether an Authorization header carries a known token. It takes the same time for all that do not.
func (t *Tokens) allow(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 6750, RFC 9110 section 11.1
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	known := 0
	for i := range t.sums {
		known |= subtle.ConstantTimeCompare(sum[:], t.sums[i][:])
	}
	return known == 1
}
