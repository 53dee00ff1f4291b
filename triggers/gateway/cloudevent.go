package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mayfly/event"
	"mayfly/function"
)

const (
	cloudJSON = "application/cloudevents+json"
	typeReply = "mayfly.function.response" // unless the function says another
)

// structuredMode says whether a body is a CloudEvent with its attributes (CloudEvents HTTP protocol binding 1.0, section 3.2).
func structuredMode(contentType string) (bool, *problem) {
	if !strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents") {
		return false, nil
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err == nil && kind == cloudJSON {
		return true, nil
	}
	return false, &problem{
		Status: http.StatusUnsupportedMediaType, Kind: "structured-mode", Title: "This form of CloudEvents is not understood",
		Detail: "the content type is " + contentType, Next: "send one event as " + cloudJSON + ", or its attributes as ce-* headers",
	}
}

// fromJSON gives ev what a structured event says (CloudEvents JSON event format 1.0).
func fromJSON(ev *event.Event, body []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return fmt.Errorf("the body is not a JSON object: %w", err)
	}
	ev.ContentType, ev.Data = "application/json", nil // the default, section 3.1
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name == "data" || name == "data_base64" || string(members[name]) == "null" {
			continue
		}
		value, err := attributeText(members[name])
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if name == "specversion" && value != "1.0" {
			return fmt.Errorf("specversion is %q; only 1.0 is known", value)
		}
		if err := set(ev, name, value); err != nil {
			return err
		}
	}
	for _, required := range []string{"specversion", "id", "source", "type"} {
		if text, err := attributeText(members[required]); err != nil || text == "" {
			return fmt.Errorf("%s is required", required)
		}
	}
	var err error
	ev.Data, err = dataOf(members["data"], members["data_base64"], ev.ContentType)
	return err
}

// attributeText is an attribute as text: strings, numbers and booleans (section 2.2).
func attributeText(raw json.RawMessage) (string, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "", errors.New("it is missing")
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("an attribute is a string, a number or a boolean")
}

// dataOf takes the data out of its JSON (section 3.1.1).
func dataOf(value, encoded json.RawMessage, contentType string) ([]byte, error) {
	var text string
	switch {
	case value != nil && encoded != nil:
		return nil, errors.New("there are both data and data_base64")
	case encoded != nil:
		if err := json.Unmarshal(encoded, &text); err != nil {
			return nil, errors.New("data_base64 is not a string")
		}
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("data_base64: %w", err)
		}
		return data, nil
	case value != nil && !isJSON(contentType) && json.Unmarshal(value, &text) == nil:
		return []byte(text), nil
	}
	return value, nil
}

func isJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json")
}

// cloudReply is how a function's answer becomes a CloudEvent: for a caller who sent one, with its attributes in headers; for one who
// accepts nothing else, as JSON.
type cloudReply struct {
	id, source string
	structured bool
}

func replyTo(r *http.Request, to *target, ev *event.Event, place string) reply {
	out := reply{function: to.route.Function, place: place}
	structured := strings.HasPrefix(first(r.Header, "Accept"), cloudJSON)
	if structured || first(r.Header, "Ce-Specversion") != "" || strings.HasPrefix(first(r.Header, "Content-Type"), cloudJSON) {
		out.cloud = &cloudReply{ev.ID + "/response", function.ReservedPath + to.route.Function, structured}
	}
	return out
}

// dress gives an answer the attributes of an event: the function's own ce- headers, and what is missing.
func (c *cloudReply) dress(h http.Header, res *function.Response) *function.Response {
	attrs := map[string]string{
		"specversion": "1.0", "id": c.id, "source": c.source, "type": typeReply, "time": time.Now().UTC().Format(time.RFC3339Nano),
	}
	plain := *res
	plain.Header = nil
	for _, a := range res.Header {
		if name, ok := strings.CutPrefix(strings.ToLower(a.Name), "ce-"); ok && isExtension(name) {
			attrs[name] = a.Value
			continue
		}
		plain.Header = append(plain.Header, a)
	}
	if !c.structured {
		for name, value := range attrs {
			h.Set("Ce-"+name, headerText(value))
		}
		return &plain
	}
	out := map[string]any{}
	for name, value := range attrs {
		out[name] = value
	}
	if plain.ContentType != "" {
		out["datacontenttype"] = plain.ContentType
	}
	switch {
	case isJSON(plain.ContentType) && json.Valid(plain.Data):
		out["data"] = json.RawMessage(plain.Data)
	case strings.HasPrefix(plain.ContentType, "text/") && utf8.Valid(plain.Data):
		out["data"] = string(plain.Data)
	case len(plain.Data) > 0:
		out["data_base64"] = plain.Data
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // texts, and JSON that is valid
	}
	plain.ContentType, plain.Data = cloudJSON, body
	return &plain
}

// headerText is the value of an attribute in a header (HTTP protocol binding, section 3.1.3.2).
func headerText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
