package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/function"
	"mayfly/internal/durable"
)

// MaxAccessTokens is how many API tokens a node keeps.
const MaxAccessTokens = 256

// apiToken is what a token starts with, so that people and scanners for secrets know it: mayflyapi.ID.SECRET, and after
// another dot the pin of the authority that signs the node's certificate, where there is one.
const apiToken = "mayflyapi"

// Caller is who was let in from afar.
type Caller struct {
	Name  string // for the log
	Scope string // ScopeRead, ScopeDeploy or ScopeAdmin
}

// Tokens are the API tokens of one node, in a file of mode 0600 that holds hashes only: who reads it learns no token. Safe for
// concurrent use; two processes must not share a file. See DESIGN.md.
type Tokens struct {
	file string
	pin  func() []byte
	now  func() time.Time

	mu  sync.RWMutex
	all []storedToken // oldest first
}

// storedToken is a token at rest.
type storedToken struct {
	AccessToken
	Hash string `json:"hash"` // SHA-256 of the secret, in hexadecimal: 32 random bytes need no slow hash
}

var _ Access = (*Tokens)(nil)

// OpenTokens reads the tokens in file, which need not exist. A file that is damaged is an error: opening without them would look
// like a revocation of all. pin returns the SHA-256 of the certificate of the authority that signs the node's own, by which
// who holds a token knows the node; nil, or a pin without bytes, leaves that to the caller's --ca.
func OpenTokens(file string, pin func() []byte, now func() time.Time) (*Tokens, error) {
	if pin == nil {
		pin = func() []byte { return nil }
	}
	t := &Tokens{file: file, pin: pin, now: now}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t.all)
	}
	if err != nil {
		return nil, &function.Error{
			Op: "open", Subject: file, Class: function.ClassFatal, Kind: KindInvalid, Err: err,
			Hint: "restore it from a backup, or remove it: then no API token is valid any more",
		}
	}
	return t, nil
}

func (r *AccessRequest) check() error {
	switch {
	case len(r.Name) == 0 || len(r.Name) > 100:
		return invalid(errors.New("a token has a name of 1 to 100 bytes, by which you know it again"))
	case scopeRank(r.Scope) == 0:
		return invalid(fmt.Errorf("scope %q: want %s, %s or %s", r.Scope, ScopeRead, ScopeDeploy, ScopeAdmin))
	case r.TTLMS < 0:
		return invalid(errors.New("a token cannot end before it begins"))
	}
	return nil
}

// scopeRank orders scopes; 0 is none of them.
func scopeRank(scope string) int {
	return 1 + slices.Index([]string{ScopeRead, ScopeDeploy, ScopeAdmin}, scope)
}

// Create implements Access.
func (t *Tokens) Create(r AccessRequest) (AccessToken, error) {
	if err := r.check(); err != nil {
		return AccessToken{}, err
	}
	secret, id := make([]byte, 32), make([]byte, 6)
	_, _ = rand.Read(secret) // it cannot fail: crypto/rand
	_, _ = rand.Read(id)
	made := AccessToken{ID: hex.EncodeToString(id), Name: r.Name, Scope: r.Scope, Created: t.now().UTC()}
	if r.TTLMS > 0 {
		made.Expires = made.Created.Add(time.Duration(r.TTLMS) * time.Millisecond)
	}
	sum := sha256.Sum256(secret)
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := slices.DeleteFunc(slices.Clone(t.all), func(s storedToken) bool { return s.expired(made.Created) && len(t.all) >= MaxAccessTokens })
	if len(keep) >= MaxAccessTokens {
		return AccessToken{}, &function.Error{
			Op: "create", Subject: "API token", Class: function.ClassReject, Kind: KindConflict,
			Err: fmt.Errorf("there are %d already", len(keep)), Hint: "mayfly access ls, then: mayfly access revoke ID",
		}
	}
	if err := t.replace(append(keep, storedToken{made, hex.EncodeToString(sum[:])})); err != nil {
		return AccessToken{}, err
	}
	parts := []string{apiToken, made.ID, base64.RawURLEncoding.EncodeToString(secret)}
	if pin := t.pin(); len(pin) > 0 {
		parts = append(parts, base64.RawURLEncoding.EncodeToString(pin))
	}
	made.Token = strings.Join(parts, ".")
	return made, nil
}

func (t *AccessToken) expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// List implements Access.
func (t *Tokens) List() []AccessToken {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []AccessToken
	for i := range t.all {
		out = append(out, t.all[i].AccessToken)
	}
	return out
}

// Revoke implements Access.
func (t *Tokens) Revoke(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := slices.DeleteFunc(slices.Clone(t.all), func(s storedToken) bool { return s.ID == id })
	if len(keep) == len(t.all) {
		return &function.Error{
			Op: "revoke", Subject: id, Class: function.ClassReject, Kind: KindNotFound,
			Err: errors.New("there is no such API token"), Hint: "mayfly access ls",
		}
	}
	return t.replace(keep)
}

// Authenticate returns whose token it is, or KindDenied. It says the same of a token that never was, is revoked or has the wrong
// secret, after the same time.
func (t *Tokens) Authenticate(token string) (Caller, error) {
	denied := &function.Error{
		Op: "enter", Subject: "API token", Class: function.ClassReject, Kind: KindDenied,
		Err: errors.New("it is not valid on this node"), Hint: "make one on the device: mayfly access create NAME --scope read",
	}
	parts := strings.Split(token, ".")
	if len(parts) < 3 || len(parts) > 4 || parts[0] != apiToken {
		return Caller{}, denied
	}
	secret, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return Caller{}, denied
	}
	sum := sha256.Sum256(secret)
	given := []byte(hex.EncodeToString(sum[:]))
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range t.all {
		s := &t.all[i]
		if s.ID != parts[1] || subtle.ConstantTimeCompare([]byte(s.Hash), given) != 1 {
			continue
		}
		if s.expired(t.now()) {
			denied.Err = fmt.Errorf("it expired on %s", s.Expires.Format(time.RFC3339))
			return Caller{}, denied
		}
		return Caller{Name: s.Name, Scope: s.Scope}, nil
	}
	return Caller{}, denied
}

// replace makes the file appear whole with all, or not at all; the caller holds the lock.
func (t *Tokens) replace(all []storedToken) error {
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = durable.Write(t.file, append(text, '\n'))
	}
	if err != nil {
		return &function.Error{
			Op: "write", Subject: t.file, Class: function.ClassRetry, Kind: KindUnavailable, Err: err, Hint: "is there space, and may the agent write there?",
		}
	}
	t.all = all
	return nil
}
