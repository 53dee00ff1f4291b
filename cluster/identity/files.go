package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mayfly/internal/durable"
)

// ErrDamaged is wrapped by errors about files that exist and do not hold what was written.
var ErrDamaged = errors.New("it is damaged")

// maxFile bounds what is read of a file, in bytes.
const maxFile = 4 << 20

// makeDir makes the directory of the files of this package, durably, for its owner only.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// seal encodes v as JSON below a line that says what it is and carries its checksum: a flipped bit in a key would be a key.
func seal(what string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "mayfly %s 1 %x\n", what, sha256.Sum256(body)), body...), nil
}

// unseal decodes what seal wrote of the same kind.
func unseal(what string, text []byte, v any) error {
	head, body, _ := bytes.Cut(text, []byte("\n"))
	switch want := fmt.Appendf(nil, "mayfly %s 1 %x", what, sha256.Sum256(body)); {
	case !bytes.HasPrefix(head, want[:len(want)-2*sha256.Size]):
		return fmt.Errorf("%w: it is no %s of this version", ErrDamaged, what)
	case !bytes.Equal(head, want):
		return fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func readSealed(dir, name, what string, v any) error {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s: %w: it has %d bytes", path, ErrDamaged, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := unseal(what, text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeSealed(dir, name, what string, v any) error {
	text, err := seal(what, v)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, name), text)
}
