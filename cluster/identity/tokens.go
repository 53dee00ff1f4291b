package identity

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"
)

const (
	tokensFile = "tokens"
	tokensWhat = "tokens"

	maxTokens   = 1000
	maxUses     = 1000
	maxTokenTTL = 366 * 24 * time.Hour
	// keepExpired is how long an expired token is still listed.
	keepExpired = 7 * 24 * time.Hour

	// maxFailed is how many attempts with a wrong secret a token survives in a minute; all tokens that do not exist count as one.
	maxFailed = 20
)

// ErrAttempts says that too many joins failed within a minute.
var ErrAttempts = errors.New("too many failed attempts to join; wait a minute")

// TokenOptions say what a token is good for.
type TokenOptions struct {
	TTL    time.Duration // up to a year
	Uses   int           // how many nodes may join with it, up to 1,000
	Name   string        // optional: what the node will be called; such a token has one use
	Labels []string      // optional: what will be said of the nodes
}

// TokenInfo is what is known of a token that was made: all but its secret.
type TokenInfo struct {
	ID       string
	Expires  time.Time
	Uses     int
	Admitted []string // ids of the nodes that joined with it
	Name     string
	Labels   []string
}

// tokenRecord is how a token is kept. Its secret is not.
type tokenRecord struct {
	Hash     []byte   `json:"hash"`
	Expires  int64    `json:"expires"` // seconds since 1970
	Uses     int      `json:"uses"`
	Admitted []string `json:"admitted,omitempty"`
	Name     string   `json:"name,omitempty"`
	Labels   []string `json:"labels,omitempty"`
}

func loadTokens(dir string) (map[string]tokenRecord, error) {
	tokens := map[string]tokenRecord{}
	err := readSealed(dir, tokensFile, tokensWhat, &tokens)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tokens, nil
	case errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("join tokens: %w; remove the file and make new tokens: members lose nothing", err)
	case err != nil:
		return nil, fmt.Errorf("join tokens: %w", err)
	}
	return tokens, nil
}

// save replaces the tokens, durably. After an error they are as they were. The caller holds the lock.
func (a *Authority) save(tokens map[string]tokenRecord, now time.Time) error {
	maps.DeleteFunc(tokens, func(_ string, t tokenRecord) bool { return now.After(time.Unix(t.Expires, 0).Add(keepExpired)) })
	if err := writeSealed(a.dir, tokensFile, tokensWhat, tokens); err != nil {
		return fmt.Errorf("join tokens: %w", err)
	}
	a.tokens = tokens
	return nil
}

// CreateToken makes a token. It is the only time its secret is seen: what is kept is a hash.
func (a *Authority) CreateToken(o TokenOptions) (Token, error) {
	now, err := a.time()
	if err != nil {
		return Token{}, fmt.Errorf("join token: %w", err)
	}
	switch {
	case o.TTL < time.Second || o.TTL > maxTokenTTL:
		return Token{}, fmt.Errorf("join token: it is valid for 1s to %s, not %s", maxTokenTTL, o.TTL)
	case o.Uses < 1 || o.Uses > maxUses:
		return Token{}, fmt.Errorf("join token: it has 1 to %d uses, not %d", maxUses, o.Uses)
	case o.Name != "" && o.Uses > 1:
		return Token{}, fmt.Errorf("join token: %d nodes cannot all be called %q", o.Uses, o.Name)
	}
	if err := checkNames(o.Name, o.Labels); err != nil {
		return Token{}, fmt.Errorf("join token: %w", err)
	}
	random := make([]byte, tokenIDSize+secretSize)
	_, _ = rand.Read(random) // never fails: crypto/rand documents it
	t := Token{ca: sha256.Sum256(a.ca.Raw), id: spell(random[:tokenIDSize]), secret: random[tokenIDSize:]}
	a.mu.Lock()
	defer a.mu.Unlock()
	tokens := maps.Clone(a.tokens)
	if _, taken := tokens[t.id]; taken || len(tokens) >= maxTokens {
		return Token{}, fmt.Errorf("join token: there are %d already; revoke some", len(tokens))
	}
	tokens[t.id] = tokenRecord{Hash: t.hash(), Expires: now.Add(o.TTL).Unix(), Uses: o.Uses, Name: o.Name, Labels: slices.Clone(o.Labels)}
	if err := a.save(tokens, now); err != nil {
		return Token{}, err
	}
	return t, nil
}

