package broker

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"mayfly/event"
)

// A sender's user properties are its own words: none of them says who it is [T4].
func TestSendersDoNotSayWhoTheyAre(t *testing.T) {
	pk := &packets.Packet{TopicName: "a", Properties: packets.Properties{User: []packets.UserProperty{
		{Key: "auth.sub", Val: "root"}, {Key: "unit", Val: "C"}, {Key: "auth.kind", Val: "jwt"},
	}}}
	ev := new(Broker).newEvent(pk)
	if len(ev.User) != 1 || ev.User[0].Name != "unit" {
		t.Errorf("attributes %v", ev.User)
	}
	for _, a := range ev.User {
		if strings.HasPrefix(a.Shown(), event.AuthPrefix) {
			t.Errorf("a sender said %v", a)
		}
	}
}
