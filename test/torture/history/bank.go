package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Accounts is how many accounts the bank has.
const Accounts = 24

// Transfer is what one event of the ledger asks for.
type Transfer struct {
	From, To int
	Amount   int64
}

// TransferOf returns the transfer of an event: the same for the publisher, the guest and the judge.
func TransferOf(key string, seq uint32) Transfer {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, seq)
	x := h.Sum64()
	x ^= x >> 29
	from := int(x % Accounts)
	to := (from + 1 + int(x>>8%(Accounts-1))) % Accounts
	return Transfer{from, to, int64(x>>32%1000) + 1}
}

// Bank is the ledger's state, as guests/ledger.c keeps it.
type Bank struct {
	Balance map[int]int64
	Twice   uint64 // events that acted twice
	Turned  uint64 // events that acted after a later one of their key
	bits    map[string][]byte
}

const chunk = 1024 // sequence numbers in one bitmap

// ReadBank decodes the ledger's report.
func ReadBank(report []byte) (*Bank, error) {
	b := &Bank{Balance: map[int]int64{}, bits: map[string][]byte{}}
	for len(report) > 0 {
		var key, value []byte
		var err error
		if key, report, err = text(report); err == nil {
			value, report, err = text(report)
		}
		if err == nil {
			err = b.add(string(key), value)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func text(report []byte) (t, rest []byte, err error) {
	if len(report) < 2 || len(report) < 2+int(binary.LittleEndian.Uint16(report)) {
		return nil, nil, errors.New("the ledger's report ends in the middle of an entry")
	}
	n := 2 + int(binary.LittleEndian.Uint16(report))
	return report[2:n], report[n:], nil
}

func (b *Bank) add(key string, value []byte) error {
	kind, rest, _ := strings.Cut(key, "/")
	if kind == "b" {
		b.bits[rest] = value
		return nil
	}
	if len(value) != 8 {
		return fmt.Errorf("the ledger's %s has %d bytes", key, len(value))
	}
	n := binary.LittleEndian.Uint64(value)
	switch kind {
	case "a":
		account, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		b.Balance[account] = int64(n)
	case "twice":
		b.Twice = n
	case "turned":
		b.Turned = n
	}
	return nil
}

// Acted reports whether the event of that key left its trace.
func (b *Bank) Acted(key string, seq uint32) bool {
	bits := b.bits[fmt.Sprintf("%s/%d", key, seq/chunk)]
	i := seq % chunk
	return int(i/8) < len(bits) && bits[i/8]>>(i%8)&1 == 1
}

// Sum returns the sum of all balances.
func (b *Bank) Sum() (sum int64) {
	for _, n := range b.Balance {
		sum += n
	}
	return sum
}
