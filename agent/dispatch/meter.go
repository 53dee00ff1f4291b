package dispatch

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