// Tokens lists the tokens, sorted by when they expire; expired ones for a week.
func (a *Authority) Tokens() []TokenInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []TokenInfo
	for id, t := range a.tokens {
		all = append(all, TokenInfo{id, time.Unix(t.Expires, 0), t.Uses, slices.Clone(t.Admitted), t.Name, slices.Clone(t.Labels)})
	}
	slices.SortFunc(all, func(x, y TokenInfo) int { return cmp.Or(x.Expires.Compare(y.Expires), cmp.Compare(x.ID, y.ID)) })
	return all
}

// RevokeToken makes a token worthless. Who joined with it stays.
func (a *Authority) RevokeToken(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	tokens := maps.Clone(a.tokens)
	if _, found := tokens[id]; !found {
		return fmt.Errorf("join token %s: there is none of that id", id)
	}
	delete(tokens, id)
	return a.save(tokens, a.m.clock())
}

// Admit makes a node a member if its token says so. That the node used it is on disk before any certificate exists [I2]. A node
// whose answer was lost asks again and gets it, while the token is valid, without using it again. Errors wrap ErrToken,
// ErrAttempts, ErrRequest, ErrRevoked or ErrClock; anything else is this signer's own trouble.
func (a *Authority) Admit(r JoinRequest) (Grant, error) {
	g, err := a.admit(r)
	if err != nil {
		return Grant{}, fmt.Errorf("admit: %w", err)
	}
	return g, nil
}

func (a *Authority) admit(r JoinRequest) (Grant, error) {
	now, err := a.time()
	if err != nil {
		return Grant{}, err
	}
	t, err := ParseToken(r.Token)
	if err != nil {
		return Grant{}, err
	}
	if err := a.recognise(t, now); err != nil {
		return Grant{}, err
	}
	key, err := requestedKey(r.CSR)
	if err != nil {
		return Grant{}, err
	}
	record, err := a.count(t.id, key, now)
	if err != nil {
		return Grant{}, err
	}
	g, err := a.grant(key, now)
	g.Name, g.Labels = record.Name, record.Labels
	return g, err
}

// recognise says whether the secret is that of the token. A stranger learns nothing else, neither from the answer nor from how
// long it takes.
func (a *Authority) recognise(t Token, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	record, known := a.tokens[t.id]
	bucket := t.id
	if !known {
		bucket, record.Hash = "", make([]byte, sha256.Size)
	}
	if !a.failed.allow(bucket, now) {
		return ErrAttempts
	}
	if subtle.ConstantTimeCompare(record.Hash, t.hash()) != 1 || !known {
		a.failed.add(bucket, now)
		return fmt.Errorf("%w: this signer does not know it", ErrToken)
	}
	return nil
}

// count writes down that the node with this key uses the token, unless it did before.
func (a *Authority) count(id string, key ed25519.PublicKey, now time.Time) (tokenRecord, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	node := idOf(key)
	record, known := a.tokens[id]
	switch {
	case !known: // revoked since
		return record, fmt.Errorf("%w: this signer does not know it", ErrToken)
	case !now.Before(time.Unix(record.Expires, 0)):
		return record, fmt.Errorf("%w: it expired at %s", ErrToken, time.Unix(record.Expires, 0).UTC().Format(time.RFC3339))
	case a.m.Revoked(node):
		return record, fmt.Errorf("%w: %s; it can join with a new key only", ErrRevoked, node)
	case slices.Contains(record.Admitted, node):
		return record, nil
	case len(record.Admitted) >= record.Uses:
		return record, fmt.Errorf("%w: all its uses are spent", ErrToken)
	}
	record.Admitted = append(slices.Clip(record.Admitted), node)
	tokens := maps.Clone(a.tokens)
	tokens[id] = record
	return record, a.save(tokens, now)
}

// attempts counts failures by token within a minute.
type attempts map[string]failures

type failures struct {
	since time.Time
	n     int
}

func (f failures) over(now time.Time) bool {
	return now.Sub(f.since) >= time.Minute || now.Before(f.since) // a clock that was set back must not lock anybody out for years
}

func (a attempts) allow(token string, now time.Time) bool {
	f := a[token]
	return f.over(now) || f.n < maxFailed
}

func (a attempts) add(token string, now time.Time) {
	f := a[token]
	if f.over(now) {
		maps.DeleteFunc(a, func(_ string, old failures) bool { return old.over(now) })
		f = failures{since: now}
	}
	f.n++
	a[token] = f
}
