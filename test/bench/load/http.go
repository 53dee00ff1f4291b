package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Web is a server that answers POST requests with their bodies, and is measured.
type Web struct {
	Address string // host:port
	Path    string
	Header  string // further lines, each ended by CR and LF
	Size    int    // bytes of body
	PID     int    // as in Target
}

// Requests keeps conns connections busy, one request at a time on each, until total were answered: what wrk does. With rate > 0 it sends
// that many a second instead, and latency counts from when each was due.
func Requests(ctx context.Context, w Web, conns, total, rate int) (Result, error) {
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		w.Path, w.Address, w.Header, w.Size, strings.Repeat("x", w.Size))
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var fault error
	cpu, err := cpuOf(w.PID)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			took, err := w.converse(ctx, request, func() (time.Time, bool) {
				n := next.Add(1) - 1
				if n >= int64(total) {
					return time.Time{}, false
				}
				if rate == 0 {
					return time.Now(), true
				}
				due := began.Add(time.Duration(float64(n) / float64(rate) * 1e9))
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				return due, true
			})
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			fault = errors.Join(fault, err)
		})
	}
	wg.Wait()
	if fault != nil {
		return Result{}, fault
	}
	r := Result{Sent: total, Answered: len(all), Elapsed: time.Since(began)}
	used, err := cpuOf(w.PID)
	if err != nil {
		return r, err
	}
	r.CPU = used - cpu
	r.PerSecond = float64(len(all)) / r.Elapsed.Seconds()
	r.CPUPerMessage = r.CPU / time.Duration(max(1, len(all)))
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	r.P50, r.P90, r.P99, r.Max = at(0.5), at(0.9), at(0.99), all[len(all)-1]
	return r, nil
}

// converse sends requests on one connection as long as due gives times, and returns what each took.
func (w *Web) converse(ctx context.Context, request []byte, due func() (time.Time, bool)) ([]time.Duration, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", w.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var took []time.Duration
	for in := bufio.NewReader(c); ; {
		at, more := due()
		if !more || ctx.Err() != nil {
			return took, ctx.Err()
		}
		if _, err := c.Write(request); err != nil {
			return took, err
		}
		if err := readAnswer(in, w.Size); err != nil {
			return took, err
		}
		took = append(took, time.Since(at))
	}
}

// readAnswer reads one answer, which must be 200 and have a body of that size.
func readAnswer(in *bufio.Reader, size int) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "HTTP/1.1 200") {
		rest := make([]byte, 1000)
		n, _ := in.Read(rest)
		return fmt.Errorf("%s%s", line, rest[:n])
	}
	length := -1
	for len(line) > 2 {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if text, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
				return err
			}
		}
	}
	if length != size {
		return fmt.Errorf("an answer of %d bytes, not %d", length, size)
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return err
}
