package function

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"mayfly/event"
	"mayfly/function/extract"
	"mayfly/internal/nearest"
	"mayfly/internal/tomlcheck"
)

// checker finds the faults of a manifest that a single value does not show.
type checker struct {
	*tomlcheck.Reader
	file *manifestFile
}

// Most triggers of one kind and most tests: they are compared with each other.
const (
	maxTriggers = 100
	maxTests    = 1000
)

func (c checker) all() {
	t := c.file.Trigger
	for path, n := range map[string]int{"trigger.mqtt": len(t.MQTT), "trigger.http": len(t.HTTP), "trigger.cron": len(t.Cron)} {
		if n > maxTriggers {
			c.Fault(path, fmt.Sprintf("there are %d, the most is %d", n, maxTriggers), "a topic or route with {captures} stands for many")
			return
		}
	}
	if n := len(c.file.Tests); n > maxTests {
		c.Fault("test", fmt.Sprintf("there are %d, the most is %d", n, maxTests), "")
		return
	}
	c.identity()
	c.module()
	for i := range c.file.Trigger.MQTT {
		c.mqtt(&c.file.Trigger.MQTT[i], fmt.Sprintf("trigger.mqtt[%d]", i))
	}
	for i := range c.file.Trigger.HTTP {
		c.access(&c.file.Trigger.HTTP[i], fmt.Sprintf("trigger.http[%d]", i))
	}
	for i, t := range c.file.Trigger.Cron {
		path := fmt.Sprintf("trigger.cron[%d].schedule", i)
		if c.Said(path) && !c.Faulty(path) {
			_, err := ParseSchedule(t.Schedule)
			c.issue(path, err)
		}
	}
	c.twins()
	c.output()
	c.retryAndState()
	c.placement()
	c.permissions()
	for key := range c.file.Config {
		if !isSettingName(key) {
			c.Fault("config."+key, "a setting's name has letters, digits, _ and - only", "")
		}
	}
	for i := range c.file.Tests {
		c.test(&c.file.Tests[i], fmt.Sprintf("test[%d]", i))
	}
}

// issue reports err, if any, about path.
func (c checker) issue(path string, err error) {
	if err == nil {
		return
	}
	problem, hint := tomlcheck.Describe(err)
	c.Fault(path, problem, hint)
}

func (c checker) identity() {
	name := c.file.Name
	if c.Said("name") && !c.Faulty("name") && !isFunctionName(name) {
		hint := "letters a-z, digits and -, at most 63, a letter first"
		if better := strings.Trim(strings.Map(nameRune, strings.ToLower(name)), "-"); isFunctionName(better) {
			hint = fmt.Sprintf("did you mean %q? (%s)", better, hint)
		}
		c.Fault("name", fmt.Sprintf("%q cannot be a function's name", name), hint)
	}
	c.issue("tenant", checkTenant(c.file.Tenant))
	if v := c.file.Version; len(v) > 64 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.Fault("version", "a version has at most 64 characters and no spaces", `for example "1.2.0"`)
	}
}

func nameRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

func isFunctionName(s string) bool {
	return s != "" && len(s) <= 63 && s[0] >= 'a' && s[0] <= 'z' && s[len(s)-1] != '-' && strings.Map(nameRune, s) == s
}

func isSettingName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && nameRune(r|0x20) == '-' && r != '-' })
}

func (c checker) module() {
	m := c.file.Module
	switch {
	case c.Partial() || c.Faulty("module"):
	case m.Path == "" && m.OCI == "":
		c.Fault("module", "it says no module", `add to [module]: path = "NAME.wasm"`)
	case m.Path != "" && m.OCI != "":
		c.Fault("module.oci", "there are both path and oci", "keep one of them")
	case m.OCI != "":
		_, digest, found := strings.Cut(m.OCI, "@")
		if _, err := ParseDigest(digest); !found || err != nil || !strings.HasPrefix(digest, "sha256:") {
			c.Fault("module.oci", "the reference has no digest", "end it with @sha256: and 64 hexadecimal digits, so that it always means the same module")
		}
	}
	if m.ABI == ABIMayfly && len(m.Args) > 0 {
		c.Fault("module.args", `arguments are for commands, and abi is "mayfly_v1"`, "use [config] instead")
	}
	if m.ABI == ABICommand && m.Reuse {
		c.Fault("module.reuse", "a command runs once and ends; it cannot be kept", "")
	}
}

func (c checker) mqtt(t *MQTTTrigger, path string) {
	if share, ok := strings.CutPrefix(t.Topic.String(), "$share/"); ok {
		group, topic, _ := strings.Cut(share, "/")
		c.Fault(path+".topic", "a shared subscription has a key of its own", fmt.Sprintf("write topic = %q and shared = %q", topic, group))
	}
	if strings.ContainsAny(t.Shared, "/+#") {
		c.Fault(path+".shared", "a share name has no /, + or #", "")
	}
	c.flow(t, path)
	captures := t.Topic.Names()
	if c.Faulty(path + ".topic") {
		return // which captures there are is not known
	}
	c.reply(t, path)
	if !c.Faulty(path + ".order") {
		_, err := extract.Parse(t.Order, captures)
		c.issue(path+".order", withHint(err, captures))
	}
	if t.ID != "" {
		e, err := extract.Parse(t.ID, captures)
		if err == nil && (e.None() || t.ID == OrderTopic) {
			err = fmt.Errorf("%q tells no two messages apart; name what the sender numbers them by, such as \"json.msgid\"", t.ID)
		}
		c.issue(path+".id", withHint(err, captures))
	}
	if t.When != "" {
		if _, err := extract.ParseCondition(t.When, captures); err != nil {
			c.Fault(path+".when", err.Error(), "it may use "+strings.Join(append([]string{"json", "topic", "qos", "retained"}, captures...), ", "))
		}
	}
}

