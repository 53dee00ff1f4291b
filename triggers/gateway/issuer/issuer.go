// Package issuer checks tokens of one OpenID Connect provider with keys it keeps itself: fetched from where the provider says
// (OpenID Connect Discovery 1.0), remembered on disk, refreshed, and not believed beyond a stated age. So tokens are checked without the
// provider being reachable, and a key that the provider withdraws is refused after a stated time [T4]. DESIGN.md walks through what can fail.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"mayfly/function"
)

// Config is what an operator says of a provider.
type Config struct {
	Name     string        // in manifests
	URL      string        // https, or http on loopback; exactly what the provider says of itself
	Audience []string      // a token must be meant for one of them; at least one
	CA       string        // PEM file of authorities; "" = the system's
	MaxAge   time.Duration // keys are believed so long after they were last fetched: 1 min to 90 days; 0 = 24 h
	Refresh  time.Duration // how often they are fetched, which is how long a withdrawn key may live on; 0 = 15 min, MaxAge/2 at most
	Leeway   time.Duration // between their clocks and ours; 0 = 30 s
	Dir      string        // where the keys are remembered
	Built    time.Time     // a time that is certainly over: while the clock shows less it is not believed
	Log      *slog.Logger  // nil = discard
}

// What we allow providers and callers.
const (
	maxToken    = 12 << 10        // bytes of a token
	maxVerified = 4096            // tokens remembered as verified
	askEvery    = time.Minute     // keys are fetched for an unknown key id at most so often
	askWait     = 5 * time.Second // how long a caller with an unknown key id waits for them
	firstRetry  = 2 * time.Second // after a fetch that failed, doubled up to Refresh
)

// Kinds of refusals, for callers and tests.
const (
	KindToken = "invalid-token" // class reject: the token is no good
	KindKeys  = "no-keys"       // class overload: we have no keys, or only such that are too old
	KindClock = "clock"         // class overload: our clock cannot be right
)

// Issuer checks tokens of one provider. Verify is safe for concurrent use.
type Issuer struct {
	c      Config
	now    func() time.Time
	client *http.Client
	parser *jwt.Parser
	keys   atomic.Pointer[keySet] // nil = none yet
	cache  cache

	mu     sync.Mutex
	asked  time.Time     // when somebody last asked for keys
	coming chan struct{} // closed when the fetch that was asked for is over; nil = none is
	ask    chan struct{}
	fault  error // of the last fetch
}

