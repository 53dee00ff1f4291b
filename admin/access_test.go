package admin

import (
	"errors"
	"strings"
	"testing"

	"mayfly/function"
)

func TestAccess(t *testing.T) {
	members := func(uid uint32) ([]string, error) {
		switch uid {
		case 1001:
			return []string{"100", "77"}, nil
		case 1002:
			return []string{"100"}, nil
		}
		return nil, errors.New("unknown user")
	}
	withGroup := access{uid: 900, group: "mayfly", groupID: "77", groupsOf: members}
	without := access{uid: 900, groupsOf: members}
	for name, c := range map[string]struct {
		a    access
		peer Peer
		ok   bool
		hint string
	}{
		"root":                         {withGroup, Peer{UID: 0}, true, ""},
		"the agent's own user":         {withGroup, Peer{UID: 900}, true, ""},
		"a member by primary group":    {withGroup, Peer{UID: 1003, GID: 77}, true, ""},
		"a member by the database":     {withGroup, Peer{UID: 1001, GID: 100}, true, ""},
		"no member":                    {withGroup, Peer{UID: 1002, GID: 100}, false, "usermod -aG mayfly"},
		"a user the database lacks":    {withGroup, Peer{UID: 1004, GID: 100}, false, "usermod"},
		"a member, no group set":       {without, Peer{UID: 1001, GID: 77}, false, "sudo"},
		"root's group is not root":     {without, Peer{UID: 1002, GID: 0}, false, "sudo"},
		"empty group id never matches": {access{uid: 900, group: "x", groupID: "", groupsOf: members}, Peer{UID: 1002, GID: 0}, false, "sudo"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.a.check(c.peer)
			if (err == nil) != c.ok {
				t.Fatalf("check: %v", err)
			}
			if err == nil {
				return
			}
			fe, ok := errors.AsType[*function.Error](err)
			if !ok || fe.Kind != KindDenied || !strings.Contains(fe.Hint, c.hint) {
				t.Fatalf("error %#v, want kind denied with hint %q", err, c.hint)
			}
		})
	}
}

func TestUnknownGroup(t *testing.T) {
	_, err := NewServer(Config{Group: "no-such-group-here"}, Backend{}, nil)
	fe, ok := errors.AsType[*function.Error](err)
	if !ok || !strings.Contains(fe.Hint, "groupadd") {
		t.Fatalf("got %v, want an error that says how to create the group", err)
	}
}
