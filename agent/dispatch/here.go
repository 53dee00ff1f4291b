package dispatch

// visit is a task that a caller waits for, with a lane that only it will have.
type visit struct {
	task task
	lane lane
}

// runHere runs v, which has no order, on the goroutine of its caller, who waits for it anyway: handing it to a worker and its answer back
// wakes two threads, which costs more than a short function. It does so in the place of a worker that would be idle or could be started, so
// never more calls run than Config.Workers, and only while nothing else is ready: nobody is overtaken. It reports false when it did
// nothing. Called and returns with mu held, not held while the function runs; a panic there ends the process, as one in a worker does.
func (d *Dispatcher) runHere(v *visit) bool {
	idle := d.idle > 0
	if d.closing || d.broken.Load() || d.ready.len() > 0 || !v.task.unit.mayRun() || !idle && d.workers >= d.cfg.Workers {
		return false
	}
	if idle {
		d.idle-- // whoever it is sleeps on, and cannot be counted on meanwhile
	} else {
		d.workers++
	}
	d.callers++
	w := d.stand()
	v.lane.push(&v.task)
	d.step(w, &v.lane)
	d.stands = append(d.stands, w)
	d.callers--
	if idle {
		d.idle++
	} else {
		d.workers--
	}
	d.rouse() // what became ready meanwhile, and counted on us
	d.left()
	return true
}

// stand returns what a caller's goroutine works with. Called with mu held.
func (d *Dispatcher) stand() *worker {
	if n := len(d.stands); n > 0 {
		w := d.stands[n-1]
		d.stands = d.stands[:n-1]
		return w
	}
	w := new(worker)
	d.crew = append(d.crew, w)
	return w
}
