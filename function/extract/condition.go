package extract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"mayfly/event"
)

// Bounds of a condition. Together with the rules in check they bound its cost: every part is evaluated at most once and
// looks at no more than the payload.
const (
	maxSource = 1024 // bytes
	maxNodes  = 128
)

// Condition is a boolean expression over an event: json (the decoded payload), topic, qos, retained, and the captures of
// the trigger's topic by their names. The language is that of github.com/expr-lang/expr without loops, variables and
// ranges.
type Condition struct {
	text     string
	program  *vm.Program
	names    []string // variables it mentions, but json
	members  []member // members of json it mentions, when it mentions nothing else of it
	wantJSON bool
}

type member struct {
	name string
	path []step
}

// ParseCondition compiles a condition. captures are the names of the trigger's captures.
func ParseCondition(text string, captures []string) (*Condition, error) {
	if len(text) > maxSource {
		return nil, fmt.Errorf("the condition has %d bytes, the most is %d", len(text), maxSource)
	}
	env := types.Map{"json": types.Any, "topic": types.String, "qos": types.Int, "retained": types.Bool}
	for _, name := range captures {
		if _, taken := env[name]; !taken { // json, topic, qos and retained keep their meaning
			env[name] = types.String
		}
	}
	seen, err := check(text)
	if err != nil {
		return nil, err
	}
	options := []expr.Option{expr.Env(env), expr.AsBool(), expr.MaxNodes(maxNodes), expr.DisableAllBuiltins()}
	for _, name := range builtins() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, plainError(err)
	}
	c := &Condition{text: text, program: program, names: seen.variables, wantJSON: seen.json > 0}
	if seen.json == seen.members {
		for _, name := range seen.memberNames {
			c.members = append(c.members, member{name, []step{{name: name}}})
		}
	}
	return c, nil
}

// plainError takes the excerpt out of the library's errors: the place where ours are shown has its own.
func plainError(err error) error {
	if fe, ok := errors.AsType[*file.Error](err); ok {
		return fmt.Errorf("%s (at character %d)", strings.TrimSpace(fe.Message), fe.Column+1)
	}
	return err
}

// String returns the condition as it was written.
func (c *Condition) String() string { return c.text }

// Holds says whether the condition is true of ev, which matched p. An error means that the question has no answer for this event,
// now or later: the payload is not JSON though the condition looks into it, a member is missing where a number is compared.
// Such an event is to be rejected with the error as the reason. The payload is read only if the condition mentions json, and
// decoded only as far as it does.
func (c *Condition) Holds(ev *event.Event, p event.Pattern) (bool, error) {
	env := make(map[string]any, len(c.names)+1)
	for _, name := range c.names {
		switch name {
		case "topic":
			env[name] = ev.Topic
		case "qos":
			env[name] = int(ev.QoS)
		case "retained":
			env[name] = ev.Retained
		default:
			env[name], _ = p.Capture(name, ev.Topic)
		}
	}
	if c.wantJSON {
		v, err := c.payload(ev.Data)
		if err != nil {
			return false, fmt.Errorf("when %s: %w", c.text, err)
		}
		env["json"] = v
	}
	out, err := vm.Run(c.program, env)
	if err != nil {
		return false, fmt.Errorf("when %s: %w", c.text, plainError(err))
	}
	yes, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("when %s: it gives %T, not true or false", c.text, out)
	}
	return yes, nil
}

// payload decodes the members the condition mentions, or everything when it mentions json as a whole.
func (c *Condition) payload(data []byte) (any, error) {
	if len(c.members) > 0 {
		object := make(map[string]any, len(c.members))
		for _, m := range c.members {
			raw, err := find(data, m.path)
			if err != nil {
				return nil, err
			}
			if raw == nil {
				continue
			}
			if object[m.name], err = decode(raw); err != nil {
				return nil, err
			}
		}
		if isObject(data) {
			return object, nil
		}
	}
	raw, err := find(data, nil)
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

// isObject says so of checked JSON.
func isObject(data []byte) bool {
	i := slices.IndexFunc(data, func(c byte) bool { return c != ' ' && c != '\t' && c != '\n' && c != '\r' })
	return i >= 0 && data[i] == '{'
}
