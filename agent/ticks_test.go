package agent

import (
	"log/slog"
	"testing"
	"time"

	"mayfly/agent/dispatch"
	"mayfly/event"
	"mayfly/triggers"
)

// Two nodes of one cluster, each with its own disk: whoever takes a schedule over goes on where the other was.
func TestWhoTakesAScheduleOverGoesOn(t *testing.T) {
	id := tickIDOf("f", "cron[0]", "0 0 * * *")
	var heard *fired
	sides := make([]*schedules, 2)
	for i := range sides {
		st, _ := opened(t, t.TempDir())
		s := newSchedules(st, func(q dispatch.Request, r triggers.Receipt) error {
			return st.Submit(q.Also, func(err error) { r.Settle(triggers.Settlement{Err: err, Journaled: true}) })
		}, slog.New(slog.DiscardHandler))
		var err error
		s.fired, err = newFired(st, func(b []byte) error {
			news, err := heard.Heard("a", b)
			if err == nil && !news {
				t.Error("a tick is no news")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.fired.keep(map[tickID]bool{id: true})
		sides[i] = s
	}
	heard = sides[1].fired
	due := time.Now().Add(-time.Hour).Truncate(time.Second)
	settled := make(answer, 1)
	if err := (ticker{sides[0], "f", "cron[0]", "0 0 * * *", true}).Accept(t.Context(), &event.Event{Time: due}, settled); err != nil {
		t.Fatal(err)
	}
	if got := <-settled; got.Err != nil {
		t.Fatal(got.Err)
	}
	deployed := due.Add(-24 * time.Hour)
	if last, err := (ticker{sides[1], "f", "cron[0]", "0 0 * * *", true}).last(deployed); err != nil || !last.Equal(due) && time.Since(last) > takeover+time.Second {
		t.Errorf("the new owner begins at %v, %v; the old one fired %v", last, err, due)
	}
	if last, ok := heard.last(id); !ok || !last.Equal(due) {
		t.Errorf("heard %v, %v", last, ok)
	}
}

// A node that never had a schedule and knows nothing of it fires what came due while it took over, and nothing older.
func TestATakeoverWithoutNewsLooksBackALittle(t *testing.T) {
	st, _ := opened(t, t.TempDir())
	s := newSchedules(st, nil, slog.New(slog.DiscardHandler))
	s.fired, _ = newFired(st, nil)
	tk := ticker{s, "f", "cron[0]", "0 0 * * *", true}
	last, err := tk.last(time.Now().Add(-time.Hour))
	if back := time.Since(last); err != nil || back < takeover || back > takeover+5*time.Second {
		t.Errorf("it looks back %v, %v", back, err)
	}
	young := time.Now().Add(-time.Second)
	if last, err := tk.last(young); err != nil || !last.Equal(young) {
		t.Errorf("a function that was just deployed begins at %v, %v; want %v", last, err, young)
	}
}

func TestTicksAreBoundedAndNotOfTheFuture(t *testing.T) {
	st, _ := opened(t, t.TempDir())
	f, err := newFired(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	known, unknown := tickIDOf("f", "cron[0]", "a"), tickIDOf("g", "cron[0]", "a")
	f.keep(map[tickID]bool{known: true})
	now := time.Now().Unix()
	for _, c := range []struct {
		id   tickID
		at   int64
		news bool
	}{{known, now - 10, true}, {known, now - 20, false}, {known, now - 10, false}, {unknown, now, false}, {known, now + 3600, false}, {known, now - 5, true}} {
		if news, err := f.Heard("x", encodeTicks(map[tickID]int64{c.id: c.at})); err != nil || news != c.news {
			t.Errorf("%+v: news %v, %v", c, news, err)
		}
	}
	if last, ok := f.last(known); !ok || last.Unix() != now-5 {
		t.Error(last, ok)
	}
	if _, err := f.Heard("x", make([]byte, tickSize+1)); err == nil {
		t.Error("half a tick was taken")
	}
	if b, _ := f.MarshalBinary(); len(b) != tickSize {
		t.Errorf("%d bytes", len(b))
	}
	again, err := newFired(st, nil)
	if err != nil || again.unsaved() == nil && len(again.known) != 0 {
		t.Error(err)
	}
	done := make(chan error, 1)
	if err := st.Submit(f.unsaved(), func(err error) { done <- err }); err != nil || <-done != nil {
		t.Fatal(err)
	}
	if again, err = newFired(st, nil); err != nil || again.known[known] != now-5 || f.unsaved() != nil {
		t.Errorf("after a restart %v, %v", again.known, err)
	}
}
