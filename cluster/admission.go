package cluster

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// memberOf reads what memberlist knows about a node.
func memberOf(n *memberlist.Node) (Member, error) {
	m := Member{Name: n.Name}
	ip, ok := netip.AddrFromSlice(n.Addr)
	ip = ip.Unmap()
	if !ok || ip.IsUnspecified() || ip.IsMulticast() || n.Port == 0 {
		return m, errors.New("it has no address")
	}
	m.Addr = netip.AddrPortFrom(ip, n.Port)
	if len(n.Name) == 0 || len(n.Name) > nameMax {
		return m, fmt.Errorf("its name has %d bytes", len(n.Name))
	}
	return m, m.Meta.UnmarshalBinary(n.Meta)
}

// admit decides who is a member. It is cheap: it is asked about every message.
func (c *Cluster) admit(m Member) error {
	if m.Name == c.config.Name && m.Meta.Fingerprint == c.config.Meta.Fingerprint {
		return nil // ourselves: we would only lock ourselves out
	}
	if c.config.NameOf != nil && c.config.NameOf(m.Meta.Fingerprint) != m.Name {
		return errors.New("its name is not that of its key")
	}
	if !allowed(c.config.Allowed, m.Addr.Addr()) {
		return fmt.Errorf("members may not be at %s", m.Addr)
	}
	if c.config.Admission != nil {
		return c.config.Admission.Admit(m)
	}
	return nil
}

func allowed(where []netip.Prefix, a netip.Addr) bool {
	for _, p := range where {
		if p.Contains(a) {
			return true
		}
	}
	return len(where) == 0
}

// NotifyAlive implements memberlist.AliveDelegate: an error keeps the message from having any effect.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, err := memberOf(n)
	if err == nil {
		err = d.c.admit(m)
	}
	return err
}

// NotifyConflict implements memberlist.ConflictDelegate: one name at two addresses, while the first is believed to be live. The
// first stays. It is either two devices with one key, a copied card, or one whose address changed before we knew that it
// was gone; the latter ends by itself.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	one, _ := memberOf(existing) // what cannot be read is shown as far as it could
	two, _ := memberOf(other)
	if one.Name == d.c.config.Name {
		signal(d.c.doubt)
	}
	d.c.mu.Lock()
	_, ours := d.c.addresses[two.Addr]
	ours = ours && one.Name == d.c.config.Name
	if !ours {
		d.c.conflicts++
	}
	d.c.mu.Unlock()
	if ours {
		return // an address we had before
	}
	d.c.log.Warn("one name at two addresses; if this does not end within minutes two devices have the same key: give one of them a new one",
		"member", one.Name, "stays", one.Addr.String(), "refused", two.Addr.String())
}
