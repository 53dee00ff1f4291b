package arch

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

const (
	ruleLater Rule = "Nothing is left for later in the sources: do it, or write an issue."
	ruleSelf  Rule = "What the project says speaks of the project alone: no paths of somebody's machine."
)

// files checks what every text of the project says, in whatever language.
func files(t *Tree) []Finding {
	later := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	machine := regexp.MustCompile(`(^|[\s"'=(` + "`" + `])/(ro` + `ot|wo` + `rk|home/[a-z]+)/`)
	var found []Finding
	texts(t.Root, func(name string, line int, l []byte) {
		if later.Match(l) {
			found = append(found, Finding{fmt.Sprintf("%s:%d", name, line), string(later.Find(l)), ruleLater})
		}
		if machine.Match(l) {
			found = append(found, Finding{fmt.Sprintf("%s:%d", name, line), string(bytes.TrimSpace(machine.Find(l))), ruleSelf})
		}
	})
	return found
}

// texts calls visit with every line that people wrote, in whatever language. What cannot be read is not there: the walk is
// over files that come and go while people work.
func texts(root string, visit func(name string, line int, text []byte)) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && slices.Contains([]string{".git", "node_modules", "out", "bin", "testdata"}, d.Name()):
			return filepath.SkipDir
		case !d.Type().IsRegular() || !slices.Contains(textual(), filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		name, err2 := filepath.Rel(root, path)
		if err != nil || err2 != nil {
			return nil
		}
		line := 0
		for l := range bytes.Lines(text) {
			line++
			visit(name, line, l)
		}
		return nil
	})
}

// textual are the endings of files people write. The empty one is that of Makefile.
func textual() []string {
	return []string{"", ".go", ".c", ".h", ".rs", ".ts", ".sh", ".toml", ".md", ".yml", ".service", ".conf", ".txtar"}
}
