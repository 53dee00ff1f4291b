package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mayfly/internal/credentials"
)

// Tokens are the names and hashes of one tokens file: one to a line,
//
//	<name> sha256:<64 hexadecimal digits> [functions=a,b] [expires=2027-01-31T00:00:00Z]
//
// and # begins a comment. Without functions a token is good for all of them, without expires for ever. A token has 256 random bits, so its
// plain hash needs no salt. Safe for concurrent use.
type Tokens struct {
	grants func() []grant
	file   *watched[[]grant] // nil = no file
}

// grant is one line.
type grant struct {
	name      string
	sum       [sha256.Size]byte
	functions []string  // nil = all
	expires   time.Time // zero = never
}

// NewToken returns a new token and the text that stands for it in a tokens file after its name.
func NewToken() (token, hash string) { return credentials.NewToken() }

// LoadTokens reads a tokens file, and reads it again when it changed. It refuses one that others than its owner and group may read or that
// others may write.
func LoadTokens(path string) (*Tokens, error) {
	file, err := watch([]string{path}, func() ([]grant, error) { return credentials.Load(path, parseGrants) })
	if err != nil {
		hint := ""
		if errors.Is(err, credentials.ErrOpen) {
			hint = "chmod 640 " + path
		}
		return nil, configError(path, err, hint)
	}
	return &Tokens{grants: file.get, file: file}, nil
}

// ParseTokens reads the text of a tokens file. Its errors name the line.
func ParseTokens(r io.Reader) (*Tokens, error) {
	list, err := parseGrants(r)
	if err != nil {
		return nil, err
	}
	return &Tokens{grants: func() []grant { return list }}, nil
}

// Refresh implements Refresher. A file that cannot be read leaves the tokens as they were.
func (t *Tokens) Refresh() (changed bool, err error) {
	if t.file == nil {
		return false, nil
	}
	return t.file.refresh()
}

func parseGrants(r io.Reader) ([]grant, error) {
	var list []grant
	err := credentials.Lines(r, func(line string) error {
		g, err := parseGrant(strings.Fields(line))
		if err == nil && slices.ContainsFunc(list, func(o grant) bool { return o.name == g.name }) {
			err = fmt.Errorf("token %q is there twice", g.name)
		}
		list = append(list, g)
		return err
	})
	if err == nil && len(list) == 0 {
		err = errors.New("no token in it: nobody could call")
	}
	return list, err
}

func parseGrant(field []string) (g grant, err error) {
	if len(field) < 2 {
		return g, errors.New("want a name and sha256:<hash>")
	}
	g.name = field[0]
	if g.sum, err = credentials.ParseSum(field[1]); err != nil {
		return g, fmt.Errorf("token %q: %w", g.name, err)
	}
	for _, more := range field[2:] {
		key, value, _ := strings.Cut(more, "=")
		switch {
		case key == "functions" && value != "" && g.functions == nil:
			g.functions = strings.Split(value, ",")
		case key == "expires" && g.expires.IsZero():
			if g.expires, err = time.Parse(time.RFC3339, value); err != nil {
				return g, fmt.Errorf("token %q: expires %q is not a time like 2027-01-31T00:00:00Z", g.name, value)
			}
		default:
			return g, fmt.Errorf("token %q: %q is not functions=a,b or expires=TIME, once each", g.name, more)
		}
	}
	return g, nil
}

// find returns the line of a token, which may be over or for other functions; nil when there is none. It takes the same time for
// all that are not known.
func (t *Tokens) find(token string) *grant {
	sum := credentials.TokenSum(token)
	var found *grant
	list := t.grants()
	for i := range list {
		if subtle.ConstantTimeCompare(sum[:], list[i].sum[:]) == 1 {
			found = &list[i]
		}
	}
	return found
}

// covers says whether the token may run a function.
func (g *grant) covers(function string) bool {
	return g.functions == nil || slices.Contains(g.functions, function)
}
