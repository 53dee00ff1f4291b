package dispatch

import (
	"time"

	"mayfly/function"
)

// meter counts what a run cost.
func (c *Counters) meter(u *function.Usage, run time.Duration) {
	c.RunNanos.Add(int64(run))
	c.CPUNanos.Add(int64(u.CPU))
	c.MemoryTime.Add(int64(float64(u.Memory) * float64(run) / float64(time.Millisecond)))
	if u.Cold {
		c.Cold.Add(1)
	}
	c.BytesIn.Add(u.BytesIn)
	c.BytesOut.Add(u.BytesOut)
}

// Counters returns what each function has counted, of all that are deployed or have events. A function that comes back after it was gone has
// other counters.
func (d *Dispatcher) Counters() map[string]*Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]*Counters, len(d.units))
	for name, u := range d.units {
		all[name] = &u.stats
	}
	return all
}

// StateBytes is how much state a function has, 0 when that cannot be read.
func (d *Dispatcher) StateBytes(name string) int64 {
	d.mu.Lock()
	u := d.units[name]
	d.mu.Unlock()
	if u == nil {
		return 0
	}
	bytes, err := u.held.usage(d.dep.Store, name, d.now())
	if err != nil {
		return 0
	}
	return bytes
}
