package main

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape makes one line of what a guest or a stranger wrote, safe for a terminal: control characters, escape sequences,
// direction overrides and bytes that are not UTF-8 become visible.
func escape(s string) string { return escapeBut(s, "") }

// escapeText does the same and keeps line breaks and tabs.
func escapeText(s string) string { return escapeBut(s, "\n\t") }

func escapeBut(s, keep string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[0])|0x100, 16)[1:])
		case unicode.IsPrint(r) || strings.ContainsRune(keep, r):
			b.WriteString(s[:n])
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// clean is the quick answer for what nearly all text is.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
