package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// remembered is the file of one provider. It holds public keys only, but who can write it can let himself in: it is for its owner
// alone.
type remembered struct {
	Issuer  string          `json:"issuer"`
	Fetched time.Time       `json:"fetched"`
	Keys    json.RawMessage `json:"jwks"`
}

// load reads the keys of the provider at url; nil when there are none, or they are another's.
func load(file, url string) (*keySet, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r remembered
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if r.Issuer != url || r.Fetched.IsZero() {
		return nil, nil // the configuration changed
	}
	keys, err := parseKeys(r.Keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &keySet{issuer: url, keys: keys, text: r.Keys, fetched: r.Fetched}, nil
}

// save replaces the file. After a power cut it is the old or the new one, or, where a disk lies, one that load refuses.
func save(file string, set *keySet) error {
	text, err := json.Marshal(remembered{set.issuer, set.fetched, set.text})
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what is left of it when it fails
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
