package identity

import (
	"testing"
)

func TestMembersShakeHands(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant-7.example")
	a, b := s.join(t), s.join(t)
	a.open(t)
	b.open(t)
	for _, pair := range [][2]*device{{a, b}, {b, a}, {s.signer, a}, {a, s.signer}} {
		from, to := pair[0], pair[1]
		atServer, atClient, serr, cerr := call(t, to.ServerTLS(), from.ClientTLS(to.ID()))
		if serr != nil || cerr != nil {
			t.Fatalf("server %v, client %v", serr, cerr)
		}
		if id, ok := NodeOf(&atServer); !ok || id != from.ID() {
			t.Errorf("the server sees %q, %v", id, ok)
		}
		if id, ok := NodeOf(&atClient); !ok || id != to.ID() {
			t.Errorf("the client sees %q, %v", id, ok)
		}
	}
}
