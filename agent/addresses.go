package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"mayfly/cluster"
	"mayfly/store"
)

// whereabouts is where a node was last.
type whereabouts struct {
	Gossip string `json:"gossip"` // host:port
	Calls  string `json:"calls"`
	Signer bool   `json:"signer,omitempty"`
}

// addresses remembers over restarts where the nodes of the cluster were last: a device that slept through a change of the keys of
// gossip understands nobody, and can still call. Safe for concurrent use.
type addresses struct {
	store notebook
	mu    sync.Mutex
	all   map[string]whereabouts
}

func addressKey(node string) []byte { return store.Trigger.Key("", []byte("node/"+node)) }

func openAddresses(s notebook) (*addresses, error) {
	k := &addresses{store: s, all: map[string]whereabouts{}}
	prefix := addressKey("")
	err := s.Scan(prefix, nil, func(key, value []byte, _ uint64) bool {
		var w whereabouts
		if json.Unmarshal(value, &w) == nil { // a damaged one is learned again
			k.all[string(key[len(prefix):])] = w
		}
		return true
	})
	return k, err
}

// saw takes note of where nodes are. It returns the writes that make it last, none when nothing changed.
func (k *addresses) saw(now map[string]whereabouts) (ops []store.Op) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for node, w := range now {
		if k.all[node] == w {
			continue
		}
		k.all[node] = w
		if text, err := json.Marshal(w); err == nil {
			ops = append(ops, store.Op{Key: addressKey(node), Value: text})
		}
	}
	return ops
}

// forget forgets a node that will never come back.
func (k *addresses) forget(node string) []store.Op {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, node)
	return []store.Op{{Key: addressKey(node), Delete: true}}
}

func (k *addresses) calls(node string) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, ok := k.all[node]
	return w.Calls, ok && w.Calls != ""
}

func (k *addresses) copy() map[string]whereabouts {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.all)
}

func (k *addresses) seeds() (all []cluster.Peer) {
	for node, w := range k.copy() {
		if w.Gossip != "" {
			all = append(all, cluster.Peer{Name: node, Addr: w.Gossip})
		}
	}
	return all
}

// peersFile keeps what gossip remembers of its peers. It is a hint: a lost one costs the search for them.
type peersFile struct{ path string }

// LoadPeers implements cluster.PeerStore.
func (f peersFile) LoadPeers() ([]byte, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// SavePeers implements cluster.PeerStore.
func (f peersFile) SavePeers(text []byte) error {
	t, err := os.CreateTemp(filepath.Dir(f.path), "peers.*")
	if err != nil {
		return err
	}
	_, err = t.Write(text)
	if err == nil {
		err = t.Sync()
	}
	err = errors.Join(err, t.Close())
	if err == nil {
		err = os.Rename(t.Name(), f.path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(t.Name()))
	}
	return err
}
