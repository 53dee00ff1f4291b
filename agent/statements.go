package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// wordsState is under which name the authority's statements are spread.
const wordsState = "authority"

// statements spreads what the cluster's authority says: keys of gossip, operators to obey, who was shut out. Gossip carries how far
// a node is and nothing of the contents; who is behind asks over mutual TLS. It implements cluster.State.
type statements struct {
	pool *pool
	ask  chan string // nodes that are further

	mu     sync.Mutex
	at     map[string]word     // how far the others are, by their own word
	passed map[string]progress // how far it was passed on that they are, each number the highest
}

// maxPassed is how many nodes are told apart by what is passed on: more than a pool has.
const maxPassed = 2048

// word is how far a node said it was, and when.
type word struct {
	progress
	when time.Time
}

func newStatements(p *pool) *statements {
	return &statements{pool: p, ask: make(chan string, 16), at: map[string]word{}, passed: map[string]progress{}}
}

// of returns how far a node said it was.
func (s *statements) of(node string) (word, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.at[node]
	return h, ok
}

// note remembers how far a node is. It is bounded by the nodes this one knows.
func (s *statements) note(node string, at progress) {
	if _, known := s.pool.known.calls(node); !known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[node] = word{at, time.Now()}
}

// progress is how far a node is.
type progress struct {
	keys, trust, revoked uint64
	hash                 [8]byte // of the ids of the revoked
}

const progressSize = 3*8 + 8

func (s *statements) progress() progress {
	m := s.pool.member
	at := progress{keys: m.Keys().Epoch, trust: m.Trust().Epoch}
	h := sha256.New()
	for _, r := range m.Revocations() {
		at.revoked++
		h.Write([]byte(r.Node))
	}
	copy(at.hash[:], h.Sum(nil))
	return at
}

// MarshalBinary implements cluster.State.
func (s *statements) MarshalBinary() ([]byte, error) {
	at := s.progress()
	b := binary.BigEndian.AppendUint64(nil, at.keys)
	b = binary.BigEndian.AppendUint64(b, at.trust)
	b = binary.BigEndian.AppendUint64(b, at.revoked)
	return append(b, at.hash[:]...), nil
}

var errProgress = errors.New("not a word about the authority's statements")

func parseProgress(b []byte) (at progress, err error) {
	if len(b) < progressSize {
		return at, errProgress
	}
	at.keys, at.trust = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	at.revoked = binary.BigEndian.Uint64(b[16:])
	copy(at.hash[:], b[24:])
	return at, nil
}

// behind says whether somebody who is at other can know something that is not known at at.
func (at progress) behind(other progress) bool {
	return other.keys > at.keys || other.trust > at.trust || other.revoked > at.revoked ||
		other.revoked == at.revoked && !bytes.Equal(other.hash[:], at.hash[:])
}

// Merge implements cluster.State.
func (s *statements) Merge(from string, digest []byte) error {
	theirs, err := parseProgress(digest)
	if err != nil {
		return err
	}
	s.note(from, theirs)
	if s.progress().behind(theirs) {
		select {
		case s.ask <- from:
		default: // the next exchange says it again
		}
	}
	return nil
}

// Heard implements cluster.State. What is further than anything that was heard of the node is passed on: once, because the copies of
// it, and of what was said before it, come back by many ways for a while.
func (s *statements) Heard(origin string, announcement []byte) (news bool, err error) {
	if err := s.Merge(origin, announcement); err != nil {
		return false, err
	}
	if revocation := announcement[progressSize:]; len(revocation) > 0 {
		if _, err := s.pool.member.Learn(revocation); err != nil {
			return false, err
		}
	}
	theirs, err := parseProgress(announcement)
	return s.further(origin, theirs), err
}

// further says whether a node was not known to be so far, and remembers it. Who is not one of the first maxPassed is told of by exchanges
// alone.
func (s *statements) further(origin string, at progress) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.passed[origin]
	if !known && len(s.passed) >= maxPassed {
		return false
	}
	next := progress{keys: max(before.keys, at.keys), trust: max(before.trust, at.trust), revoked: max(before.revoked, at.revoked)}
	s.passed[origin] = next
	return !known || next != before
}

// answer tells another node all statements.
func (s *statements) answer(context.Context, string, []byte) ([]byte, error) {
	m := s.pool.member
	return json.Marshal(append([][]byte{m.KeysStatement(), m.TrustStatement()}, m.RevocationStatements()...))
}

// learn takes over all statements that the node has. Whoever it is, only the authority can have made them.
func (s *statements) learn(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := s.pool.peers.Pull(ctx, node, wordsState, nil)
	if err != nil {
		return err
	}
	var all [][]byte
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("statements of %s: %w", node, err)
	}
	news, err := s.pool.member.Learn(all...) // together: nobody has new keys who does not know whom to keep them from
	if news {
		s.say()
	}
	return err
}

// say tells everybody how far this node is, and the latest revocation itself: who was shut out can ask nobody any more, and is to let go
// of what it has. It is told once and perhaps in vain; what it claims is nobody's in any case.
func (s *statements) say() {
	b, _ := s.MarshalBinary() // it never fails
	if all := s.pool.member.RevocationStatements(); len(all) > 0 {
		b = append(b, all[len(all)-1]...)
	}
	if err := s.pool.gossip.Announce(wordsState, b); err != nil {
		s.pool.log.Warn("the cluster was not told at once; it learns with the next exchange", "err", err)
	}
}
