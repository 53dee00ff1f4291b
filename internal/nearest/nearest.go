// Package nearest finds the word that somebody meant to write.
package nearest

import "strings"

// longest is how many bytes a word may have to be compared letter by letter: what is longer is no slip of a name, and comparing
// takes time in proportion to the product of both lengths.
const longest = 64

// To returns the one of words that s is most likely a slip of, or "" when none is near: at most a third of the letters are
// wrong, and one may always be. A word that s begins is one letter away. Case does not count, s itself is never the
// answer, and of words equally near it is the first.
func To(s string, words []string) string {
	best, least := "", Slips(s)+1
	for _, w := range words {
		if w == s {
			continue
		}
		d := Distance(strings.ToLower(s), strings.ToLower(w))
		if s != "" && strings.HasPrefix(w, s) {
			d = min(d, 1)
		}
		if d < least {
			best, least = w, d
		}
	}
	return best
}

// Slips is how many wrong letters a word of the length of s may have and still be meant.
func Slips(s string) int { return max(1, len(s)/3) }

// Distance counts the bytes to insert, delete, replace or swap with their neighbour to make b of a (optimal string
// alignment). For words of more than 64 bytes it is the length of the longer one, unless they are equal.
func Distance(a, b string) int {
	if a == b {
		return 0
	}
	if far := max(len(a), len(b)); far > longest {
		return far
	}
	var rows [3][longest + 1]int // two before, before, now
	before, last, now := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			now[j+1] = min(last[j+1]+1, now[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
