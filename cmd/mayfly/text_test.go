package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Whatever a guest writes, a terminal gets printable characters only.
func TestEscapeIsPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		for _, r := range escape(in) {
			if r == utf8.RuneError && !strings.ContainsRune(in, utf8.RuneError) || !unicode.IsPrint(r) {
				t.Fatalf("%q became %q, which holds %U", in, escape(in), r)
			}
		}
		if s := escapeText(in); strings.Count(s, "\n") != strings.Count(in, "\n") {
			t.Fatalf("line breaks of %q are not those of %q", s, in)
		}
	})
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain":               "plain",
		"warm: 21 °C":         "warm: 21 °C",
		"\x1b[2Jgone\r":       `\x1b[2Jgone\r`,
		"a\nb\tc":             `a\nb\tc`,
		"\xff\x9b":            `\xff\x9b`,
		"\u202egnp.exe\u0085": `\u202egnp.exe\u0085`,
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestTemplate(t *testing.T) {
	fill := newTemplate(`{"n":{{n}},"o":{"p":{{ now }}}, {{x}} {{n }}`, true)
	got, err := fill(7, time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC))
	if want := `{"n":7,"o":{"p":2026-11-22T12:00:00.000000005Z}, {{x}} 7`; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if got, _ := newTemplate("{{n}}", false)(7, time.Time{}); got != "{{n}}" {
		t.Errorf("a file was changed to %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(-999999999999999999, 999999999999999999).Draw(t, "low")
		high := rapid.Int64Range(low, 999999999999999999).Draw(t, "high")
		if s := between(low, high); s == "" {
			t.Fatal("nothing")
		}
	})
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		size(0): "0 B", size(1023): "1023 B", size(1536): "1.5 KiB", size(3 << 40): "3.0 TiB",
		micros(999): "999 µs", micros(1500): "1.5 ms", micros(2_500_000): "2.50 s",
		duration(500 * time.Millisecond): "0s", duration(61 * time.Second): "1m1s", duration(49 * time.Hour): "2d1h",
		plural(1, "event"): "1 event", plural(0, "event"): "0 events",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
