package admin

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"mayfly/function"
)

// Peer is the process at the other end of the socket, as the kernel says.
type Peer struct {
	PID      int
	UID, GID uint32
}

// access decides who may come in: root, the agent's own user, members of one group.
type access struct {
	uid      uint32                                        // of the agent
	group    string                                        // "" = none
	groupID  string                                        // its id
	groupsOf func(uid uint32) (groups []string, err error) // ids from the group database
}

func newAccess(uid uint32, group string) (access, error) {
	a := access{uid: uid, group: group, groupsOf: systemGroups}
	if group == "" {
		return a, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return a, &function.Error{
			Op: "open", Subject: "admin socket", Class: function.ClassReject, Kind: KindInvalid, Err: err,
			Hint: "create it with: sudo groupadd --system " + group + ", or set another admin group in the configuration",
		}
	}
	a.groupID = g.Gid
	return a, nil
}

func systemGroups(uid uint32) ([]string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil, err
	}
	return u.GroupIds()
}

// check returns nil for a peer that may come in, and otherwise why not and what would help.
func (a access) check(p Peer) error {
	if p.UID == 0 || p.UID == a.uid {
		return nil
	}
	denied := &function.Error{Op: "enter", Subject: "admin socket", Class: function.ClassReject, Kind: KindDenied}
	if a.group == "" {
		denied.Err = fmt.Errorf("user id %d is neither root nor the agent's own user (%d)", p.UID, a.uid)
		denied.Hint = "use sudo"
		return denied
	}
	if strconv.FormatUint(uint64(p.GID), 10) == a.groupID {
		return nil
	}
	groups, err := a.groupsOf(p.UID)
	if err == nil && slices.Contains(groups, a.groupID) {
		return nil
	}
	denied.Err = fmt.Errorf("user id %d is not in group %s", p.UID, a.group)
	if err != nil {
		denied.Err = fmt.Errorf("%w (%w)", denied.Err, err)
	}
	denied.Hint = "use sudo, or: sudo usermod -aG " + a.group + " $USER, then log in again"
	return denied
}
