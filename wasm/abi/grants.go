package abi

import (
	"encoding/binary"
	"slices"
	"strconv"
	"unicode/utf16"
)

func (s *Session) configGet(m memory, a []uint64) (uint64, error) {
	key, _, ok := m.at2(a[0], a[1], a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	value, found := s.policy.setting(text(key))
	if !found {
		return i32(codeAbsent), nil
	}
	return m.give(a[2], a[3], value)
}

func (s *Session) secretGet(m memory, a []uint64) (uint64, error) {
	name, _, ok := m.at2(a[0], a[1], a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	if !slices.Contains(s.policy.fn.Manifest.Permissions.Secrets, text(name)) {
		return i32(codeDenied), nil
	}
	if s.call.Secrets == nil {
		return i32(codeUnavailable), nil
	}
	value, found, err := s.call.Secrets.Secret(string(name))
	switch {
	case err != nil:
		return i32(codeUnavailable), nil
	case !found:
		return i32(codeAbsent), nil
	}
	return m.give(a[2], a[3], text(value))
}

// maxAbortText is how much of abort's texts is kept, in characters.
const maxAbortText = 512

// abort is AssemblyScript's: message and file are its strings, UTF-16 with the size in bytes in the four bytes before.
func abort(m memory, a []uint64) error {
	message := assemblyString(m, a[0])
	if message == "" {
		message = "abort"
	}
	if file := assemblyString(m, a[1]); file != "" {
		message += " at " + file + ":" + strconv.Itoa(int(uint32(a[2]))) + ":" + strconv.Itoa(int(uint32(a[3])))
	}
	return &Trap{Kind: "abort", Reason: message}
}

// assemblyString reads a string object. What is not one reads as empty: the guest is going down anyway.
func assemblyString(m memory, ptr uint64) string {
	p := uint64(uint32(ptr))
	if p < 4 {
		return ""
	}
	header, ok := m.at(p-4, 4)
	if !ok {
		return ""
	}
	size := min(binary.LittleEndian.Uint32(header), 2*maxAbortText) &^ 1
	b, ok := m.at(p, uint64(size))
	if !ok {
		return ""
	}
	units := make([]uint16, 0, maxAbortText)
	for ; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}
