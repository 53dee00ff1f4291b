package store

import "time"

// clock counts store time, the only time that expires records: it advances with the monotonic clock while the store is
// open and by the wall clock's difference while it was closed. A wall clock that jumps while the store is open changes
// nothing. One that went back, or forward by more than longestRest, was set rather than waited for, and adds nothing.
type clock struct {
	base  int64 // store time in ms at start
	start time.Time
}

const longestRest = 400 * 24 * time.Hour

// resumeClock continues from the store time and wall time last written. wall is the wall clock now.
func resumeClock(last live, wall time.Time) clock {
	rest := wall.UnixMilli() - last.wall
	if last.wall == 0 || rest < 0 || rest > longestRest.Milliseconds() {
		rest = 0
	}
	return clock{base: max(last.clock+rest, 1), start: time.Now()}
}

func (c clock) now() int64 { return c.base + time.Since(c.start).Milliseconds() }
