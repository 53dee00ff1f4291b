package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/function"
)

// Bounds of requests in bytes.
const (
	maxRequest = 2 << 20 // JSON
	maxModule  = 8 << 20 // default of Config.MaxModule
)

// maxTrials is the most events of one dry run.
const maxTrials = 1000

func invalid(err error) error {
	return &function.Error{Op: "read", Subject: "request", Class: function.ClassReject, Kind: KindInvalid, Err: err}
}

func tooLarge(what string, limit int64) error {
	return &function.Error{
		Op: "read", Subject: what, Class: function.ClassReject, Kind: KindTooLarge,
		Err: fmt.Errorf("it has more than %d bytes", limit),
	}
}

// decode reads one JSON value, all of r, without fields that v does not have.
func decode(r io.Reader, v any) error {
	limited := &io.LimitedReader{R: r, N: maxRequest + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("there is something after the JSON value")
		}
	}
	switch {
	case limited.N <= 0:
		return tooLarge("request", maxRequest)
	case errors.Is(err, io.EOF):
		return invalid(errors.New("it is empty"))
	case err != nil:
		return invalid(err)
	}
	return nil
}

// decodeModule reads a request that carries a module: part "request" into v, then part "module".
func decodeModule(r *http.Request, v any, limit int64) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, invalid(errors.New("it must be multipart/form-data with the parts request and module"))
	}
	return decodeParts(multipart.NewReader(r.Body, params["boundary"]), v, limit)
}

func decodeParts(parts *multipart.Reader, v any, limit int64) ([]byte, error) {
	part, err := parts.NextPart()
	if err != nil || part.FormName() != "request" {
		return nil, invalid(fmt.Errorf("the first part must be request: %w", orMisnamed(err)))
	}
	if err := decode(part, v); err != nil {
		return nil, err
	}
	part, err = parts.NextPart()
	if err != nil || part.FormName() != "module" {
		return nil, invalid(fmt.Errorf("the second part must be module: %w", orMisnamed(err)))
	}
	module, err := io.ReadAll(io.LimitReader(part, limit+1))
	if err != nil {
		return nil, invalid(err)
	}
	if int64(len(module)) > limit {
		return nil, tooLarge("module", limit)
	}
	if len(module) == 0 {
		return nil, invalid(errors.New("the module is empty"))
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) { // the end is there, so it was not cut off
		return nil, invalid(errors.New("there is a third part, or the end is missing"))
	}
	return module, nil
}

func orMisnamed(err error) error {
	if err == nil {
		return errors.New("it has another name")
	}
	return err
}

// deployment parses what the operator sent; faults of the manifest come back as the parser wrote them.
func (d *DeployRequest) deployment(module []byte) (Deployment, error) {
	file := d.File
	if file == "" {
		file = "function.toml"
	}
	m, err := function.ParseManifest(file, []byte(d.Manifest))
	if err == nil {
		err = applySettings(&m, d.Set)
	}
	if err != nil {
		return Deployment{}, &function.Error{Op: "read", Subject: "manifest", Class: function.ClassReject, Kind: KindInvalid, Err: err}
	}
	if d.Canary != nil {
		if err := d.Canary.Check(); err != nil {
			return Deployment{}, invalid(err)
		}
	}
	return Deployment{Manifest: m, Source: []byte(d.Manifest), Module: module, Digest: function.DigestOf(module), DryRun: d.DryRun, Canary: d.Canary}, nil
}

// applySettings replaces values of [config]. Only keys the manifest has can be set: a misspelt one would be ignored by
// the function without a word.
func applySettings(m *function.Manifest, set map[string]string) error {
	config := slices.Clone(m.Config)
	for key, value := range set {
		i := slices.IndexFunc(config, func(s function.Setting) bool { return s.Key == key })
		if i < 0 {
			return fmt.Errorf("cannot set %q: [config] of the manifest has %s", key, settingNames(config))
		}
		config[i].Value = value
	}
	m.Config = config
	return nil
}

