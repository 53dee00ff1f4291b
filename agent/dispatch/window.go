package dispatch

// window is what one source handed over and was not told about yet, and what came after that: its sender acknowledges in order, so
// a message behind one that waits occupies the sender's window too, however long it has been done. Guarded by Dispatcher.mu.
type window struct {
	tasks    []*task // [head:] from the oldest that is not settled
	head     int
	messages uint64 // accepted so far
}

// add takes t as the newest. Tasks of one message have one place.
func (w *window) add(t *task) {
	w.oldest()
	if t.first {
		w.messages++
	}
	t.place = w.messages
	w.tasks = append(w.tasks, t)
}

// oldest returns the oldest task that is not settled, nil when there is none.
func (w *window) oldest() *task {
	for ; w.head < len(w.tasks); w.head++ {
		if t := w.tasks[w.head]; !t.settled.Load() {
			if w.head > 64 && w.head > len(w.tasks)/2 {
				n := copy(w.tasks, w.tasks[w.head:])
				clear(w.tasks[n:])
				w.tasks, w.head = w.tasks[:n], 0
			}
			return t
		}
		w.tasks[w.head] = nil
	}
	w.tasks, w.head = w.tasks[:0], 0
	return nil
}

// full says whether so many messages are occupied.
func (w *window) full(size int) bool {
	t := w.oldest()
	return t != nil && w.messages-t.place+1 >= uint64(size)
}
