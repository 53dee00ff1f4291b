package meter

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"mayfly/store"
)

func sortEntries(all []entry) {
	slices.SortFunc(all, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
}

// Verification is what Verify found.
type Verification struct {
	Segments uint64 `json:"segments"`         // closed ones that fit
	Months   int    `json:"months"`           // records of folded months
	Head     string `json:"head"`             // number and beginning of the last link: noted elsewhere, it shows that the whole was replaced
	Broken   string `json:"broken,omitempty"` // the first thing that does not fit; "" = the ledger is as it was written
}

// Verify computes the chain again from the records ([L3]). The error is the store's.
func (m *Meter) Verify() (v Verification, err error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	begin, fault := m.anchored()
	if fault != nil {
		v.Broken = "the beginning of the ledger cannot be read: " + fault.Error()
	} else if begin.misfits > 0 {
		v.Broken = fmt.Sprintf("%d times something was not what was written when hours were added to their months", begin.misfits)
	}
	v.Head = fmt.Sprintf("%d:%s", m.open.number-1, hex.EncodeToString(m.open.before[:8]))
	for _, check := range []func(*Verification, anchor) error{m.checkMonths, m.checkStrays, m.checkSegments, m.checkOpen} {
		if err := check(&v, begin); err != nil {
			return v, err
		}
	}
	return v, nil
}

// say notes what does not fit, if it is the first.
func (v *Verification) say(format string, args ...any) {
	if v.Broken == "" {
		v.Broken = fmt.Sprintf(format, args...)
	}
}

func (m *Meter) checkMonths(v *Verification, begin anchor) error {
	all, err := m.read(kindPrefix(kindMonth))
	v.Months = len(all)
	if begin.months != monthsHash(all) {
		v.say("the folded months are not what was written")
	}
	return err
}

// checkStrays looks for records where none should be.
func (m *Meter) checkStrays(v *Verification, begin anchor) error {
	return m.store.Scan(store.Meter.All(), nil, func(key, value []byte, _ uint64) bool {
		if bytes.Equal(key, anchorKey()) {
			return true
		}
		e, err := readEntry(key, value)
		switch {
		case err != nil:
			v.say("%v", err)
		case e.kind == kindMonth:
		case e.number <= begin.segment, e.number > m.open.number, e.kind == kindLink && e.number == m.open.number:
			v.say("there is a record of segment %d, which the chain does not have", e.number)
		}
		return v.Broken == ""
	})
}

func (m *Meter) checkSegments(v *Verification, begin anchor) error {
	at := begin.link
	for n := begin.segment + 1; n < m.open.number; n++ {
		rows, err := m.read(recordKey(kindRow, n))
		if err != nil {
			return err
		}
		written, version, err := m.store.Get(recordKey(kindLink, n))
		at = hash(at[:], rows)
		if err != nil || version == 0 || !bytes.Equal(written, at[:]) {
			v.say("segment %d%s is not what was written", n, when(rows))
			return nil
		}
		v.Segments++
	}
	if at != m.open.before {
		v.say("the segment that is being written does not follow the one before")
	}
	return nil
}

// when is the hour of rows, in words.
func when(rows []entry) string {
	for i := range rows {
		if hour, _, err := rows[i].usage(); err == nil {
			return ", of " + timeOf(hour).Format("2006-01-02 15:04") + " UTC,"
		}
	}
	return ""
}

// checkOpen compares the segment that is being written with what this process wrote.
func (m *Meter) checkOpen(v *Verification, _ anchor) error {
	rows, err := m.read(recordKey(kindRow, m.open.number))
	if hash(nil, rows) != hash(nil, m.open.rows()) {
		v.say("segment %d, which is being written, was changed by somebody else", m.open.number)
	}
	return err
}
