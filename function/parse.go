package function

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mayfly/event"
	"mayfly/internal/tomlcheck"
)

// ManifestError is everything that is wrong with a manifest. Error prints all of it, with file:line:col, the line, and what
// to write instead.
type ManifestError struct{ Faults []tomlcheck.Fault }

func (e *ManifestError) Error() string { return tomlcheck.Faults(e.Faults).Error() }

// manifestFile is function.toml as it is written, where that differs from Manifest.
type manifestFile struct {
	Manifest    int         `json:"manifest" required:"true" min:"1" max:"1" doc:"The version of this format: manifest = 1."`
	Name        string      `json:"name" required:"true" doc:"Unique in the cluster: letters a-z, digits and -."`
	Version     string      `json:"version"`
	Description string      `json:"description"`
	Module      Module      `json:"module"`
	Build       Build       `json:"build"`
	Trigger     triggerFile `json:"trigger"`
	Output      Output      `json:"output"`
	Limits      Limits      `json:"limits"`
	Retry       retryFile   `json:"retry"`
	State       StatePolicy `json:"state"`
	Placement   Placement   `json:"placement"`
	Permissions Permissions `json:"permissions"`
	Tenant      string      `json:"tenant" doc:"Whose usage it is, in mayfly usage: letters, digits, _ and -."`
	Budget      Budget      `json:"budget" doc:"What the function may use in a period on each node; unsaid is unbounded."`

	Config map[string]tomlcheck.Scalar `json:"config" doc:"What the function reads by config_get, or CFG_ variables."`
	Tests  []testFile                  `json:"test" doc:"Run by mayfly test, without a broker."`
}

type triggerFile struct {
	MQTT []MQTTTrigger `json:"mqtt"`
	HTTP []httpFile    `json:"http"`
	Cron []CronTrigger `json:"cron"`
}

type httpFile struct {
	Route    Route    `json:"route" required:"true" doc:"For example \"POST /overheat/{line}\"."`
	Auth     Auth     `json:"auth" required:"true" words:"jwt|token|mtls|public" doc:"jwt, token, mtls or public."`
	Issuer   string   `json:"issuer" doc:"jwt: name of the issuer in the agent's configuration; needed where there are several."`
	Audience string   `json:"audience" doc:"jwt: the token must be meant for this audience too."`
	Scopes   []string `json:"scopes" doc:"jwt: the token must have all of them."`

	Claims map[string]tomlcheck.Scalar `json:"claims" doc:"jwt: each claim must have this value, or be a list that has it; a.b is b in the object a."`

	Callers []string `json:"callers" doc:"Who may call: subjects of jwt, names of tokens, names in certificates. Default: whoever shows a valid one."`
	Rate    Rate     `json:"rate" doc:"Requests of all callers together, such as \"10/s\" or \"600/m\"; beyond it 429."`

	CallerRate Rate `json:"caller_rate" doc:"The same for each caller; default: gateway.rate in the agent's configuration."`
}

type retryFile struct {
	MaxAttempts int       `json:"max_attempts" default:"5" min:"1" max:"1000"`
	Backoff     timeRange `json:"backoff" default:"200ms..30s"`
	DeadLetter  string    `json:"dead_letter" doc:"A topic, besides the local dead-letter store."`
}

type testFile struct {
	Name    string                      `json:"name" required:"true"`
	Topic   string                      `json:"topic"`
	Payload string                      `json:"payload"`
	Attrs   map[string]tomlcheck.Scalar `json:"attrs"`
	Expect  expectFile                  `json:"expect"`
}

type expectFile struct {
	Outcome  *string                     `json:"outcome" words:"done|retry|reject"`
	Publish  []ExpectMessage             `json:"publish"`
	Response *string                     `json:"response"`
	State    map[string]tomlcheck.Scalar `json:"state"`
	Log      []string                    `json:"log"`
	Error    string                      `json:"error"`
}

// timeRange is "200ms..30s".
type timeRange struct{ min, max time.Duration }

func (r *timeRange) UnmarshalText(text []byte) error {
	from, to, found := strings.Cut(string(text), "..")
	if !found {
		return &tomlcheck.Issue{Problem: fmt.Sprintf("%q is not a range of durations", text), Hint: `write it like "200ms..30s"`}
	}
	var err error
	if r.min, err = tomlcheck.ParseDuration(from); err != nil {
		return err
	}
	if r.max, err = tomlcheck.ParseDuration(to); err != nil {
		return err
	}
	if r.min > r.max || r.min == 0 {
		return &tomlcheck.Issue{Problem: fmt.Sprintf("%q is an empty range", text), Hint: "the shorter duration comes first and is not 0"}
	}
	return nil
}

func (r timeRange) MarshalText() ([]byte, error) {
	return []byte(tomlcheck.FormatDuration(r.min) + ".." + tomlcheck.FormatDuration(r.max)), nil
}

