package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
	"mayfly/function"
)

type subOptions struct {
	broker  string
	qos     uint8
	count   int
	timeout time.Duration
	format  string
}

func subCommand(a *app) *cobra.Command {
	var o subOptions
	cmd := &cobra.Command{
		Use:   "sub FILTER",
		Short: "Show messages as they are published",
		Long: `Subscribe through the agent's broker and print a line per message: time, topic, QoS, retained or new, payload.
With -o json there is one JSON object per line, with payload (text) or payload_base64 (anything else).

--format prints what you want: %t topic, %p payload as it is, %q QoS, %r 1 if retained, %l length,
%x payload in hexadecimal, %I time (RFC 3339), %U time (seconds since 1970), %j the whole message as JSON,
%% a percent sign, \n, \t, \\.
Without \n at its end a line break is added.`,
		Example: `  mayfly sub 'plant/#'
  mayfly sub 'plant/+/alarm' -n 1 -W 30s          wait for one alarm; exit code 7 if none comes
  mayfly sub '#' --format '%t %l'`,
		Args: arguments("FILTER"),
	}
	flags := cmd.Flags()
	flags.Uint8VarP(&o.qos, "qos", "q", 0, "quality of service: 0 or 1")
	flags.StringVar(&o.broker, "broker", "", "name of a configured broker (default: the agent's default one)")
	flags.IntVarP(&o.count, "count", "n", 0, "end after that many messages (0 = never)")
	flags.DurationVarP(&o.timeout, "timeout", "W", 0, "end after that time (0 = never)")
	flags.StringVarP(&o.format, "format", "F", "", "print each message like this")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.sub(cmd.Context(), args[0], o, *out) }
	return cmd
}

// errEnough ends a stream that has shown what was asked for.
var errEnough = errors.New("enough")

func (a *app) sub(ctx context.Context, filter string, o subOptions, out format) error {
	show := func(r admin.Received) error { return stream(a, out, a.receivedView(), r) }
	if o.format != "" {
		line, err := newLine(o.format)
		if err != nil {
			return err
		}
		show = func(r admin.Received) error { return line(a.Stdout, r, a.outTTY) }
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	got := 0
	err := a.client.Subscribe(ctx, admin.SubscribeQuery{Broker: o.broker, Filter: filter, QoS: o.qos}, func(f admin.Frame[admin.Received]) error {
		a.dropped(f.Dropped)
		if f.Ready {
			a.progress("listening on %s, Ctrl-C ends\n", escape(filter))
		}
		if f.Record == nil {
			return nil
		}
		if err := show(*f.Record); err != nil {
			return err
		}
		if got++; got == o.count {
			return errEnough
		}
		return nil
	})
	return endOfStream(ctx, err, seen{true, o.count, got})
}

// seen is what a stream was for and what came of it.
type seen struct {
	follow bool // it ends only when somebody ends it
	want   int  // records, 0 = any number
	got    int
}

// endOfStream says what the end of a stream means: enough was seen, the time was over, the agent stopped, or it broke.
func endOfStream(ctx context.Context, err error, s seen) error {
	switch {
	case errors.Is(err, errEnough):
		return nil
	case errors.Is(context.Cause(ctx), errTimeout):
		if s.want == 0 {
			return nil
		}
		return &function.Error{
			Op: "wait", Subject: "messages", Class: function.ClassRetry, Kind: kindTimeout,
			Err: fmt.Errorf("only %d came in the time given", s.got), Hint: "mayfly events tail shows whether they were published",
		}
	case err == nil && s.follow:
		return &function.Error{
			Op: "follow", Subject: "agent", Class: function.ClassRetry, Kind: admin.KindUnavailable,
			Err: errors.New("it stopped"), Hint: "mayfly status",
		}
	}
	return err
}

// dropped says that this reader was too slow.
func (a *app) dropped(n uint64) {
	if n > 0 {
		fmt.Fprintf(a.Stderr, "%d dropped: this reader was too slow\n", n)
	}
}

func (a *app) receivedView() view[admin.Received] {
	return view[admin.Received]{
		name: func(r admin.Received) string { return r.Topic },
		detail: func(w io.Writer, r admin.Received, wide bool) {
			kind := "new"
			if r.Retained {
				kind = "retained"
			}
			payload := shown(r.Body)
			if wide {
				payload = escape(string(r.Body.Bytes()))
			}
			fmt.Fprintf(w, "%s  %s  QoS %d  %s  %s\n", a.clock(r.Time), escape(r.Topic), r.QoS, kind, payload)
		},
	}
}

// newLine compiles a --format.
func newLine(format string) (func(w io.Writer, r admin.Received, safe bool) error, error) {
	var parts []func(admin.Received) string
	plain := func(s string) { parts = append(parts, func(admin.Received) string { return s }) }
	rest := format
	for rest != "" {
		i := strings.IndexAny(rest, `%\`)
		if i < 0 || i == len(rest)-1 {
			plain(rest)
			break
		}
		plain(rest[:i])
		verb := rest[i : i+2]
		rest = rest[i+2:]
		part, ok := formatVerb(verb)
		if !ok {
			return nil, &usageError{text: fmt.Sprintf("--format: %q is unknown", verb), hint: "mayfly sub --help lists what there is"}
		}
		parts = append(parts, part)
	}
	if !strings.HasSuffix(format, `\n`) {
		plain("\n")
	}
	return func(w io.Writer, r admin.Received, safe bool) error {
		for _, p := range parts {
			s := p(r)
			if safe {
				s = escapeText(s)
			}
			if _, err := io.WriteString(w, s); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func formatVerb(verb string) (func(admin.Received) string, bool) {
	fixed := map[string]string{"%%": "%", `\n`: "\n", `\t`: "\t", `\\`: `\`}
	if s, ok := fixed[verb]; ok {
		return func(admin.Received) string { return s }, true
	}
	f, ok := map[string]func(admin.Received) string{
		"%t": func(r admin.Received) string { return r.Topic },
		"%p": func(r admin.Received) string { return string(r.Body.Bytes()) },
		"%q": func(r admin.Received) string { return strconv.Itoa(int(r.QoS)) },
		"%r": func(r admin.Received) string {
			if r.Retained {
				return "1"
			}
			return "0"
		},
		"%l": func(r admin.Received) string { return strconv.Itoa(len(r.Body.Bytes())) },
		"%x": func(r admin.Received) string { return hex.EncodeToString(r.Body.Bytes()) },
		"%I": func(r admin.Received) string { return r.Time.Format(time.RFC3339Nano) },
		"%U": func(r admin.Received) string { return strconv.FormatFloat(float64(r.Time.UnixMicro())/1e6, 'f', 6, 64) },
		"%j": func(r admin.Received) string {
			text, err := json.Marshal(r)
			if err != nil {
				return err.Error() // cannot be: the record came in as JSON
			}
			return string(text)
		},
	}[verb]
	return f, ok
}
