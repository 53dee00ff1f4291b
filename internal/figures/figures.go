// Package figures writes what the measuring and breaking programs found out.
package figures

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Write writes rows as indented JSON to a file, whose directory it makes.
func Write(file string, rows any) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