// ParseManifest reads function.toml, fills in the defaults and checks everything that can be checked without the module and
// the cluster. file is only for messages. The error is a *ManifestError with all faults.
func ParseManifest(file string, text []byte) (Manifest, error) {
	var f manifestFile
	c := checker{Reader: tomlcheck.New(&f), file: &f}
	c.Read(file, text)
	c.Finish()
	c.all()
	if faults := c.Err(); faults != nil {
		return Manifest{}, &ManifestError{faults}
	}
	return f.manifest(c.Reader), nil
}

// manifest is the file as the value everybody uses. The file has no faults.
func (f *manifestFile) manifest(r *tomlcheck.Reader) Manifest {
	m := Manifest{
		Name: f.Name, Version: f.Version, Description: f.Description,
		Module: f.Module, Build: f.Build,
		MQTT: f.Trigger.MQTT, Cron: f.Trigger.Cron,
		Output: f.Output, Limits: f.Limits, State: f.State, Placement: f.Placement, Permissions: f.Permissions,
		Retry: RetryPolicy{
			MaxAttempts: f.Retry.MaxAttempts, BackoffMin: f.Retry.Backoff.min, BackoffMax: f.Retry.Backoff.max,
			DeadLetter: f.Retry.DeadLetter,
		},
		Tenant: f.Tenant, Budget: f.Budget.complete(),
		Config: settings(f.Config),
	}
	if m.Limits.CPU == 0 {
		m.Limits.CPU = m.Limits.Timeout
	}
	if m.State.Scope != ScopeNone && m.State.Quota == 0 {
		m.State.Quota = 1 << 20
	}
	m.Permissions.Publish = withOutput(m.Permissions.Publish, m.Output.Topic)
	for _, h := range f.Trigger.HTTP {
		m.HTTP = append(m.HTTP, h.trigger())
	}
	for i, t := range f.Tests {
		m.Tests = append(m.Tests, t.test(r.Line(fmt.Sprintf("test[%d].name", i))))
	}
	return m.tidy()
}

func (h *httpFile) trigger() HTTPTrigger {
	return HTTPTrigger{
		Method: h.Route.Method, Path: h.Route.Path, Auth: h.Auth,
		Require: Requirement{
			Issuer: h.Issuer, Audience: h.Audience, Scopes: orNil(h.Scopes), Claims: settings(h.Claims), Callers: orNil(h.Callers),
		},
		Rate: h.Rate, CallerRate: h.CallerRate,
	}
}

// withOutput grants the output topic: who declares it wants it.
func withOutput(granted []string, topic string) []string {
	if topic == "" {
		return granted
	}
	p, err := event.ParsePattern(topic)
	if err != nil || slices.ContainsFunc(granted, func(f string) bool { return event.Covers(f, p.Filter()) }) {
		return granted
	}
	return append(granted, p.Filter())
}

// tidy makes empty lists nil where the difference means nothing, so that equal manifests are equal values, also after
// a trip through JSON.
func (m Manifest) tidy() Manifest {
	m.Module.Args = orNil(m.Module.Args)
	m.Build.Watch = orNil(m.Build.Watch)
	m.MQTT, m.HTTP, m.Cron = orNil(m.MQTT), orNil(m.HTTP), orNil(m.Cron)
	m.Placement.Require, m.Placement.Prefer = orNil(m.Placement.Require), orNil(m.Placement.Prefer)
	m.Permissions.Publish, m.Permissions.HTTP = orNil(m.Permissions.Publish), orNil(m.Permissions.HTTP)
	m.Permissions.Secrets = orNil(m.Permissions.Secrets)
	return m
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func (t testFile) test(line int) Test {
	out := Test{
		Name: t.Name, Topic: t.Topic, Line: line,
		Expect: Expectation{
			Publish: t.Expect.Publish, Response: t.Expect.Response, State: settings(t.Expect.State),
			Log: orNil(t.Expect.Log), Error: t.Expect.Error,
		},
	}
	if t.Payload != "" {
		out.Payload = []byte(t.Payload)
	}
	for _, s := range settings(t.Attrs) {
		out.Attrs = append(out.Attrs, event.Attr{Name: s.Key, Value: s.Value})
	}
	if t.Expect.Outcome != nil {
		for _, o := range []Outcome{Done, Retry, Reject} {
			if o.String() == *t.Expect.Outcome {
				out.Expect.Outcome = &o
			}
		}
	}
	return out
}

func settings(values map[string]tomlcheck.Scalar) []Setting {
	var out []Setting
	for k, v := range values {
		out = append(out, Setting{k, string(v)})
	}
	slices.SortFunc(out, func(a, b Setting) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// ManifestSchema is the JSON Schema of function.toml, for editors.
func ManifestSchema() []byte { return tomlcheck.Schema("Mayfly function manifest", &manifestFile{}) }
