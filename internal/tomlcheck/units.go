package tomlcheck

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseSize reads a number of bytes: digits and one of B, KiB, MiB, GiB, TiB (powers of 1024), kB, MB, GB, TB (powers of
// 1000), or digits alone.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTikmgtb ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	factor, known := map[string]int64{
		"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[unit]
	if err != nil || !known || n < 0 {
		return 0, fmt.Errorf("%q is not a size; write it like \"64KiB\", \"8MiB\" or \"1GiB\"", s)
	}
	if n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is more bytes than can be counted", s)
	}
	return n * factor, nil
}

// FormatSize is the shortest text that ParseSize reads as n.
func FormatSize(n int64) string {
	for _, u := range []struct {
		name   string
		factor int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

var errNegative = errors.New("a duration cannot be negative")

// ParseDuration reads what time.ParseDuration does, and whole days: "7d". Negative durations are refused.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; write it like \"500ms\", \"30s\", \"10m\" or \"7d\"", s)
	case d < 0:
		return 0, errNegative
	}
	return d, nil
}

// FormatDuration is the shortest text that ParseDuration reads as d.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
