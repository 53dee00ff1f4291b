package secret

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"mayfly/store"
)

// site is some nodes, whose catalogs are one and whose calls are function calls. It writes down all that passes between them.
type site struct {
	t *testing.T

	mu      sync.Mutex
	records map[string][]byte
	version uint64
	changed chan struct{} // by records or members
	up      map[string]*node
	wire    bytes.Buffer
	said    bytes.Buffer
	log     *slog.Logger // of all nodes, to said
}

// node is one of a site. Its disk outlives its vault.
type node struct {
	site  *site
	id    string
	dir   string
	disk  map[string][]byte
	vault *Vault
}

func newSite(t *testing.T, ids ...string) *site {
	s := &site{t: t, records: map[string][]byte{}, changed: make(chan struct{}), up: map[string]*node{}}
	s.log = slog.New(slog.NewTextHandler(&s.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, id := range ids {
		s.join(id)
	}
	return s
}

func (s *site) join(id string) *node {
	n := &node{site: s, id: id, dir: s.t.TempDir(), disk: map[string][]byte{}}
	n.start()
	return n
}

// start makes the vault from what is on disk.
func (n *node) start() {
	key, _, err := LoadKey(n.dir)
	if err != nil {
		n.site.t.Fatal(err)
	}
	if n.vault, err = Open(Config{Node: n.id, Key: key, Records: n.site, Peers: n, Notes: n, Log: n.site.log}); err != nil {
		n.site.t.Fatal(err)
	}
	n.site.mu.Lock()
	defer n.site.mu.Unlock()
	n.site.up[n.id] = n
	n.site.news()
}

// stop makes a node be away, or revoked: nobody answers it.
func (n *node) stop() {
	n.site.mu.Lock()
	defer n.site.mu.Unlock()
	delete(n.site.up, n.id)
	n.site.news()
}

func (s *site) news() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) Names() ([]string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.records)), s.changed
}

func (s *site) Get(name string) ([]byte, Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.records[name]
	return body, Version{s.version, "w"}, ok
}

func (s *site) Set(_ context.Context, name string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wire.Write(body)
	s.records[name] = body
	s.version++
	s.news()
	return nil
}

func (s *site) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
	s.news()
	return nil
}

func (n *node) Live() (ids []string, changed <-chan struct{}) {
	n.site.mu.Lock()
	defer n.site.mu.Unlock()
	for id := range n.site.up {
		if id != n.id {
			ids = append(ids, id)
		}
	}
	return ids, n.site.changed
}

// Ask is a call whose ends are who they are: the node that asks must be a member too.
func (n *node) Ask(ctx context.Context, to string, request []byte) ([]byte, error) {
	n.site.mu.Lock()
	there, here := n.site.up[to], n.site.up[n.id]
	n.site.mu.Unlock()
	if there == nil || here == nil {
		return nil, errors.New("nobody answers")
	}
	answer, err := there.vault.Answer(ctx, n.id, request)
	n.site.mu.Lock()
	defer n.site.mu.Unlock()
	n.site.wire.Write(request)
	n.site.wire.Write(answer)
	return answer, err
}

func (n *node) Submit(ops []store.Op, done func(error)) error {
	n.site.mu.Lock()
	for _, op := range ops {
		if n.disk[string(op.Key)] = op.Value; op.Delete {
			delete(n.disk, string(op.Key))
		}
	}
	n.site.mu.Unlock()
	done(nil)
	return nil
}

func (n *node) Scan(prefix, _ []byte, yield func(key, value []byte, version uint64) bool) error {
	for key, value := range n.disk {
		if strings.HasPrefix(key, string(prefix)) && !yield([]byte(key), value, 1) {
			break
		}
	}
	return nil
}

// reads says what a node reads: the value, or in parentheses why not.
func (n *node) reads(name string) string {
	value, ok, err := n.vault.Read(name)
	switch {
	case err != nil && errors.Is(err, ErrSealed):
		return "(sealed)"
	case err != nil:
		return "(" + err.Error() + ")"
	case !ok:
		return "(absent)"
	}
	return string(value)
}

// want says whether a node reads what it should.
func (n *node) want(name, value string) {
	n.site.t.Helper()
	if got := n.reads(name); got != value {
		n.site.t.Errorf("%s reads %q, want %q", n.id, got, value)
	}
}
