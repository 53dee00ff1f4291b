package function

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/internal/tomlcheck"
)

// manifestGen draws manifests that differ in everything a manifest can say.
var manifestGen = rapid.Custom(func(t *rapid.T) Manifest {
	word := func(label string, words ...string) string { return rapid.SampledFrom(words).Draw(t, label) }
	text := rapid.StringMatching("[ -~äß€\n\t]{0,12}")
	duration := func(label string) time.Duration {
		return time.Duration(rapid.Int64Range(1, 3_600_000).Draw(t, label)) * time.Millisecond
	}
	m := Manifest{
		Name: word("name", "a", "over-heat", "x9"), Version: word("version", "", "1.2.0"), Description: text.Draw(t, "description"),
		Module: Module{Path: word("path", "a.wasm", "../b c.wasm"), ABI: ABI(word("abi", "auto", "command"))},
		Output: Output{Format: word("format", "raw", "jsonl"), QoS: byte(rapid.IntRange(0, 1).Draw(t, "oqos")), Retain: rapid.Bool().Draw(t, "retain")},
		Limits: Limits{
			Memory: rapid.Int64Range(64<<10, 4<<30).Draw(t, "memory"), Timeout: duration("timeout"), CPU: duration("cpu"),
			Concurrency: rapid.IntRange(1, 1000).Draw(t, "concurrency"), Payload: rapid.Int64Range(1, 1<<20).Draw(t, "payload"),
			Output: rapid.Int64Range(0, 1<<20).Draw(t, "output"), Publishes: rapid.IntRange(0, 9).Draw(t, "publishes"),
			Log: rapid.Int64Range(0, 1<<20).Draw(t, "log"), Stack: 1 << 20, Table: rapid.Int64Range(0, 1000).Draw(t, "table"),
		},
		Retry: RetryPolicy{
			MaxAttempts: rapid.IntRange(1, 1000).Draw(t, "attempts"), BackoffMin: time.Millisecond, BackoffMax: duration("backoff"),
			DeadLetter: word("dead", "", "a/b"),
		},
		State: StatePolicy{Scope: ScopeNone},
	}
	if rapid.Bool().Draw(t, "stateful") {
		m.State = StatePolicy{Scope: ScopeNode, Quota: rapid.Int64Range(1<<10, 1<<30).Draw(t, "quota")}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "mqtts") {
		p, err := event.ParsePattern(fmt.Sprintf("p%d/{line}/%s", i, word("tail", "+", "x", "{rest...}")))
		if err != nil {
			t.Fatal(err)
		}
		m.MQTT = append(m.MQTT, MQTTTrigger{
			Topic: p, QoS: byte(rapid.IntRange(0, 1).Draw(t, "qos")), Scope: Scope(word("scope", "node", "cluster")), Order: word("order", "topic", "none", "topic.line", "json.a[0]"),
			ID: word("id", "", "json.id"), Retained: Retained(word("retained", "skip", "once", "always")), MaxAge: duration("age"),
			When: word("when", "", `line == "\"" && json.t > 1`), Overflow: Overflow(word("overflow", "spill", "hold", "shed-oldest")), Broker: word("broker", "", "b"),
		})
	}
	if rapid.Bool().Draw(t, "http") {
		h := HTTPTrigger{Method: word("method", "", "GET"), Path: "/x/{line}", Auth: Auth(word("auth", "jwt", "token", "mtls", "public"))}
		if h.Auth != AuthPublic && rapid.Bool().Draw(t, "callers") {
			h.Require.Callers = []string{"ada", text.Draw(t, "caller") + "x"}
		}
		if h.Auth == AuthJWT {
			h.Require.Issuer, h.Require.Audience = word("issuer", "", "site"), word("audience", "", "https://api")
			h.Require.Claims = []Setting{{"a.b", text.Draw(t, "claim")}, {"n", "5"}}
			h.Require.Scopes = []string{"read", "x:write"}
		}
		h.Rate, h.CallerRate = Rate{rapid.IntRange(1, maxRate).Draw(t, "rate"), time.Minute}, Rate{1, time.Hour}
		m.HTTP = []HTTPTrigger{h}
	}
	m.Tenant = word("tenant", "", "acme")
	if rapid.Bool().Draw(t, "budget") {
		m.Budget = Budget{
			Per: Period(word("per", "hour", "day", "month")), Events: rapid.Int64Range(1, 1e9).Draw(t, "events"), CPU: duration("budget cpu"),
			BytesOut: rapid.Int64Range(1, 1<<40).Draw(t, "bytes out"), Warn: rapid.SampledFrom([]float64{0.5, 0.8, 1}).Draw(t, "warn"), Then: word("then", ThenWarn, ThenStop),
		}
	}
	if rapid.Bool().Draw(t, "config") {
		m.Config = []Setting{{"a", text.Draw(t, "a")}, {"b", strconv.Itoa(rapid.Int().Draw(t, "b"))}}
	}
	return m
})

