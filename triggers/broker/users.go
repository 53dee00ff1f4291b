package broker

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"mayfly/event"
	"mayfly/internal/credentials"
)

const (
	hashName       = "pbkdf2-sha256"
	hashIterations = 50_000 // a site full of devices comes back at once after a power cut
	maxIterations  = 10_000_000
	maxUsers       = 10_000
)

// Users are the names, password hashes and topic permissions of one users file. Safe for concurrent use.
//
//	# comment
//	user sensor-1
//	    password  pbkdf2-sha256:100000:<salt>:<hash>     what HashPassword returns
//	    publish   plant/1/#                              topic filters, one to a line
//	    subscribe plant/1/cmd
//
// A user without a publish line publishes nowhere, one without a subscribe line receives nothing.
type Users struct {
	byName map[string]*user
	decoy  passwordHash  // checked for unknown names, so that they take as long as known ones
	hashes chan struct{} // bounds the cores that strangers can keep busy

	mu    sync.Mutex
	known map[string][sha256.Size]byte // by name: keyed quick hash of the password that was right, so that it is cheap again
	key   []byte
}

type user struct {
	name      string
	password  passwordHash
	publish   []string
	subscribe []string
}

type passwordHash struct {
	iterations int
	salt, sum  []byte
}

// HashPassword returns the text that stands for a password in a users file: PBKDF2 (RFC 8018) with HMAC-SHA-256 and 16
// random bytes of salt.
func HashPassword(password string) (string, error) { return hashPassword(password, hashIterations) }

func hashPassword(password string, iterations int) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails (crypto/rand)
	sum, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return fmt.Sprintf("%s:%d:%s:%s", hashName, iterations, encode(salt), encode(sum)), nil
}

func encode(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

func parseHash(s string) (passwordHash, error) {
	var h passwordHash
	part := strings.Split(s, ":")
	if len(part) != 4 || part[0] != hashName {
		return h, fmt.Errorf("password is not a hash %s:<iterations>:<salt>:<hash>", hashName)
	}
	var err, err1, err2 error
	h.iterations, err = strconv.Atoi(part[1])
	h.salt, err1 = base64.RawStdEncoding.DecodeString(part[2])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(part[3])
	switch {
	case err != nil || h.iterations < 1000 || h.iterations > maxIterations:
		return h, fmt.Errorf("password hash: iterations %q must be from 1,000 to 10,000,000", part[1])
	case err1 != nil || len(h.salt) < 8:
		return h, errors.New("password hash: the salt must be at least 8 bytes of base64 without padding")
	case err2 != nil || len(h.sum) != sha256.Size:
		return h, errors.New("password hash: the hash must be 32 bytes of base64 without padding")
	}
	return h, nil
}

func (h *passwordHash) matches(password []byte) bool {
	sum, err := pbkdf2.Key(sha256.New, string(password), h.salt, h.iterations, sha256.Size)
	return err == nil && subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// LoadUsers reads a users file. It refuses one that others than its owner and group may read or that others may write.
func LoadUsers(path string) (*Users, error) {
	u, err := credentials.Load(path, ParseUsers)
	if err != nil {
		hint := ""
		if errors.Is(err, credentials.ErrOpen) {
			hint = "chmod 640 " + path
		}
		return nil, configError(path, err, hint)
	}
	return u, nil
}

// ParseUsers reads the text of a users file. Its errors name the line.
func ParseUsers(r io.Reader) (*Users, error) {
	u := &Users{byName: map[string]*user{}, hashes: make(chan struct{}, 2), known: map[string][sha256.Size]byte{}, key: make([]byte, 32)}
	rand.Read(u.key) // never fails (crypto/rand)
	u.decoy = passwordHash{iterations: hashIterations, salt: make([]byte, 16), sum: make([]byte, sha256.Size)}
	var current *user
	err := credentials.Lines(r, func(line string) (err error) {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case word == "user":
			current, err = u.add(rest)
		case current == nil:
			err = fmt.Errorf("%q before the first user", word)
		default:
			err = current.set(word, rest)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, one := range u.byName {
		if one.password.iterations == 0 {
			return nil, fmt.Errorf("user %q has no password", one.name)
		}
	}
	if len(u.byName) == 0 {
		return nil, errors.New("no user in it: nobody could connect")
	}
	return u, nil
}

func (u *Users) add(name string) (*user, error) {
	switch {
	case name == "" || len(name) > 256:
		return nil, errors.New("a user's name has 1 to 256 bytes")
	case u.byName[name] != nil:
		return nil, fmt.Errorf("user %q is there twice", name)
	case len(u.byName) == maxUsers:
		return nil, fmt.Errorf("more than %d users", maxUsers)
	}
	one := &user{name: name}
	u.byName[name] = one
	return one, nil
}

func (one *user) set(word, rest string) (err error) {
	switch word {
	case "password":
		one.password, err = parseHash(rest)
	case "publish":
		one.publish = append(one.publish, rest)
		err = event.CheckFilter(rest)
	case "subscribe":
		one.subscribe = append(one.subscribe, rest)
		err = event.CheckFilter(rest)
	default:
		err = fmt.Errorf("unknown word %q; user, password, publish and subscribe are known", word)
	}
	return err
}

// authenticate returns the user of that name and password, or nil.
func (u *Users) authenticate(name, password []byte) *user {
	one := u.byName[string(name)]
	quick := hmac.New(sha256.New, u.key)
	quick.Write(password)
	sum := [sha256.Size]byte(quick.Sum(nil))
	u.mu.Lock()
	right, ok := u.known[string(name)]
	u.mu.Unlock()
	if ok && hmac.Equal(sum[:], right[:]) {
		return one
	}
	u.hashes <- struct{}{}
	defer func() { <-u.hashes }()
	if one == nil {
		u.decoy.matches(password)
		return nil
	}
	if !one.password.matches(password) {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[one.name] = sum
	return one
}

// may says whether the user may publish to the topic, or receive what the topic or filter stands for.
func (one *user) may(topic string, publish bool) bool {
	permitted := one.subscribe
	if publish {
		permitted = one.publish
	}
	return slices.ContainsFunc(permitted, func(filter string) bool { return event.Covers(filter, topic) })
}
