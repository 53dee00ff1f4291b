package lan

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// end is a host's side of its cable: what the switch reads was sent, and what it writes was received.
type end struct {
	sent chan []byte
	got  chan []byte
}

func (e *end) Read(b []byte) (int, error) {
	frame, ok := <-e.sent
	if !ok {
		return 0, io.EOF
	}
	return copy(b, frame), nil
}

func (e *end) Write(b []byte) (int, error) {
	e.got <- append([]byte(nil), b...)
	return len(b), nil
}

func (e *end) Close() error {
	close(e.sent)
	return nil
}

func frame(from, to, number byte) []byte {
	f := make([]byte, 60)
	f[5], f[11], f[14] = to, from, number
	return f
}

// three hosts, 1 to 3, whose places the switch knows.
func hosts(t *testing.T) (*Switch, map[byte]*end) {
	t.Helper()
	s, ends := NewSwitch(1), map[byte]*end{}
	for i := byte(1); i <= 3; i++ {
		ends[i] = &end{make(chan []byte), make(chan []byte, 1000)}
		s.Plug(string('0'+rune(i)), ends[i])
		ends[i].sent <- frame(i, i, 0)
	}
	synctest.Wait()
	for _, e := range ends {
		for len(e.got) > 0 {
			<-e.got
		}
	}
	return s, ends
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
		lo    int // of 500 frames at least so many arrive, and at most
		hi    int
		after time.Duration
	}{
		{"good", Fault{}, 500, 500, 0},
		{"blocked", Fault{Block: true}, 0, 0, 0},
		{"a fifth is lost", Fault{Loss: 0.2}, 350, 450, 0},
		{"late", Fault{Delay: 200 * time.Millisecond}, 500, 500, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, ends := hosts(t)
			s.Set("1", "2", c.fault)
			began := time.Now()
			for i := range 500 {
				ends[1].sent <- frame(1, 2, byte(i))
			}
			ends[2].sent <- frame(2, 1, 7) // the other direction is good
			synctest.Wait()
			if c.after > 0 && len(ends[2].got) > 0 {
				t.Errorf("%s: %d frames came at once", c.name, len(ends[2].got))
			}
			time.Sleep(time.Second)
			if n := len(ends[2].got); n < c.lo || n > c.hi || len(ends[1].got) != 1 || len(ends[3].got) != 0 {
				t.Errorf("%s: %d frames came, %d back, %d to who was not meant, after %v", c.name, n, len(ends[1].got), len(ends[3].got), time.Since(began))
			}
			for before := -1; len(ends[2].got) > 0; {
				f := <-ends[2].got
				if step := int(f[14]) - before; c.fault.Loss == 0 && step != 1 && step != -255 {
					t.Fatalf("%s: frame %d after %d", c.name, f[14], before)
				}
				before = int(f[14])
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCableOutAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ends := hosts(t)
		s.Unplug("2", true)
		s.Between([]string{"1"}, []string{"3"}, Fault{Block: true})
		ends[1].sent <- frame(1, 2, 1)
		ends[1].sent <- frame(1, 3, 1)
		ends[2].sent <- frame(2, 1, 1)
		synctest.Wait()
		if len(ends[1].got)+len(ends[2].got)+len(ends[3].got) != 0 {
			t.Error("something came through")
		}
		s.Unplug("2", false)
		s.Heal()
		ends[1].sent <- frame(1, 2, 1)
		ends[1].sent <- frame(1, 3, 1)
		synctest.Wait()
		if len(ends[2].got) != 1 || len(ends[3].got) != 1 {
			t.Errorf("%d and %d frames came after all was well again", len(ends[2].got), len(ends[3].got))
		}
		if frames, bytes := s.Carried("1", "3"); frames == 0 || bytes == 0 {
			t.Error("nothing was counted")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