// render writes a manifest as a person would have to.
func render(m Manifest) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	q := func(s string) string { return tomlcheck.Quote(s) }
	line("manifest = 1\nname = %s\nversion = %s\ndescription = %s", q(m.Name), q(m.Version), q(m.Description))
	line("tenant = %s", q(m.Tenant))
	if u := m.Budget; u.Per != "" {
		line("[budget]\nper = %s\nevents = %d\ncpu = %q\nbytes_out = %d\nwarn = %v\nthen = %s", q(string(u.Per)), u.Events, u.CPU, u.BytesOut, u.Warn, q(u.Then))
	}
	line("[module]\npath = %s\nabi = %s", q(m.Module.Path), q(string(m.Module.ABI)))
	line("[output]\nformat = %s\nqos = %d\nretain = %v", q(m.Output.Format), m.Output.QoS, m.Output.Retain)
	l := m.Limits
	line("[limits]\nmemory = %d\ntimeout = %q\ncpu = %q\nconcurrency = %d\npayload = %q", l.Memory, l.Timeout, l.CPU, l.Concurrency, tomlcheck.FormatSize(l.Payload))
	line("output = %d\npublishes = %d\nlog = %d\nstack = %d\ntable = %d", l.Output, l.Publishes, l.Log, l.Stack, l.Table)
	line("[retry]\nmax_attempts = %d\nbackoff = \"%v..%v\"\ndead_letter = %s", m.Retry.MaxAttempts, m.Retry.BackoffMin, m.Retry.BackoffMax, q(m.Retry.DeadLetter))
	line("[state]\nscope = %s", q(string(m.State.Scope)))
	if m.State.Quota > 0 {
		line("quota = %d", m.State.Quota)
	}
	for _, t := range m.MQTT {
		line("[[trigger.mqtt]]\ntopic = %s\nqos = %d\nscope = %s\norder = %s", q(t.Topic.String()), t.QoS, q(string(t.Scope)), q(t.Order))
		line("id = %s\nretained = %s\nmax_age = %q\nwhen = %s", q(t.ID), q(string(t.Retained)), t.MaxAge, q(t.When))
		line("overflow = %s\nbroker = %s", q(string(t.Overflow)), q(t.Broker))
	}
	for _, t := range m.HTTP {
		line("[[trigger.http]]\nroute = %s\nauth = %s\nrate = %q\ncaller_rate = %q", q(t.Route().String()), q(string(t.Auth)), t.Rate, t.CallerRate)
		list := func(key string, values []string) {
			if values != nil {
				line("%s = [%s, %s]", key, q(values[0]), q(values[1]))
			}
		}
		list("callers", t.Require.Callers)
		list("scopes", t.Require.Scopes)
		if t.Auth == AuthJWT {
			line("issuer = %s\naudience = %s\nclaims = { \"a.b\" = %s, n = 5 }", q(t.Require.Issuer), q(t.Require.Audience), q(t.Require.Claims[0].Value))
		}
	}
	line("[config]")
	for _, s := range m.Config {
		line("%s = %s", s.Key, q(s.Value))
	}
	return b.String()
}

// What is written down is what is parsed, and what is parsed survives being stored.
func TestRenderParseStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := manifestGen.Draw(rt, "manifest")
		got, err := ParseManifest("r.toml", []byte(render(want)))
		if err != nil {
			rt.Fatalf("%v\n%s", err, render(want))
		}
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("got  %+v\nwant %+v", got, want)
		}
		roundTrip(t, got)
	})
}
