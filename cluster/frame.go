package cluster

import (
	"encoding/binary"
	"errors"
)

// What members say to each other inside memberlist's messages. Every message begins with a version byte and a kind; what somebody
// does not know he ignores, and does not pass on.
const (
	frameVersion = 1

	kindLoad     = 1 // origin, load word
	kindAnnounce = 2 // origin, key, announcement
	kindSync     = 3 // origin, then key and digest for every state; only in exchanges of state

	// frameMax is what fits into a packet beside a few of memberlist's own messages. A broadcast that is larger than the free
	// space would never be sent and never be dropped: it would sit in the queue.
	frameMax    = 640
	announceMax = 64 << 10
	digestMax   = 8 << 10
	keyMax      = 32
)

var errFrame = errors.New("not a message of the cluster")

type frame struct {
	kind        byte
	origin, key string
	body        []byte
}

// encode lays a frame out: version, kind, length and origin, for announcements length and key, body.
func (f frame) encode() []byte {
	b := make([]byte, 0, 4+len(f.origin)+len(f.key)+len(f.body))
	b = append(b, frameVersion, f.kind, byte(len(f.origin)))
	b = append(b, f.origin...)
	if f.kind == kindAnnounce {
		b = append(b, byte(len(f.key)))
		b = append(b, f.key...)
	}
	return append(b, f.body...)
}

// decode reads a frame. Its body is part of b.
func decode(b []byte) (f frame, err error) {
	if len(b) < 2 || b[0] != frameVersion {
		return frame{}, errFrame
	}
	f.kind = b[1]
	if f.kind < kindLoad || f.kind > kindSync {
		return frame{}, errFrame
	}
	if f.origin, b, err = word(b[2:], nameMax); err != nil {
		return frame{}, err
	}
	if f.kind == kindAnnounce {
		if f.key, b, err = word(b, keyMax); err != nil {
			return frame{}, err
		}
	}
	f.body = b
	return f, nil
}

// word reads a length and that many bytes, 1 to most.
func word(b []byte, most int) (string, []byte, error) {
	if len(b) < 1 || b[0] == 0 || int(b[0]) > most || len(b) < 1+int(b[0]) {
		return "", nil, errFrame
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], nil
}

// appendDigest adds one state to the body of a kindSync.
func appendDigest(b []byte, key string, digest []byte) []byte {
	b = append(b, byte(len(key)))
	b = append(b, key...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(digest)))
	return append(b, digest...)
}

// digests reads the body of a kindSync, up to what cannot be read.
func digests(b []byte, yield func(key string, digest []byte)) error {
	for len(b) > 0 {
		key, rest, err := word(b, keyMax)
		if err != nil || len(rest) < 2 {
			return errFrame
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n > digestMax || len(rest) < 2+n {
			return errFrame
		}
		yield(key, rest[2:2+n])
		b = rest[2+n:]
	}
	return nil
}
