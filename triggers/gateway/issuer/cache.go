package issuer

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cache remembers which tokens were good: a signature costs 30 to 100 us, a hash one. An entry is good until the token is over and
// only with the keys it was checked with. It keeps hashes, not tokens.
type cache struct {
	mu         sync.RWMutex
	generation uint64
	known      map[[sha256.Size]byte]verified
}

type verified struct {
	id         *Identity
	generation uint64 // of the keys
}

func (c *cache) get(token string, set *keySet, now time.Time) *Identity {
	sum := sha256.Sum256([]byte(token))
	c.mu.RLock()
	v := c.known[sum]
	c.mu.RUnlock()
	if v.id == nil || v.generation != set.generation || !now.Before(v.id.Expires) || now.Before(v.id.notBefore) {
		return nil
	}
	return v.id
}

func (c *cache) put(token string, set *keySet, id *Identity) {
	sum := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[[sha256.Size]byte]verified{}
	}
	for old := range c.known { // any: who is turned out costs one signature
		if len(c.known) < maxVerified {
			break
		}
		delete(c.known, old)
	}
	c.known[sum] = verified{id, set.generation}
}

// next forgets everything and returns the number of the next set of keys.
func (c *cache) next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
	c.generation++
	return c.generation
}
