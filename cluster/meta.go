package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Meta is what every member knows about every other. It travels with each alive message and in every exchange of state, so it is
// small and changes rarely; what changes often is Load.
type Meta struct {
	Arch        Arch
	OS          OS
	Roles       uint8    // bits, the composition root's
	Slots       uint16   // functions that may run at once
	Speed       uint8    // class, 16 = the reference device
	Memory      uint8    // class: log2 of MiB
	Port        uint16   // of calls between nodes, on the member's address
	Brokers     uint16   // bit i: the i-th broker has had a good connection for a while
	Power       uint8    // class, 0 = mains
	Draining    bool     // takes no new work
	Labels      uint64   // hash of the labels; themselves they are in the catalog
	Zone        uint64   // hash of the zone's name
	Fingerprint [16]byte // first half of the hash of its key; a name is shorter still
}

// Arch is a processor architecture.
type Arch uint8

// Architectures. The numbers are on the wire.
const (
	ArchUnknown Arch = iota
	ArchAMD64
	ArchARM64
	ArchARM
	ArchRISCV64
)

// OS is an operating system.
type OS uint8

// Operating systems. The numbers are on the wire.
const (
	OSUnknown OS = iota
	OSLinux
)

const (
	metaVersion = 1
	metaSize    = 46
	// MetaMax bounds an encoded Meta, in bytes: it is in every packet about a member.
	MetaMax = 96

	flagDraining = 1 << 0
)

// MarshalBinary encodes m in 46 bytes, at most MetaMax in versions to come. It never fails.
func (m Meta) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, metaSize)
	flags := byte(0)
	if m.Draining {
		flags |= flagDraining
	}
	b = append(b, metaVersion, byte(m.Arch), byte(m.OS), m.Roles)
	b = binary.BigEndian.AppendUint16(b, m.Slots)
	b = append(b, m.Speed, m.Memory)
	b = binary.BigEndian.AppendUint16(b, m.Port)
	b = binary.BigEndian.AppendUint16(b, m.Brokers)
	b = append(b, m.Power, flags)
	b = binary.BigEndian.AppendUint64(b, m.Labels)
	b = binary.BigEndian.AppendUint64(b, m.Zone)
	return append(b, m.Fingerprint[:]...), nil
}

var errMeta = errors.New("not a member's description")

// UnmarshalBinary decodes what MarshalBinary made. Bytes behind those it knows are ignored: a later version may append some
// without becoming unreadable. Another version byte is an error.
func (m *Meta) UnmarshalBinary(b []byte) error {
	switch {
	case len(b) < metaSize || len(b) > MetaMax:
		return fmt.Errorf("%w: %d bytes", errMeta, len(b))
	case b[0] != metaVersion:
		return fmt.Errorf("%w: version %d", errMeta, b[0])
	}
	*m = Meta{
		Arch: Arch(b[1]), OS: OS(b[2]), Roles: b[3],
		Slots: binary.BigEndian.Uint16(b[4:]),
		Speed: b[6], Memory: b[7],
		Port:    binary.BigEndian.Uint16(b[8:]),
		Brokers: binary.BigEndian.Uint16(b[10:]),
		Power:   b[12], Draining: b[13]&flagDraining != 0,
		Labels:      binary.BigEndian.Uint64(b[14:]),
		Zone:        binary.BigEndian.Uint64(b[22:]),
		Fingerprint: [16]byte(b[30:46]),
	}
	return nil
}
