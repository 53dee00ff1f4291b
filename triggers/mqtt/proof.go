package mqtt

import "time"

// An acknowledgement that was written may not arrive, and then its message is sent again, to us or to who has the session next. Who has to
// remember a message until that cannot happen any more (triggers.Settlement.Forgotten) is told when the broker has answered a PINGREQ that
// was written behind the acknowledgement: it takes the packets of a connection in order.

// proof is what a window waits to have proven. Guarded by the window's lock.
type proof struct {
	written []*delivery // acknowledged, and nobody has asked since
	asked   []*delivery // acknowledged before the question
	number  uint64      // of the answer
	timer   *time.Timer // until the next question; nil = nobody waits
	over    bool
}

// proveAfter is how long acknowledgements come together for one question.
const proveAfter = 100 * time.Millisecond

func (p *proof) stop() {
	p.over, p.written, p.asked = true, nil, nil
	if p.timer != nil {
		p.timer.Stop()
	}
}

// doubt takes note of messages that were acknowledged just now. Called with mu held.
func (w *window) doubt(acked []*delivery) {
	for _, d := range acked {
		if d.forgotten != nil {
			w.proof.written = append(w.proof.written, d)
		}
	}
	w.wonder()
}

// wonder has the next question asked, if there is one and none is open. Called with mu held.
func (w *window) wonder() {
	p := &w.proof
	if len(p.written) > 0 && len(p.asked) == 0 && p.timer == nil && !p.over {
		p.timer = time.AfterFunc(proveAfter, w.ask)
	}
}

func (w *window) ask() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &w.proof
	p.timer = nil
	if p.over {
		return
	}
	number, err := w.link.ping()
	if err != nil {
		return // it has ended: nothing will be proven
	}
	p.number, p.asked, p.written = number, p.written, nil
}

// proven says how many questions the broker has answered.
func (w *window) proven(answered uint64) {
	w.mu.Lock()
	p := &w.proof
	if answered < p.number {
		w.mu.Unlock()
		return
	}
	known := p.asked
	p.asked = nil
	w.wonder()
	w.mu.Unlock()
	for _, d := range known {
		d.forgotten(!d.event.Dup) // before what is new it sent again what was not acknowledged ([MQTT-4.4.0-1], [MQTT-4.6.0-1])
	}
}
