package cluster

import (
	"net"
	"net/netip"
	"slices"
)

// reachable chooses the address others reach this node at: what the operator said, else the one address it is bound to, else
// that of the default route, else the best of the interfaces. It returns the invalid address when there is none.
//
// Link-local IPv6 addresses are not eligible: they mean something only together with an interface, which gossip does not carry.
func reachable(bind, fixed, route netip.Addr, interfaces []netip.Addr) netip.Addr {
	if fixed.IsValid() {
		return fixed.Unmap()
	}
	if bind.IsValid() && !bind.IsUnspecified() {
		return bind.Unmap()
	}
	only4 := bind.IsValid() && bind.Is4()
	best, score := netip.Addr{}, 0
	for _, a := range append([]netip.Addr{route}, interfaces...) {
		a = a.Unmap()
		if only4 && !a.Is4() {
			continue
		}
		s := rank(a)
		if a == route.Unmap() && s > 2 {
			return a
		}
		if s > score || s == score && s > 0 && a.Less(best) {
			best, score = a, s
		}
	}
	return best
}

// lasting says whether an address that was chosen stays: while it is ours and good, however often the default route changes from one
// interface to the other.
func lasting(a netip.Addr, interfaces []netip.Addr) bool {
	return rank(a) > 2 && slices.ContainsFunc(interfaces, func(i netip.Addr) bool { return i.Unmap() == a })
}

// rank says how likely peers of one site reach an address; 0 is never.
func rank(a netip.Addr) int {
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsInterfaceLocalMulticast(), a.IsLinkLocalUnicast() && a.Is6():
		return 0
	case a.IsLoopback():
		return 1
	case a.IsLinkLocalUnicast():
		return 2
	case a.Is6() && !a.IsPrivate():
		return 3
	case a.Is6():
		return 4
	case !a.IsPrivate():
		return 5
	default:
		return 6
	}
}

// defaultRoute asks the kernel which of our addresses it would use to leave the site. Nothing is sent.
func defaultRoute() netip.Addr {
	for _, to := range []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("2001:db8::1")} { // RFC 5737, RFC 3849
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
		if err != nil {
			continue
		}
		local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		_ = c.Close() // it has done nothing
		if rank(local.Unmap()) > 1 {
			return local.Unmap()
		}
	}
	return netip.Addr{}
}

// ownAddresses are those of all interfaces that are up.
func ownAddresses() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var found []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Addr())
		}
	}
	return found
}
