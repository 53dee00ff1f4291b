package agent

import (
	"os"
	"slices"

	"mayfly/function"
)

// secrets gives f the secrets its manifest names: files of one directory. They are read when they are asked for, so that a
// replaced secret is used, and kept by nobody.
func (a *Agent) secrets(f *function.Function) function.Secrets {
	dir := a.cfg.Node.Secrets
	if dir == "" {
		dir = os.Getenv("CREDENTIALS_DIRECTORY")
	}
	return vault{dir, f.Manifest.Permissions.Secrets}
}

type vault struct {
	dir     string
	granted []string
}

// Secret implements function.Secrets.
func (v vault) Secret(name string) ([]byte, bool) {
	if v.dir == "" || !slices.Contains(v.granted, name) {
		return nil, false
	}
	root, err := os.OpenRoot(v.dir) // a name cannot lead out of the directory
	if err != nil {
		return nil, false
	}
	defer root.Close()
	text, err := root.ReadFile(name)
	return text, err == nil
}