func withHint(err error, captures []string) error {
	if err == nil || strings.Contains(err.Error(), "; ") {
		return err
	}
	forms := []string{"topic", "none", "json.NAME", "attr.NAME"}
	for _, name := range captures {
		forms = append(forms, "topic."+name)
	}
	return &tomlcheck.Issue{Problem: err.Error(), Hint: "it may be " + strings.Join(forms, ", ")}
}

// twins reports triggers that would bring every event twice.
func (c checker) twins() {
	seen := map[string]string{}
	report := func(what, path string) {
		if first, ok := seen[what]; ok {
			c.Fault(path, "the same trigger is already there", fmt.Sprintf("%s is on line %d", first, c.Line(first)))
			return
		}
		seen[what] = path
	}
	for i, t := range c.file.Trigger.MQTT {
		if t.Topic.Filter() != "" {
			report(fmt.Sprintf("mqtt %q %q %q %q", t.Broker, t.Topic.Filter(), t.When, t.Shared), fmt.Sprintf("trigger.mqtt[%d].topic", i))
		}
	}
	for i, t := range c.file.Trigger.Cron {
		if t.Schedule != "" {
			report("cron "+t.Schedule, fmt.Sprintf("trigger.cron[%d].schedule", i))
		}
	}
	routes := c.file.Trigger.HTTP
	for i, a := range routes {
		for j, b := range routes[:i] {
			if a.Route.Path != "" && b.Route.Path != "" && a.Route.Conflicts(b.Route) {
				c.Fault(fmt.Sprintf("trigger.http[%d].route", i), fmt.Sprintf("a request may be meant for %q too", b.Route),
					fmt.Sprintf("the other is on line %d", c.Line(fmt.Sprintf("trigger.http[%d].route", j))))
			}
		}
	}
}

func (c checker) output() {
	o := c.file.Output
	if c.Said("output") && c.file.Module.ABI == ABIMayfly {
		c.Fault("output", `it is for commands, and abi is "mayfly_v1"`, "such a function calls publish")
	}
	if o.Topic == "" || c.Faulty("output.topic") {
		return
	}
	p, err := event.ParsePattern(o.Topic)
	if err == nil {
		err = event.CheckTopic(withoutCaptures(p))
	}
	if err != nil {
		c.issue("output.topic", err)
		return
	}
	for _, name := range p.Names() {
		if lacks := c.lacksCapture(name); lacks != "" {
			c.Fault("output.topic", fmt.Sprintf("%s has no capture {%s}", lacks, name), "every trigger must have it, or the topic cannot be written")
		}
	}
}

// withoutCaptures is the pattern's topic with something in place of its captures.
func withoutCaptures(p event.Pattern) string {
	s := p.String()
	for _, name := range p.Names() {
		s = strings.NewReplacer("{"+name+"}", "x", "{"+name+"...}", "x").Replace(s)
	}
	return s
}

// lacksCapture names the first trigger that does not have the capture.
func (c checker) lacksCapture(name string) string {
	t := c.file.Trigger
	for i, m := range t.MQTT {
		if !slices.Contains(m.Topic.Names(), name) && !c.Faulty(fmt.Sprintf("trigger.mqtt[%d].topic", i)) {
			return fmt.Sprintf("the topic %q", m.Topic)
		}
	}
	for i, h := range t.HTTP {
		if !slices.Contains(h.Route.Captures(), name) && !c.Faulty(fmt.Sprintf("trigger.http[%d].route", i)) {
			return fmt.Sprintf("the route %q", h.Route)
		}
	}
	if len(t.Cron) > 0 {
		return "a schedule"
	}
	if len(t.MQTT)+len(t.HTTP) == 0 {
		return "a function without triggers"
	}
	return ""
}

func (c checker) retryAndState() {
	f := c.file
	if f.Retry.DeadLetter != "" {
		c.issue("retry.dead_letter", event.CheckTopic(f.Retry.DeadLetter))
	}
	if f.State.Scope == ScopeNone && c.Said("state.quota") {
		c.Fault("state.quota", "there is no state to bound", `say scope = "node" or scope = "cluster" too`)
	}
	if f.State.Scope != ScopeCluster {
		return
	}
	for i, t := range f.Trigger.MQTT {
		if t.Scope == ScopeNode {
			c.Fault(fmt.Sprintf("trigger.mqtt[%d].scope", i), "every node would write the one state of the cluster", `say state.scope = "node", or scope = "cluster" here`)
		}
	}
	for i, t := range f.Trigger.Cron {
		if t.Scope == ScopeNode {
			c.Fault(fmt.Sprintf("trigger.cron[%d].scope", i), "every node would write the one state of the cluster", `say state.scope = "node", or scope = "cluster" here`)
		}
	}
}

