package abi

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// answer is what an http handle stands for.
type answer struct {
	body []byte
	meta []byte // JSON, see http_meta
	open bool
}

// requestJSON is what http_send reads.
type requestJSON struct {
	Method string            `json:"method"`
	URL    string            `json:"url"`
	Header map[string]string `json:"header"`
}

func (s *Session) httpSend(m memory, a []uint64) (uint64, error) {
	request, body, ok := m.at2(a[0], a[1], a[2], a[3])
	if !ok {
		return 0, errOutside
	}
	r, code := s.readRequest(request)
	if code == 0 {
		code = s.mayRequest(len(body))
	}
	if code != 0 {
		return i32(code), nil
	}
	s.requests++
	r.Body, r.MaxBody = keep(body), s.policy.limits.Payload
	response, err := s.call.HTTP.Do(s.call.Deadline, r)
	if err != nil {
		return i32(s.httpFailure(err)), nil
	}
	meta := appendMeta(nil, response)
	if int64(len(response.Body)) > r.MaxBody || len(meta) > MaxMetaJSON {
		return i32(codeTooLarge), nil
	}
	return uint64(s.open(answer{body: response.Body, meta: meta, open: true})), nil
}

// readRequest reads a request and checks it against the manifest.
func (s *Session) readRequest(text []byte) (r function.HTTPRequest, code int32) {
	if len(text) > MaxRequestJSON {
		return r, codeTooLarge
	}
	q := requestJSON{Method: "GET"}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&q) != nil || d.Decode(new(struct{})) != io.EOF || !isMethod(q.Method) || len(q.Header) > MaxHeaders {
		return r, codeInvalid
	}
	for name, value := range q.Header {
		if !isToken(name) || isConnectionHeader(name) || !isFieldValue(value) {
			return r, codeInvalid
		}
		r.Header = append(r.Header, event.Attr{Name: name, Value: value})
	}
	slices.SortFunc(r.Header, func(a, b event.Attr) int { return strings.Compare(a.Name, b.Name) })
	u, ok := parseTarget(q.URL)
	if !ok {
		return r, codeInvalid
	}
	u.Fragment, u.RawFragment = "", ""
	if !slices.ContainsFunc(s.policy.fn.Manifest.Permissions.HTTP, func(pattern string) bool { return permitsURL(pattern, u) }) {
		return r, codeDenied
	}
	r.Method, r.URL = q.Method, u.String()
	return r, 0
}

func isMethod(s string) bool { return isToken(s) && s != "CONNECT" && s != "TRACE" }

// mayRequest says whether a request with a body of n bytes may leave now.
func (s *Session) mayRequest(n int) int32 {
	switch {
	case s.call.HTTP == nil || s.call.DryRun: // nothing leaves the node in a dry run
		return codeUnavailable
	case s.left(time.Now()) == 0:
		return codeDeadline
	case s.requests >= MaxHTTP || s.openAnswers() >= MaxOpenHTTP:
		return codeOverLimit
	}
	return s.spend(n)
}

// httpFailure is what the guest is told of err.
func (s *Session) httpFailure(err error) int32 {
	switch {
	case function.KindOf(err) == "too-large":
		return codeTooLarge
	case function.KindOf(err) == "denied":
		return codeDenied
	case s.left(time.Now()) == 0:
		return codeDeadline
	}
	return codeUnavailable
}

func (s *Session) openAnswers() int {
	n := 0
	for i := range s.answers {
		if s.answers[i].open {
			n++
		}
	}
	return n
}

// open gives w a handle, from 1 on.
func (s *Session) open(w answer) int {
	for i := range s.answers {
		if !s.answers[i].open {
			s.answers[i] = w
			return i + 1
		}
	}
	s.answers = append(s.answers, w)
	return len(s.answers)
}

// answerAt returns the open answer of handle h, or nil.
func (s *Session) answerAt(h uint64) *answer {
	if i := uint64(uint32(h)) - 1; i < uint64(len(s.answers)) && s.answers[i].open { // 0 wraps around
		return &s.answers[i]
	}
	return nil
}

func (s *Session) httpRead(m memory, a []uint64) (uint64, error) {
	if w := s.answerAt(a[0]); w != nil {
		return m.give(a[1], a[2], text(w.body))
	}
	return i32(codeInvalid), nil
}

func (s *Session) httpMeta(m memory, a []uint64) (uint64, error) {
	if w := s.answerAt(a[0]); w != nil {
		return m.give(a[1], a[2], text(w.meta))
	}
	return i32(codeInvalid), nil
}

func (s *Session) httpClose(a []uint64) {
	if w := s.answerAt(a[0]); w != nil {
		*w = answer{}
	}
}

// appendMeta writes {"status":200,"header":{"name":"value"}}, names in lower case, values of one name joined by ", ".
func appendMeta(b []byte, r function.HTTPResponse) []byte {
	b = append(b, `{"status":`...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, `,"header":{`...)
	header := make([]event.Attr, len(r.Header))
	for i, h := range r.Header {
		header[i] = event.Attr{Name: strings.ToLower(h.Name), Value: h.Value}
	}
	slices.SortStableFunc(header, func(a, b event.Attr) int { return strings.Compare(a.Name, b.Name) })
	for i := 0; i < len(header); {
		values := []string{header[i].Value}
		j := i + 1
		for ; j < len(header) && header[j].Name == header[i].Name; j++ {
			values = append(values, header[j].Value)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, header[i].Name)
		b = append(b, ':')
		b = appendString(b, strings.Join(values, ", "))
		i = j
	}
	return append(b, "}}"...)
}
