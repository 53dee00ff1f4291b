package abi

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"mayfly/function"
)

// Standard streams.
const (
	fdStdin = iota
	fdStdout
	fdStderr
	fdCount
)

// Rights of preview 1 that the standard streams have.
const (
	rightRead     = 1 << 1
	rightWrite    = 1 << 6
	rightFilestat = 1 << 21
	rightPoll     = 1 << 27
)

// fdOr returns code for an open standard stream, else EBADF.
func (s *Session) fdOr(fd uint64, code uint64) uint64 {
	if uint32(fd) >= fdCount || s.closed[uint32(fd)] {
		return wasiBadf
	}
	return code
}

func (s *Session) fdClose(a []uint64) uint64 {
	e := s.fdOr(a[0], 0)
	if e == 0 {
		s.closed[uint32(a[0])] = true
	}
	return e
}

// fdStat answers fd_fdstat_get. The file type is "unknown": a C library then buffers output fully, as it does on a pipe.
func (s *Session) fdStat(m memory, a []uint64) (uint64, error) {
	if e := s.fdOr(a[0], 0); e != 0 {
		return e, nil
	}
	b, ok := m.at(a[1], 24)
	if !ok {
		return 0, errOutside
	}
	clear(b)
	rights := uint64(rightWrite | rightFilestat | rightPoll)
	if uint32(a[0]) == fdStdin {
		rights = rightRead | rightFilestat | rightPoll
	}
	binary.LittleEndian.PutUint64(b[8:], rights)
	return 0, nil
}

// fdFilestat answers fd_filestat_get: a file of unknown type without size or times.
func (s *Session) fdFilestat(m memory, a []uint64) (uint64, error) {
	if e := s.fdOr(a[0], 0); e != 0 {
		return e, nil
	}
	b, ok := m.at(a[1], 64)
	if !ok {
		return 0, errOutside
	}
	clear(b)
	binary.LittleEndian.PutUint64(b[24:], 1) // links
	return 0, nil
}

// vector yields the i-th of a list of buffers (ciovec: pointer, length).
func (m memory) vector(list []byte, i int) ([]byte, bool) {
	v := list[8*i:]
	return m.at(uint64(binary.LittleEndian.Uint32(v)), uint64(binary.LittleEndian.Uint32(v[4:])))
}

// fdRead reads the event's data for a command; other guests find an empty input.
func (s *Session) fdRead(m memory, a []uint64) (uint64, error) {
	if uint32(a[0]) != fdStdin || s.closed[fdStdin] {
		return wasiBadf, nil
	}
	if uint32(a[2]) > MaxVectors {
		return wasiInval, nil
	}
	list, done, ok := m.at2(a[1], a[2]*8, a[3], 4)
	if !ok {
		return 0, errOutside
	}
	n := 0
	for i := range len(list) / 8 {
		b, ok := m.vector(list, i)
		if !ok {
			return 0, errOutside
		}
		if s.kind == function.ABICommand {
			c := copy(b, s.call.Event.Data[s.stdin:])
			s.stdin += c
			n += c
		}
	}
	binary.LittleEndian.PutUint32(done, uint32(n))
	return 0, nil
}

// fdWrite takes a command's standard output, and turns the other streams into log lines.
func (s *Session) fdWrite(m memory, a []uint64) (uint64, error) {
	fd := uint32(a[0])
	if fd != fdStdout && fd != fdStderr || s.closed[fd] {
		return wasiBadf, nil
	}
	if uint32(a[2]) > MaxVectors {
		return wasiInval, nil
	}
	list, done, ok := m.at2(a[1], a[2]*8, a[3], 4)
	if !ok {
		return 0, errOutside
	}
	n := uint64(0)
	for i := range len(list) / 8 {
		b, ok := m.vector(list, i)
		switch {
		case !ok:
			return 0, errOutside
		case n+uint64(len(b)) > math.MaxInt32:
			return wasiInval, nil
		}
		n += uint64(len(b))
		if fd == fdStdout && s.kind == function.ABICommand {
			if err := s.writeStdout(b); err != nil {
				return 0, err
			}
			continue
		}
		s.writeLines(fd, b)
	}
	binary.LittleEndian.PutUint32(done, uint32(n))
	return 0, nil
}

// writeStdout keeps a command's output. Too much of it ends the guest: few programs look at what a write returned.
func (s *Session) writeStdout(b []byte) error {
	if s.spend(len(b)) != 0 {
		return &Trap{Kind: "output-limit", Reason: "standard output and publishes exceed the output limit of " +
			strconv.FormatInt(s.policy.limits.Output, 10) + " bytes"}
	}
	s.stdout = append(s.stdout, b...)
	return nil
}

// writeLines splits a stream into log lines.
func (s *Session) writeLines(fd uint32, b []byte) {
	line := &s.lines[fd-fdStdout]
	for len(b) > 0 {
		if s.logFull() {
			*line = (*line)[:0]
			s.drop()
			return
		}
		part, rest, found := bytes.Cut(b, newline)
		if room := MaxLine - len(*line); len(part) > room {
			part, rest, found = b[:room], b[room:], true
		}
		*line = append(*line, part...)
		b = rest
		if found || len(*line) == MaxLine {
			s.flushLine(fd)
		}
	}
}

// flushLine logs what a stream has of a line.
func (s *Session) flushLine(fd uint32) {
	line := &s.lines[fd-fdStdout]
	level := function.LevelInfo
	if fd == fdStderr && s.kind != function.ABICommand {
		level = function.LevelError // a command's standard error is its log; others' panics go there
	}
	if text := bytes.TrimSuffix(*line, carriage); len(text) > 0 {
		s.logLine(level, text)
	} else {
		s.logged++ // empty lines are not kept, but a guest cannot keep us busy with them either
	}
	*line = (*line)[:0]
}

// newline and carriage are constants that Go has no words for.
var newline, carriage = []byte{'\n'}, []byte{'\r'}
