// Package lan is a network of its own for tests with real processes: hosts with a namespace and an address each, on a switch that
// loses, delays and blocks frames between any two of them, in one direction or both.
//
// The switch is this process: every host's interface is a TAP device whose other end is here. So it needs nothing of the kernel but
// namespaces and TAP, and a test can do to each pair of hosts what a bridge with a queueing discipline does to all.
package lan

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what happens to frames from one host to another. The zero Fault is a good link.
type Fault struct {
	Block bool          // nothing passes
	Loss  float64       // of this share nothing is seen again
	Delay time.Duration // everything takes so long
}

// maxFrame is more than an Ethernet frame of the devices' MTU.
const maxFrame = 2048

// Switch carries frames between ports. Its methods may be called at any time, by anybody.
type Switch struct {
	mu     sync.RWMutex
	ports  []*Port
	table  map[mac]*Port
	faults map[pair]Fault
	lines  map[pair]*line
	count  map[pair]*traffic
	taps   func(from, to string, frame []byte)
	rng    *rand.Rand // guarded by dice
	dice   sync.Mutex
	ended  chan struct{}
	carry  sync.WaitGroup
}

type (
	mac  [6]byte
	pair struct{ from, to string }

	traffic struct{ frames, bytes atomic.Int64 }
)

// Port is where a host is plugged in.
type Port struct {
	name string
	end  io.ReadWriteCloser
	out  atomic.Bool // the cable is out
}

// NewSwitch returns a switch without ports. What it loses is chosen by seed.
func NewSwitch(seed uint64) *Switch {
	return &Switch{
		table: map[mac]*Port{}, faults: map[pair]Fault{}, lines: map[pair]*line{}, count: map[pair]*traffic{},
		rng: rand.New(rand.NewPCG(seed, 99)), ended: make(chan struct{}),
	}
}

// Plug adds a port and carries what comes from it until Close. A read of end returns one frame, and a write takes one.
func (s *Switch) Plug(name string, end io.ReadWriteCloser) *Port {
	p := &Port{name: name, end: end}
	s.mu.Lock()
	s.ports = append(s.ports, p)
	s.mu.Unlock()
	s.carry.Go(func() { s.serve(p) })
	return p
}

// Set makes frames from one host to another suffer f from now on.
func (s *Switch) Set(from, to string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[pair{from, to}] = f
}

// Between makes frames between any two of a group and any two of another suffer f, in both directions.
func (s *Switch) Between(these, those []string, f Fault) {
	for _, a := range these {
		for _, b := range those {
			s.Set(a, b, f)
			s.Set(b, a, f)
		}
	}
}

// Heal makes all links good.
func (s *Switch) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = map[pair]Fault{}
}

// Unplug pulls a host's cable out, or puts it in again.
func (s *Switch) Unplug(name string, out bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.ports {
		if p.name == name {
			p.out.Store(out)
		}
	}
}

// Tap calls see for every frame that is carried from now on; nil ends it. see may keep nothing of frame and must not call the Switch.
func (s *Switch) Tap(see func(from, to string, frame []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taps = see
}

// Inject sends a frame to a host, whoever it pretends to be from.
func (s *Switch) Inject(to string, frame []byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.ports {
		if p.name == to {
			_, err := p.end.Write(frame)
			return err
		}
	}
	return fmt.Errorf("no host %s", to)
}

// Carried returns how many frames and bytes were carried from one host to another so far.
func (s *Switch) Carried(from, to string) (frames, bytes int64) {
	t := s.traffic(pair{from, to})
	return t.frames.Load(), t.bytes.Load()
}

// Close ends all ports and returns when nothing is carried any more.
func (s *Switch) Close() error {
	close(s.ended)
	s.mu.Lock()
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, p.end.Close())
	}
	s.mu.Unlock()
	s.carry.Wait()
	return errors.Join(errs...)
}

// serve carries what comes from one port until it is closed.
func (s *Switch) serve(p *Port) {
	frame := make([]byte, maxFrame)
	for {
		n, err := p.end.Read(frame)
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, io.EOF):
			return
		case err != nil: // such as a device that is down for a moment
			select {
			case <-s.ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
		case n >= 14 && !p.out.Load():
			for _, to := range s.route(p, frame[:n]) {
				s.pass(p, to, frame[:n])
			}
		}
	}
}

// route notes where the sender of a frame is, and returns where the frame has to go: everywhere when nobody knows.
func (s *Switch) route(p *Port, frame []byte) []*Port {
	to, from := mac(frame[:6]), mac(frame[6:12])
	s.mu.RLock()
	known, at, all := s.table[from], s.table[to], s.ports
	s.mu.RUnlock()
	if known != p {
		s.mu.Lock()
		s.table[from] = p
		s.mu.Unlock()
	}
	if at != nil && to[0]&1 == 0 {
		return []*Port{at}
	}
	return all
}

// pass lets one frame suffer what it has to.
func (s *Switch) pass(from, to *Port, frame []byte) {
	if from == to || to.out.Load() {
		return
	}
	way := pair{from.name, to.name}
	s.mu.RLock()
	f, l, see := s.faults[way], s.lines[way], s.taps
	s.mu.RUnlock()
	if f.Block || f.Loss > 0 && s.chance() < f.Loss {
		return
	}
	t := s.traffic(way)
	t.frames.Add(1)
	t.bytes.Add(int64(len(frame)))
	if see != nil {
		see(from.name, to.name, frame)
	}
	if f.Delay == 0 && l == nil {
		_, _ = to.end.Write(frame) // a device that is down takes nothing, like a cable
		return
	}
	if l == nil {
		l = s.line(way, to)
	}
	l.put(frame, f.Delay)
}

func (s *Switch) chance() float64 {
	s.dice.Lock()
	defer s.dice.Unlock()
	return s.rng.Float64()
}

func (s *Switch) traffic(way pair) *traffic {
	s.mu.RLock()
	t := s.count[way]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.count[way]; t == nil {
		t = &traffic{}
		s.count[way] = t
	}
	return t
}

// line is a long link: frames are on their way for a while, in order. Once a link was long all its frames go through the line, so
// that none overtakes.
type line struct{ frames chan late }

type late struct {
	frame []byte
	due   time.Time
}

func (s *Switch) line(way pair, to *Port) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[way]; l != nil {
		return l
	}
	l := &line{make(chan late, 10_000)}
	s.lines[way] = l
	s.carry.Go(func() {
		for {
			select {
			case <-s.ended:
				return
			case f := <-l.frames:
				select {
				case <-s.ended:
					return
				case <-time.After(time.Until(f.due)):
					_, _ = to.end.Write(f.frame)
				}
			}
		}
	})
	return l
}

// put drops what does not fit, as any queue of a network does.
func (l *line) put(frame []byte, delay time.Duration) {
	select {
	case l.frames <- late{append([]byte(nil), frame...), time.Now().Add(delay)}:
	default:
	}
}
