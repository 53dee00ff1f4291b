package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"mayfly/wasm/enginebench"
)

// window is when a rate is measured. The wall clock, because processes have it in common.
type window struct{ begin, end time.Time }

// next returns a window that everybody told of it now is in time for.
func next() window {
	begin := time.Now().Round(0).Add(time.Millisecond)
	return window{begin, begin.Add(20 * time.Millisecond)}
}

func (w window) rate(events int) float64 { return float64(events) / w.end.Sub(w.begin).Seconds() }

// twoThreads compares two threads of one engine with one, and with what nobody can beat: two processes that do the same and share
// nothing but the machine. How much two processors do beside one depends on what else their core, their cache and their host are busy
// with, and changes from one moment to the next; so everything takes turns in short windows and medians count.
func (b *bench) twoThreads(c *guest) error {
	twins, err := b.twins()
	if err != nil {
		return err
	}
	data := make([]byte, 200)
	threads := func(n int) (float64, error) {
		w := next()
		return together(w, n, func(int) (int, error) { return enginebench.During(c.engine, c.fresh, data, w.begin, w.end) })
	}
	processes := func(n int) (float64, error) {
		w := next()
		return together(w, n, func(i int) (int, error) { return twins[i].during(w) })
	}
	var rates [4][]float64
	for range pick(b, 50, 100) {
		for i, measure := range []func() (float64, error){
			func() (float64, error) { return threads(1) }, func() (float64, error) { return threads(2) },
			func() (float64, error) { return processes(1) }, func() (float64, error) { return processes(2) },
		} {
			rate, err := measure()
			if err != nil {
				return errors.Join(err, stop(twins))
			}
			rates[i] = append(rates[i], rate)
		}
	}
	oneThread, twoThreads, oneProcess, twoProcesses := median(rates[0]), median(rates[1]), median(rates[2]), median(rates[3])
	b.add("the machine: two processes beside one", twoProcesses, "/s", oneProcess, limit{none: true})
	b.add("C guest, fresh: two threads beside one", twoThreads, "/s", oneThread, limit{ratioAtLeast: 1.8})
	b.add("C guest, fresh: two threads beside two processes", twoThreads, "/s", twoProcesses, limit{ratioAtLeast: 0.95})
	return stop(twins)
}

// together has n do the same in w, and returns the events a second of all.
func together(w window, n int, run func(i int) (int, error)) (float64, error) {
	events, errs := make([]int, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { events[i], errs[i] = run(i) })
	}
	wg.Wait()
	sum := 0
	for _, n := range events {
		sum += n
	}
	return w.rate(sum), errors.Join(errs...)
}

// twin is a process of one thread with an engine of its own.
type twin struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// twins starts two of them.
func (b *bench) twins() ([]*twin, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []*twin
	for range 2 {
		t := &twin{cmd: exec.CommandContext(b.ctx, self, "twin", b.dir)}
		t.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		t.cmd.Stderr = os.Stderr
		in, errIn := t.cmd.StdinPipe()
		out, errOut := t.cmd.StdoutPipe()
		if err := errors.Join(errIn, errOut); err != nil {
			return nil, errors.Join(err, stop(all))
		}
		if err := t.cmd.Start(); err != nil {
			return nil, errors.Join(err, stop(all))
		}
		t.in, t.out = in, bufio.NewReader(out)
		all = append(all, t)
		for range 3 { // compiled, loaded, warm
			if _, err := t.during(next()); err != nil {
				return nil, errors.Join(err, stop(all))
			}
		}
	}
	return all, nil
}

// during has the twin run events in w and returns how many it did.
func (t *twin) during(w window) (events int, err error) {
	if _, err := fmt.Fprintln(t.in, w.begin.UnixNano(), w.end.UnixNano()); err != nil {
		return 0, fmt.Errorf("tell a process to run events: %w", err)
	}
	if _, err := fmt.Fscanln(t.out, &events); err != nil {
		return 0, fmt.Errorf("read how many events a process ran: %w", err)
	}
	return events, nil
}

// stop ends twins, which end with their input.
func stop(twins []*twin) error {
	var errs []error
	for _, t := range twins {
		errs = append(errs, t.in.Close(), t.cmd.Wait())
	}
	return errors.Join(errs...)
}

// beTwin is the main of a twin: it runs events in the windows that in says, and says how many on out.
func beTwin(dir string, in io.Reader, out io.Writer) error {
	b := &bench{dir: dir, bin: "bin"}
	module, err := os.ReadFile(echoModule)
	if err != nil {
		return err
	}
	g, err := b.guest(module)
	if err != nil {
		return err
	}
	defer g.engine.Close()
	data := make([]byte, 200)
	windows := bufio.NewScanner(in)
	for windows.Scan() {
		var begin, end int64
		if _, err := fmt.Sscan(windows.Text(), &begin, &end); err != nil {
			return err
		}
		n, err := enginebench.During(g.engine, g.fresh, data, time.Unix(0, begin), time.Unix(0, end))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
	return windows.Err()
}
