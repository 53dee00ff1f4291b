package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mayfly/event"
)

// readEvent makes the event of a request. With the header ce-specversion it is a CloudEvent in binary content mode (CloudEvents HTTP
// protocol binding 1.0, section 3.1), with the content type application/cloudevents+json one in structured mode (section 3.2): its
// attributes are the event's, its extensions become user.<name>. Who the caller is, is auth.<name>, which no caller can say.
func (g *Gateway) readEvent(w http.ResponseWriter, r *http.Request, to *target) (*event.Event, *problem) {
	ev := &event.Event{
		Source: to.source, Type: event.TypeHTTP, Time: time.Now(), Captures: to.captures,
		ContentType: first(r.Header, "Content-Type"), TraceParent: traceParent(first(r.Header, "Traceparent")),
	}
	structured, p := structuredMode(ev.ContentType)
	if p != nil {
		return nil, p
	}
	if !structured {
		if err := cloudEvent(ev, r.Header); err != nil {
			return nil, badAttributes(err)
		}
	}
	ev.User = slices.Grow(ev.User, len(to.by.attrs)+1)
	ev.User = append(ev.User, to.by.attrs...)
	if to.method != "" {
		ev.User = append(ev.User, event.Attr{Name: "http.method", Value: to.method})
	}
	if err := query(ev, r.URL.RawQuery); err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Kind: "query", Title: "The request's parameters are not valid", Detail: err.Error()}
	}
	if ev.ID == "" {
		ev.ID = rand.Text() // a structured event says another
	}
	if r.ContentLength > g.c.Limits.Body {
		return nil, g.tooLarge()
	}
	var err error
	ev.Data, err = readBody(w, r, g.c.Limits.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, g.tooLarge()
	}
	if err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Kind: "body", Title: "The request's body could not be read", Detail: err.Error()}
	}
	if structured {
		if err := fromJSON(ev, ev.Data); err != nil {
			return nil, badAttributes(err)
		}
	}
	return ev, nil
}

// firstRead bounds what is allocated for a body because its length was announced.
const firstRead = 64 << 10

// readBody reads a body, which may have limit bytes. One that is announced to be short is read into what is then the event's: net/http
// hands on no more than was announced.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= min(limit, firstRead) {
		body := make([]byte, n)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
}

func badAttributes(err error) *problem {
	return &problem{Status: http.StatusBadRequest, Kind: "attributes", Title: "The event's attributes are not valid", Detail: err.Error()}
}

// maxParameters is how many query parameters a request may have.
const maxParameters = 100

// query makes each query parameter an attribute, user.query.<name>; the values of one that is there several times are joined by
// commas.
func query(ev *event.Event, raw string) error {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return err
	}
	if len(values) > maxParameters {
		return fmt.Errorf("there are %d parameters; the most is %d", len(values), maxParameters)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := strings.Join(values[name], ",")
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return fmt.Errorf("parameter %q is not UTF-8", name)
		}
		ev.User = append(ev.User, event.Attr{Name: "query." + name, Value: value})
	}
	return nil
}

func (g *Gateway) tooLarge() *problem {
	return &problem{
		Status: http.StatusRequestEntityTooLarge, Kind: "too-large", Title: "The request is too large",
		Detail: fmt.Sprintf("a body may have %d bytes", g.c.Limits.Body), Next: "send less, or raise the gateway's limit",
	}
}

func cloudEvent(ev *event.Event, h http.Header) error {
	var names []string
	for key := range h {
		if strings.HasPrefix(key, "Ce-") {
			names = append(names, key)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if v := h.Get("Ce-Specversion"); v != "1.0" {
		return fmt.Errorf("ce-specversion is %q; only 1.0 is known", v)
	}
	slices.Sort(names) // extensions in an order that does not change
	for _, key := range names {
		if err := setAttribute(ev, strings.ToLower(key[3:]), h.Values(key)); err != nil {
			return err
		}
	}
	for _, required := range []string{"Ce-Id", "Ce-Source", "Ce-Type"} {
		if h.Get(required) == "" {
			return fmt.Errorf("%s is required", strings.ToLower(required))
		}
	}
	return nil
}

func setAttribute(ev *event.Event, name string, values []string) error {
	value, err := url.PathUnescape(values[0]) // section 3.1.3.2
	if err != nil || !utf8.ValidString(value) || len(values) > 1 {
		return fmt.Errorf("ce-%s is not one percent-encoded UTF-8 text", name)
	}
	if name == "datacontenttype" {
		return errors.New("ce-datacontenttype is not allowed: the header is Content-Type")
	}
	return set(ev, name, value)
}

// set gives an event an attribute of a CloudEvent.
func set(ev *event.Event, name, value string) (err error) {
	switch name {
	case "specversion":
	case "id":
		ev.ID = value
	case "source":
		ev.Source = value
	case "type":
		ev.Type = value
	case "subject":
		ev.Subject = value
	case "dataschema":
		ev.DataSchema = value
	case "time":
		if ev.Time, err = time.Parse(time.RFC3339Nano, value); err != nil {
			return fmt.Errorf("time is %q, not a time like 2006-01-02T15:04:05Z", value)
		}
	case "datacontenttype":
		ev.ContentType = value
	case "traceparent":
		if ev.TraceParent == "" {
			ev.TraceParent = traceParent(value)
		}
	default:
		if !isExtension(name) {
			return fmt.Errorf("%q: names of attributes are letters and digits", name)
		}
		ev.User = append(ev.User, event.Attr{Name: name, Value: value})
	}
	return nil
}

// isExtension says whether a name may be one of an extension. It has no dot, so no caller can say what begins with "auth.".
func isExtension(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// traceParent returns s if it is a trace context, else "": an invalid one is ignored (W3C Trace Context section 3.2.2).
func traceParent(s string) string {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || s[:2] == "00" && len(s) != 55 {
		return ""
	}
	for i, c := range s[:55] {
		if i != 2 && i != 35 && i != 52 && !strings.ContainsRune("0123456789abcdef", c) {
			return ""
		}
	}
	if strings.Trim(s[3:35], "0") == "" || strings.Trim(s[36:52], "0") == "" {
		return ""
	}
	return s
}