// New checks the configuration and reads the keys that are on disk. It asks nobody.
func New(c Config) (*Issuer, error) {
	if c.MaxAge == 0 {
		c.MaxAge = 24 * time.Hour
	}
	if c.Refresh == 0 {
		c.Refresh = 15 * time.Minute
	}
	c.Refresh = min(c.Refresh, c.MaxAge/2)
	if c.Leeway == 0 {
		c.Leeway = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("issuer", c.Name)
	if err := c.Check(); err != nil {
		return nil, c.fault(err)
	}
	i := &Issuer{c: c, now: time.Now, ask: make(chan struct{}, 1)}
	var err error
	if i.client, err = newClient(c.URL, c.CA); err != nil {
		return nil, c.fault(err)
	}
	i.parser = jwt.NewParser(
		jwt.WithValidMethods(algorithms()), jwt.WithIssuer(c.URL), jwt.WithAudience(c.Audience...), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(c.Leeway), jwt.WithTimeFunc(func() time.Time { return i.now() }), jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
	)
	if set, err := load(i.file(), c.URL); err != nil {
		c.Log.Warn("the remembered keys cannot be read and are fetched anew", "err", err)
	} else if set != nil {
		i.keys.Store(set)
	}
	return i, nil
}

// Check says what is wrong with c, defaults filled in, without reading a file.
func (c Config) Check() error {
	if c.Name == "" || strings.ContainsFunc(c.Name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return fmt.Errorf("%q: a name has letters, digits, _ and - only", c.Name)
	}
	if err := checkURL(c.URL); err != nil {
		return err
	}
	if len(c.Audience) == 0 {
		return errors.New("no audience: a token made for anybody would be let in")
	}
	if c.MaxAge < time.Minute || c.MaxAge > 90*24*time.Hour {
		return fmt.Errorf("max_age %v is not between 1m and 2160h", c.MaxAge)
	}
	return nil
}

func (c *Config) fault(err error) error {
	return &function.Error{Op: "configure issuer", Subject: c.Name, Class: function.ClassReject, Kind: "config", Err: err}
}

func (i *Issuer) file() string { return filepath.Join(i.c.Dir, i.c.Name+".json") }

// Verify says who a token is of. Its signature, issuer, audience, times, algorithm and key are checked, or were and are remembered. The
// error is a *function.Error: class reject when the token is no good, overload when we cannot tell now. The answer is shared: do
// not change it.
func (i *Issuer) Verify(ctx context.Context, token string) (*Identity, error) {
	now := i.now()
	set, err := i.believable(now)
	if err != nil {
		return nil, err
	}
	if len(token) > maxToken {
		return nil, i.refuse(fmt.Errorf("it has %d bytes, the most is %d", len(token), maxToken))
	}
	if id := i.cache.get(token, set, now); id != nil {
		return id, nil
	}
	id, err := i.parse(token, set)
	if unknown, ok := errors.AsType[*unknownKeyError](err); ok {
		fresh := i.fetchFor(ctx, unknown, set)
		if fresh == nil {
			return nil, i.refuse(err)
		}
		set = fresh
		id, err = i.parse(token, set)
	}
	if err != nil {
		return nil, i.refuse(err)
	}
	i.cache.put(token, set, id)
	return id, nil
}

// believable returns the keys if they and the clock can be believed. Keys that were fetched in the future mean that the clock went
// back: tokens that are over would be good again.
func (i *Issuer) believable(now time.Time) (*keySet, error) {
	set := i.keys.Load()
	switch {
	case now.Before(i.c.Built), set != nil && now.Add(i.c.Leeway).Before(set.fetched):
		return nil, &function.Error{
			Op: "check token of", Subject: i.c.Name, Class: function.ClassOverload, Kind: KindClock, After: 10 * time.Second,
			Err:  fmt.Errorf("the clock shows %s, which cannot be: it has not been set since the device started", now.UTC().Format(time.DateTime)),
			Hint: "timedatectl; is a time server reachable?",
		}
	case set == nil:
		return nil, i.keyless(errors.New("its keys have not been fetched yet"))
	case now.Sub(set.fetched) > i.c.MaxAge:
		return nil, i.keyless(fmt.Errorf("its keys were last fetched at %s and are believed for %v", set.fetched.UTC().Format(time.DateTime), i.c.MaxAge))
	}
	return set, nil
}

func (i *Issuer) keyless(why error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fault != nil {
		why = fmt.Errorf("%w: %w", why, i.fault)
	}
	return &function.Error{
		Op: "check token of", Subject: i.c.Name, Class: function.ClassOverload, Kind: KindKeys, Err: why, After: 5 * time.Second,
		Hint: "is " + i.c.URL + " reachable from this device?",
	}
}

func (i *Issuer) refuse(err error) error {
	return &function.Error{Op: "check token of", Subject: i.c.Name, Class: function.ClassReject, Kind: KindToken, Err: err}
}

// fetchFor gets the keys anew because a token names one that we do not have, and returns them; nil when they were asked for a short while
// ago, could not be had, or are what they were. So strangers who make up key ids cost the provider one request a minute.
func (i *Issuer) fetchFor(ctx context.Context, unknown *unknownKeyError, old *keySet) *keySet {
	i.mu.Lock()
	coming := i.coming
	if coming == nil {
		if now := time.Now(); !i.asked.IsZero() && now.Sub(i.asked) < askEvery {
			i.mu.Unlock()
			return nil
		}
		i.asked, i.coming = time.Now(), make(chan struct{})
		coming = i.coming
		i.ask <- struct{}{} // has room: there is one fetch at a time
	}
	i.mu.Unlock()
	patience := time.NewTimer(askWait)
	defer patience.Stop()
	select {
	case <-coming:
	case <-ctx.Done():
		return nil
	case <-patience.C:
		return nil
	}
	if set := i.keys.Load(); set != old && set != nil && set.keys[unknown.id] != nil {
		return set
	}
	return nil
}

// Run keeps the keys fresh until ctx ends. A provider that cannot be reached is tried again and again, logged once.
func (i *Issuer) Run(ctx context.Context) error {
	defer i.client.CloseIdleConnections()
	failed := 0
	timer := time.NewTimer(i.due())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-i.ask:
		case <-timer.C:
		}
		err := i.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := i.c.Refresh
		if err == nil {
			failed = 0
		} else {
			wait = min(wait, firstRetry<<min(failed, 20))
			if failed++; failed == 1 {
				i.c.Log.Warn("keys could not be fetched; those we have are used while they are young enough", "err", err)
			}
		}
		timer.Reset(wait)
	}
}

// due is how long the keys on disk are good without a look at the provider.
func (i *Issuer) due() time.Duration {
	set := i.keys.Load()
	if set == nil {
		return 0
	}
	age := i.now().Sub(set.fetched)
	if age < 0 {
		return 0
	}
	return max(0, i.c.Refresh-age)
}

// refresh fetches the keys, remembers them and lets go who waits for them.
func (i *Issuer) refresh(ctx context.Context) error {
	set, err := fetch(ctx, i.client, i.c.URL)
	if err == nil {
		set.fetched = i.now().Round(0) // wall time: it must count what the device slept
		if set.same(i.keys.Load()) {
			set.generation = i.keys.Load().generation
		} else {
			i.c.Log.Info("keys changed", "keys", len(set.keys))
			set.generation = i.cache.next()
		}
		i.keys.Store(set)
		if saveErr := save(i.file(), set); saveErr != nil {
			i.c.Log.Warn("keys could not be remembered; a restart without the provider will refuse its tokens", "err", saveErr)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = err
	if i.coming != nil {
		close(i.coming)
		i.coming = nil
	}
	return err
}

// Status is what is known of the provider's keys.
type Status struct {
	Name, URL string
	Keys      int
	Fetched   time.Time // zero = never
	Err       error     // of the last fetch
}

// Status returns a snapshot.
func (i *Issuer) Status() Status {
	s := Status{Name: i.c.Name, URL: i.c.URL}
	if set := i.keys.Load(); set != nil {
		s.Keys, s.Fetched = len(set.keys), set.fetched
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s.Err = i.fault
	return s
}

// URL returns the provider's.
func (i *Issuer) URL() string { return i.c.URL }