func (c checker) placement() {
	for i, s := range c.file.Placement.Require {
		c.issue(fmt.Sprintf("placement.require[%d]", i), checkTerm(s))
	}
	for i, s := range c.file.Placement.Prefer {
		if s != "near-trigger" {
			c.issue(fmt.Sprintf("placement.prefer[%d]", i), checkTerm(s))
		}
	}
}

// checkTerm checks "kind:value" and "kind:one|other".
func checkTerm(s string) error {
	kinds := []string{"arch", "cap", "label", "node", "os", "power", "zone"}
	kind, values, found := strings.Cut(s, ":")
	if !slices.Contains(kinds, kind) || !found {
		hint := `write it like "arch:arm64|amd64", "label:gpio" or "node:NAME"`
		if w := nearest.To(kind, append(kinds, "near-trigger")); w != "" && w != kind {
			hint = fmt.Sprintf("did you mean %q? ", w) + hint
		}
		return &tomlcheck.Issue{Problem: fmt.Sprintf("%q says nothing about a node", s), Hint: hint}
	}
	for v := range strings.SplitSeq(values, "|") {
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%q has an empty value or one with spaces", s)
		}
	}
	return nil
}

func (c checker) permissions() {
	p := c.file.Permissions
	for i, f := range p.Publish {
		path := fmt.Sprintf("permissions.publish[%d]", i)
		if strings.ContainsAny(f, "{}") {
			c.Fault(path, "permissions are topic filters and have no captures", "write + for one level and # for the rest")
			continue
		}
		c.issue(path, event.CheckFilter(f))
	}
	for i, s := range p.HTTP {
		u, err := url.Parse(strings.TrimSuffix(s, "*"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path == "" || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
			c.Fault(fmt.Sprintf("permissions.http[%d]", i), fmt.Sprintf("%q is not a URL pattern", s), `write it like "https://host/path" or "https://host/*"; the host is written out`)
		}
	}
	for i, s := range p.Secrets {
		if !isSettingName(s) {
			c.Fault(fmt.Sprintf("permissions.secrets[%d]", i), fmt.Sprintf("%q cannot be a secret's name", s), "letters, digits, _ and -")
		}
	}
}

func (c checker) test(t *testFile, path string) {
	if t.Topic != "" {
		err := event.CheckTopic(t.Topic)
		c.issue(path+".topic", err)
		triggers := c.file.Trigger.MQTT
		if err == nil && len(triggers) > 0 && !c.Faulty("trigger") &&
			!slices.ContainsFunc(triggers, func(m MQTTTrigger) bool { return m.Topic.Match(t.Topic) }) {
			c.Fault(path+".topic", "no trigger of this function has such a topic", fmt.Sprintf("its first trigger is %q", triggers[0].Topic))
		}
	}
	for name := range t.Attrs {
		c.testAttr(name, path+".attrs."+name)
	}
	granted := withOutput(c.file.Permissions.Publish, c.file.Output.Topic)
	for i, m := range t.Expect.Publish {
		at := fmt.Sprintf("%s.expect.publish[%d]", path, i)
		if m.Topic != "" {
			err := event.CheckTopic(m.Topic)
			c.issue(at+".topic", err)
			if err == nil && !c.Faulty("permissions") && !slices.ContainsFunc(granted, func(f string) bool { return event.MatchFilter(f, m.Topic) }) {
				c.Fault(at+".topic", "the function may not publish there", fmt.Sprintf("add to [permissions]: publish = [%q]", m.Topic))
			}
		}
		if m.JSON != "" && !json.Valid([]byte(m.JSON)) {
			c.Fault(at+".json", "it is not JSON", "")
		}
		if m.JSON != "" && m.Payload != nil {
			c.Fault(at, "there are both payload and json", "keep one of them")
		}
	}
	if o := t.Expect.Outcome; o != nil && *o != Done.String() && len(t.Expect.Publish)+len(t.Expect.State) > 0 {
		c.Fault(path+".expect.outcome", "an event that is not done publishes and writes nothing", "expect.error checks the reason")
	}
}

// testAttr checks the name of an attribute that a test gives its event. Captures are those of routes: a topic says its own.
func (c checker) testAttr(name, path string) {
	if capture, ok := strings.CutPrefix(name, "topic."); ok {
		known := slices.ContainsFunc(c.file.Trigger.HTTP, func(h httpFile) bool { return slices.Contains(h.Route.Captures(), capture) })
		if !known && !c.Faulty("trigger") {
			c.Fault(path, "no route of this function captures it", "what a topic captures is read from the test's topic")
		}
		return
	}
	if _, err := extract.Parse("attr."+name, nil); err != nil && !slices.Contains([]string{"time", "qos", "retained", "dup"}, name) {
		c.Fault(path, "events have no such attribute", "your own attributes are called user.NAME")
	}
}
