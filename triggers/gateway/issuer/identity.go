package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"mayfly/event"
)

// Identity is what a verified token says. Immutable.
type Identity struct {
	Issuer, Subject string
	Audience        []string
	Scopes          []string
	Claims          map[string]any // numbers as json.Number
	Expires         time.Time      // when it is refused, leeway included

	// Attrs are what a function is told: auth.iss, auth.sub, auth.scope and auth.claims.<name>, sorted by name. Claims with names or
	// values that are too long, and those beyond the bounds, are left out and auth.partial says so.
	Attrs []event.Attr

	notBefore time.Time
}

// Bounds of what functions are told.
const (
	maxClaims     = 32
	maxClaimName  = 64
	maxClaimValue = 1 << 10
	maxClaimBytes = 8 << 10
)

// unknownKeyError is about a token of a key that we do not have.
type unknownKeyError struct{ id string }

func (e *unknownKeyError) Error() string { return fmt.Sprintf("the issuer has no key %q", e.id) }

// parse checks a token against keys.
func (i *Issuer) parse(token string, set *keySet) (*Identity, error) {
	claims := jwt.MapClaims{}
	_, err := i.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return set.keyOf(t) })
	if unknown, ok := errors.AsType[*unknownKeyError](err); ok {
		return nil, unknown
	}
	if err != nil {
		return nil, err
	}
	return identity(claims, i.c.Leeway)
}

// keyOf finds the key a token must be signed with. The token names it; what it may be used for says the key.
func (s *keySet) keyOf(t *jwt.Token) (any, error) {
	if _, critical := t.Header["crit"]; critical { // RFC 7515 section 4.1.11: extensions we do not know
		return nil, errors.New("it asks for extensions that are not known here")
	}
	if kind, ok := t.Header["typ"].(string); ok && !slices.Contains([]string{"jwt", "at+jwt", "application/at+jwt"}, strings.ToLower(kind)) {
		return nil, fmt.Errorf("it is a %q, not an access or identity token", kind) // RFC 8725 section 3.11
	}
	id, ok := t.Header["kid"].(string)
	if !ok || id == "" || len(id) > 256 {
		return nil, errors.New("it does not name its key")
	}
	k := s.keys[id]
	if k == nil {
		return nil, &unknownKeyError{id}
	}
	if !slices.Contains(k.algorithms, t.Method.Alg()) {
		return nil, fmt.Errorf("its key is not for %s", t.Method.Alg())
	}
	return k.public, nil
}

// identity takes the claims of a token that was checked.
func identity(claims jwt.MapClaims, leeway time.Duration) (*Identity, error) {
	id := &Identity{Claims: claims}
	id.Issuer, _ = claims.GetIssuer()
	id.Subject, _ = claims.GetSubject()
	id.Audience, _ = claims.GetAudience()
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return nil, errors.New("it does not say when it is over")
	}
	id.Expires = expires.Add(leeway)
	if before, err := claims.GetNotBefore(); err == nil && before != nil {
		id.notBefore = before.Add(-leeway)
	}
	if id.Subject == "" || len(id.Subject) > 255 || !utf8.ValidString(id.Subject) { // OpenID Connect Core 1.0 section 2
		return nil, errors.New("its subject is missing, longer than 255 bytes or not UTF-8")
	}
	switch scope := claims["scope"].(type) {
	case string: // RFC 8693 section 4.2
		id.Scopes = strings.Fields(scope)
	case []any: // as some providers write it
		for _, s := range scope {
			if text, ok := s.(string); ok {
				id.Scopes = append(id.Scopes, text)
			}
		}
	}
	if id.Scopes == nil {
		if list, ok := claims["scp"].(string); ok {
			id.Scopes = strings.Fields(list)
		}
	}
	id.describe()
	return id, nil
}

// describe fills in Attrs.
func (id *Identity) describe() {
	id.Attrs = []event.Attr{{Name: "auth.iss", Value: id.Issuer}, {Name: "auth.sub", Value: id.Subject}}
	if len(id.Scopes) > 0 {
		id.Attrs = append(id.Attrs, event.Attr{Name: "auth.scope", Value: cut(strings.Join(id.Scopes, " "))})
	}
	left, count, partial := maxClaimBytes, 0, false
	for _, name := range slices.Sorted(maps.Keys(id.Claims)) {
		if slices.Contains([]string{"iss", "sub", "exp", "nbf", "iat", "jti", "scope", "scp", "at_hash", "c_hash", "nonce"}, name) {
			continue
		}
		value, err := ClaimText(id.Claims[name])
		if err != nil || len(name) > maxClaimName || !isClaimName(name) || len(value) > maxClaimValue || len(value) > left || count == maxClaims {
			partial = true
			continue
		}
		left, count = left-len(value), count+1
		id.Attrs = append(id.Attrs, event.Attr{Name: "auth.claims." + name, Value: value})
	}
	if partial {
		id.Attrs = append(id.Attrs, event.Attr{Name: "auth.partial", Value: "true"})
	}
}

func cut(s string) string { return s[:min(len(s), maxClaimValue)] }

func isClaimName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// ClaimText is a claim as text: strings as they are, everything else as JSON.
func ClaimText(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// Has says whether the claim of that name is value, or a list that has it. A name that is no claim is taken apart at its dots: a.b
// is b in the object a.
func (id *Identity) Has(name, value string) bool { return has(id.Claims, name, value) }

func has(claims map[string]any, name, value string) bool {
	if v, ok := claims[name]; ok {
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		return slices.ContainsFunc(list, func(v any) bool {
			switch v.(type) {
			case string, bool, json.Number:
				text, err := ClaimText(v)
				return err == nil && text == value
			}
			return false
		})
	}
	for at := 0; at < len(name); at++ {
		if inner, ok := claims[name[:at]].(map[string]any); ok && name[at] == '.' && has(inner, name[at+1:], value) {
			return true
		}
	}
	return false
}
