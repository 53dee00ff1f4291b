package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mayfly/admin"
)

type pubOptions struct {
	broker   string
	qos      uint8
	retain   bool
	count    int
	interval time.Duration
}

func pubCommand(a *app) *cobra.Command {
	var o pubOptions
	cmd := &cobra.Command{
		Use:   "pub TOPIC [DATA|@file|-]",
		Short: "Publish a message",
		Long: `Publish a message through the agent's broker. DATA is a text, @file or - for standard input; without it the payload
is empty. With QoS 1 mayfly returns when the broker has confirmed the message.

In a text, {{n}} is the number of the message, {{now}} the time (RFC 3339), {{rand}} a number from 0 to 99 and
{{rand 20 30}} one from 20 to 30.`,
		Example: `  mayfly pub plant/7/temp '{"t": 91}'
  mayfly pub plant/7/temp '{"n": {{n}}, "t": {{rand 60 90}}}' --count 100 --interval 100ms
  mayfly pub plant/7/mode auto -q 1 -r`,
		Args: arguments("TOPIC", "[DATA|@file|-]"),
	}
	flags := cmd.Flags()
	flags.Uint8VarP(&o.qos, "qos", "q", 0, "quality of service: 0 or 1")
	flags.BoolVarP(&o.retain, "retain", "r", false, "let the broker keep it for later subscribers")
	flags.StringVar(&o.broker, "broker", "", "name of a configured broker (default: the agent's default one)")
	flags.IntVarP(&o.count, "count", "n", 1, "how many messages")
	flags.DurationVarP(&o.interval, "interval", "i", 0, "time between messages")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.pub(cmd.Context(), args, o) }
	return cmd
}

func (a *app) pub(ctx context.Context, args []string, o pubOptions) error {
	if o.count < 1 {
		return &usageError{text: fmt.Sprintf("--count %d: want at least 1", o.count)}
	}
	payload, err := a.data(argOr(args[1:], ""))
	if err != nil {
		return err
	}
	fill := newTemplate(string(payload), len(args) > 1 && args[1] != "-" && args[1][:min(1, len(args[1]))] != "@")
	began := a.Now()
	for n := 1; n <= o.count; n++ {
		if n > 1 && !pause(ctx, o.interval) {
			return ctx.Err()
		}
		text, err := fill(n, a.Now())
		if err != nil {
			return err
		}
		m := admin.Message{Broker: o.broker, Topic: args[0], QoS: o.qos, Retain: o.retain, Body: admin.NewBody([]byte(text))}
		if err := a.client.Publish(ctx, m); err != nil {
			return err
		}
		a.progress("published %d of %d", n, o.count)
	}
	a.progress("")
	if o.count > 1 {
		a.note("published %d messages in %s", o.count, micros(a.Now().Sub(began).Microseconds()))
	}
	return nil
}

// pause waits and says whether ctx still stands.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// newTemplate returns what makes the text of message n. What is not one of ours stays as it is: payloads are often JSON
// full of braces.
func newTemplate(text string, ours bool) func(n int, now time.Time) (string, error) {
	if !ours || !strings.Contains(text, "{{") {
		return func(int, time.Time) (string, error) { return text, nil }
	}
	word := regexp.MustCompile(`\{\{\s*(n|now|rand(?:\s+(-?\d{1,18})\s+(-?\d{1,18}))?)\s*\}\}`)
	return func(n int, now time.Time) (string, error) {
		var failed error
		out := word.ReplaceAllStringFunc(text, func(s string) string {
			m := word.FindStringSubmatch(s)
			switch {
			case m[1] == "n":
				return strconv.Itoa(n)
			case m[1] == "now":
				return now.UTC().Format(time.RFC3339Nano)
			case m[2] == "":
				return between(0, 99)
			}
			low, _ := strconv.ParseInt(m[2], 10, 64) // digits by the expression
			high, _ := strconv.ParseInt(m[3], 10, 64)
			if high < low {
				failed = &usageError{text: fmt.Sprintf("%s: %d is more than %d", s, low, high)}
				return s
			}
			return between(low, high)
		})
		return out, failed
	}
}

// between returns a number from low to high, both included; they have at most 18 digits, so their distance fits.
func between(low, high int64) string {
	return strconv.FormatInt(low+rand.Int64N(high-low+1), 10)
}