func settingNames(config []function.Setting) string {
	if len(config) == 0 {
		return "no keys"
	}
	var names []string
	for _, s := range config {
		names = append(names, s.Key)
	}
	return "only " + strings.Join(names, ", ")
}

// message checks a publish.
func (m *Message) message() (event.Message, error) {
	if err := m.check(); err != nil {
		return event.Message{}, invalid(err)
	}
	if err := event.CheckTopic(m.Topic); err != nil {
		return event.Message{}, invalid(err)
	}
	if m.QoS > 1 {
		return event.Message{}, invalid(fmt.Errorf("QoS %d: only 0 and 1 are supported", m.QoS))
	}
	return event.Message{Broker: m.Broker, Topic: m.Topic, Data: m.Body.Bytes(), QoS: m.QoS, Retain: m.Retain}, nil
}

func (q *SubscribeQuery) check() error {
	if err := event.CheckFilter(q.Filter); err != nil {
		return invalid(err)
	}
	if q.QoS > 1 {
		return invalid(fmt.Errorf("QoS %d: only 0 and 1 are supported", q.QoS))
	}
	return nil
}

func (q *LogQuery) check() error {
	if q.Level != "" && levelOf(q.Level).String() != q.Level {
		return invalid(fmt.Errorf("level %q: want debug, info, warn or error", q.Level))
	}
	return nil
}

func (q *EventQuery) check() error {
	if q.Topic == "" {
		return nil
	}
	if err := event.CheckFilter(q.Topic); err != nil {
		return invalid(err)
	}
	return nil
}

// checkChange refuses to change every dead letter by leaving everything out.
func (q *DeadLetterQuery) checkChange() error {
	if len(q.IDs) == 0 && q.Function == "" && !q.All {
		return invalid(errors.New("say which dead letters: ids, function or all"))
	}
	return nil
}

// event makes the event an operator asked for.
func (r *InvokeRequest) event(id string, now time.Time) (*event.Event, error) {
	if err := r.check(); err != nil {
		return nil, invalid(err)
	}
	if r.Topic != "" {
		if err := event.CheckTopic(r.Topic); err != nil {
			return nil, invalid(err)
		}
	}
	ev := &event.Event{
		ID: id, Source: "mayfly:operator", Type: event.TypeInvoke, Time: now,
		Topic: r.Topic, ContentType: r.ContentType, QoS: 1, Data: r.Body.Bytes(),
	}
	for _, a := range r.Attrs {
		if err := setAttr(ev, a); err != nil {
			return nil, invalid(err)
		}
	}
	return ev, nil
}

func setAttr(ev *event.Event, a Attr) error {
	texts := map[string]*string{
		"id": &ev.ID, "source": &ev.Source, "type": &ev.Type, "subject": &ev.Subject, "datacontenttype": &ev.ContentType,
		"dataschema": &ev.DataSchema, "traceparent": &ev.TraceParent, "broker": &ev.Broker,
	}
	if p, ok := texts[a.Name]; ok {
		*p = a.Value
		return nil
	}
	var err error
	switch a.Name {
	case "":
		return errors.New("an attribute has no name")
	case "time":
		ev.Time, err = time.Parse(time.RFC3339Nano, a.Value)
	case "qos":
		if a.Value != "0" && a.Value != "1" {
			return fmt.Errorf("attribute qos: %q is neither 0 nor 1", a.Value)
		}
		ev.QoS = a.Value[0] - '0'
	case "retained":
		ev.Retained, err = parseBool(a.Value)
	case "dup":
		ev.Dup, err = parseBool(a.Value)
	default:
		if name, ok := strings.CutPrefix(a.Name, "topic."); ok { // what a route would have captured
			ev.Captures = append(ev.Captures, event.Attr{Name: name, Value: a.Value})
			break
		}
		ev.User = append(ev.User, event.Attr{Name: strings.TrimPrefix(a.Name, "user."), Value: a.Value})
	}
	if err != nil {
		return fmt.Errorf("attribute %s: %w", a.Name, err)
	}
	return nil
}

func parseBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return s == "true", nil
}
