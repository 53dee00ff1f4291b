// Package tomlcheck reads TOML into structs and reports every fault at once: where it is (file:line:column and the line
// itself), what is wrong and what to write instead. Function manifests and the agent's configuration share it.
//
// A struct describes the file by the tags of its fields:
//
//	json:"max_age"       the key; a field without it, or with "-", is not in the file
//	default:"10m"        what it is when the file does not say
//	required:"true"      the file must say
//	words:"skip|once"    the words a string may be
//	min:"1s" max:"1h"    bounds of a number, duration or size
//	unit:"bytes"         an integer written as a size: "8MiB"
//	doc:"..."            one sentence for the sample file and the schema
//
// Fields are strings, booleans, numbers, durations ("500ms", "7d"), sizes, types with UnmarshalText, lists and maps of those, and
// structs, lists of structs ([[x]]) and maps of structs ([x.name]). A pointer tells absent from zero.
package tomlcheck

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1; 0 when the fault is not in a file (an environment variable, a flag)
	Col     int    `json:"col"`    // in characters, from 1
	Width   int    `json:"width"`  // how many characters are meant, at least 1
	Source  string `json:"source"` // the line, control characters replaced
	Path    string `json:"path"`   // of the key: "trigger.mqtt[0].topic"
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// Error is the fault in the form compilers use, with the line and a caret below the place.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Col)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	if f.Line > 0 {
		f.excerpt(&b)
	}
	if f.Hint != "" {
		fmt.Fprintf(&b, "\n      = %s", f.Hint)
	}
	return b.String()
}

// maxExcerpt is how many characters of a long line are shown.
const maxExcerpt = 100

func (f Fault) excerpt(b *strings.Builder) {
	line := []rune(f.Source)
	from := 0
	if f.Col > maxExcerpt-20 {
		from = f.Col - maxExcerpt/2
	}
	to := min(len(line), from+maxExcerpt)
	from = min(from, to)
	fmt.Fprintf(b, "\n%5d | %s\n      | ", f.Line, string(line[from:to]))
	for i := from; i < f.Col-1; i++ {
		if i < len(line) && line[i] == '\t' {
			b.WriteByte('\t') // so that the caret stands below, however wide a tab is
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteString(strings.Repeat("^", max(1, min(f.Width, to-f.Col+1))))
}

// Faults is everything that is wrong, in the order of the files.
type Faults []Fault

// maxShown is how many faults Error prints; a file of the wrong kind has one per line.
const maxShown = 40

func (fs Faults) Error() string {
	var b strings.Builder
	for i, f := range fs {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more", len(fs)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.Error())
	}
	return b.String()
}

// place is a range of bytes in a document, or a source that has no lines.
type place struct {
	doc      *document
	at, size int
	name     string // instead of a document: "MAYFLY_LOG__LEVEL", "--log.level"
}

// fault builds the fault at a place.
func (p place) fault(path, problem, hint string) Fault {
	f := Fault{File: cmp.Or(p.name, "settings"), Path: path, Problem: problem, Hint: hint}
	if p.doc == nil {
		return f
	}
	text := p.doc.text
	at := min(p.at, len(text))
	start := strings.LastIndexByte(text[:at], '\n') + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	line = strings.TrimSuffix(line, "\r")
	at = min(at, start+len(line))
	f.File = p.doc.file
	f.Line = strings.Count(text[:start], "\n") + 1
	f.Col = utf8.RuneCountInString(text[start:at]) + 1
	f.Width = max(1, utf8.RuneCountInString(text[at:min(at+p.size, start+len(line))]))
	f.Source = strings.Map(printable, line)
	return f
}

func printable(r rune) rune {
	if r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return '?'
}

func sortFaults(fs Faults, files []string) {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(
			cmp.Compare(uint(slices.Index(files, a.File)), uint(slices.Index(files, b.File))), // no file: last
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
		)
	})
}
