package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf returns the CPU time, user and system, that a process has used: its own clock, to the nanosecond, where /proc counts in steps
// of 10 ms. The clock's number is what clock_getcpuclockid(3) makes of a process id.
func cpuOf(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
