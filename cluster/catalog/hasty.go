//go:build hasty

package catalog

import "time"

// In a program built with the tag hasty a month is over in a minute, for a test of hosts that are away for longer than that: no clock makes a
// tombstone older [C5], so nothing else makes it old in a test.
const (
	month        = time.Minute
	saveEvery    = 5 * time.Second
	touchEvery   = 2 * time.Second
	contactFirst = 5 * time.Second
	contactGap   = 30 * time.Second
)
