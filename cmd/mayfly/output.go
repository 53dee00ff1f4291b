package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// formats of every verb that reads, in the order of the help.
func formats() []string { return []string{"table", "wide", "json", "yaml", "name"} }

// format is the value of -o.
type format string

func (f *format) String() string { return string(*f) }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if !slices.Contains(formats(), s) {
		return fmt.Errorf("want one of %s", strings.Join(formats(), ", "))
	}
	*f = format(s)
	return nil
}

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// outputFlag adds -o to a verb.
func outputFlag(cmd *cobra.Command) *format {
	f := format("table")
	cmd.Flags().VarP(&f, "output", "o", strings.Join(formats(), "|"))
	// It fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// column is one column of a table.
type column[T any] struct {
	head string
	wide bool // only with -o wide
	cell func(T) string
}

// view says how records of one kind are shown.
type view[T any] struct {
	columns []column[T]
	name    func(T) string // for -o name
	empty   string         // said on standard error instead of an empty table
	detail  func(w io.Writer, rec T, wide bool)
}

// list prints many records: a table, or one JSON array, one YAML sequence, one name a line.
func list[T any](a *app, f format, v view[T], recs []T) error {
	switch f {
	case "json", "yaml":
		if recs == nil {
			recs = []T{}
		}
		return encode(a.Stdout, f, recs)
	case "name":
		for _, r := range recs {
			fmt.Fprintln(a.Stdout, escape(v.name(r)))
		}
		return nil
	}
	if len(recs) == 0 {
		a.note("%s", v.empty)
		return nil
	}
	var heads []string
	var cells []func(T) string
	for _, c := range v.columns {
		if !c.wide || f == "wide" {
			heads, cells = append(heads, c.head), append(cells, c.cell)
		}
	}
	rows := [][]string{heads}
	for _, r := range recs {
		var row []string
		for _, cell := range cells {
			row = append(row, escape(cell(r)))
		}
		rows = append(rows, row)
	}
	table(a.Stdout, rows, func(s string) string { return a.paint(s) })
	return nil
}

// one prints a single record: its details for people, else as it is.
func one[T any](a *app, f format, v view[T], rec T) error {
	switch f {
	case "json", "yaml":
		return encode(a.Stdout, f, rec)
	case "name":
		fmt.Fprintln(a.Stdout, escape(v.name(rec)))
	default:
		v.detail(a.Stdout, rec, f == "wide")
	}
	return nil
}

// stream prints a record of an endless answer: a line, a line of JSON, a YAML document, a name.
func stream[T any](a *app, f format, v view[T], rec T) error {
	switch f {
	case "json":
		text, err := marshal(rec, "")
		if err != nil {
			return err
		}
		_, err = a.Stdout.Write(text)
		return err
	case "yaml":
		if _, err := io.WriteString(a.Stdout, "---\n"); err != nil {
			return err
		}
	}
	return one(a, f, v, rec)
}

// encode writes v for a program. YAML goes through JSON so that both have the same fields.
func encode(w io.Writer, f format, v any) error {
	text, err := marshal(v, "  ")
	if err != nil {
		return err
	}
	if f == "yaml" {
		return toYAML(w, text)
	}
	_, err = w.Write(text)
	return err
}

// marshal returns v as JSON with a line break at its end, in which what a terminal must not see is escaped.
func marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	if clean(strings.ReplaceAll(b.String(), "\n", "")) {
		return b.Bytes(), nil
	}
	var out []byte
	for _, r := range b.String() { // outside of strings JSON is printable ASCII and line breaks
		switch {
		case unicode.IsPrint(r) || r == '\n':
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out, nil
}

// table aligns rows, of which the first is the head; paint may colour a cell without changing its width.
func table(w io.Writer, rows [][]string, paint func(string) string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			shown := cell
			if n > 0 {
				shown = paint(cell)
			}
			b.WriteString(shown)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// fields prints names and values below each other; a pair without a value is left out.
func fields(w io.Writer, pairs ...string) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, []string{pairs[i], indent(escapeText(pairs[i+1]), strings.Repeat(" ", 14))})
		}
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s  %s\n", r[0], r[1])
	}
}

// paint colours the words for states.
func (a *app) paint(s string) string {
	if !a.colour {
		return s
	}
	code := ""
	switch s {
	case "ready", "ok", "done", "connected", "yes":
		code = "32"
	case "failed", "FAIL", "error", "reject", "down", "no":
		code = "31"
	case "paused", "starting", "retry", "warn":
		code = "33"
	default:
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// size shows bytes.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// measured shows a quantile, which is not there before the first event.
func measured(us int64) string {
	if us == 0 {
		return "-"
	}
	return micros(us)
}

// micros shows a number of microseconds.
func micros(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1e6)
}

// duration shows how long, to two units at most.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// plural counts things.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
