package abi

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"mayfly/event"
	"mayfly/function"
)

func limits(l function.Limits) func(*function.Call) {
	return func(c *function.Call) { c.Function.Manifest.Limits = l }
}

func TestPublish(t *testing.T) {
	for _, c := range []struct {
		name, topic, data string
		flags             int
		want              int64
	}{
		{"qos 0", "plant/7/alarm", "x", 0, 0},
		{"qos 1 retained", "plant/7/alarm", "x", 5, 0},
		{"no data", "deep/er/still", "", 1, 0},
		{"qos 2", "plant/7/alarm", "x", 2, codeInvalid},
		{"qos 3", "plant/7/alarm", "x", 3, codeInvalid},
		{"reserved flag", "plant/7/alarm", "x", 8, codeInvalid},
		{"negative flags", "plant/7/alarm", "x", -1, codeInvalid},
		{"empty topic", "", "x", 0, codeInvalid},
		{"wildcard", "plant/+/alarm", "x", 0, codeInvalid},
		{"NUL", "deep/\x00", "x", 0, codeInvalid},
		{"not UTF-8", "deep/\xff", "x", 0, codeInvalid},
		{"not permitted", "plant/7/temp", "x", 0, codeDenied},
		{"deeper than permitted", "plant/7/alarm/x", "x", 0, codeDenied},
		{"system topic", "$SYS/x", "x", 0, codeDenied},
		{"larger than all output", "deep/x", strings.Repeat("x", 1000), 0, codeTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, function.ABIMayfly, limits(function.Limits{Output: 1000}))
			g.want(c.want, "publish", c.topic, c.data, c.flags)
			if c.want != 0 {
				if len(g.res.Publishes) != 0 {
					t.Fatalf("refused and published: %v", g.res.Publishes)
				}
				return
			}
			m := g.res.Publishes[0]
			if m.Topic != c.topic || string(m.Data) != c.data || m.QoS != byte(c.flags&3) || m.Retain != (c.flags&4 != 0) {
				t.Errorf("published %+v", m)
			}
		})
	}
}

func TestPublishSurvivesTheGuest(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.want(0, "publish", "plant/7/alarm", "hello", 1)
	g.want(0, "publish", "plant/7/alarm", "again", 1)
	clear(g.mem)
	if err := g.s.End(0, nil); err != nil {
		t.Fatal(err)
	}
	first := g.res.Publishes[0]
	g.begin()
	g.want(0, "publish", "deep/other", "xxxxx", 1)
	if first.Topic != "plant/7/alarm" || string(first.Data) != "hello" || cap(first.Data) > 8 {
		t.Errorf("the message became %+v", first)
	}
}

func TestPublishLimits(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, limits(function.Limits{Output: 100, Publishes: 3}))
	g.want(0, "publish", "deep/x", strings.Repeat("x", 60), 0)
	g.want(codeOverLimit, "publish", "deep/x", strings.Repeat("x", 60), 0)
	g.want(0, "publish", "deep/x", "", 0)
	g.want(0, "publish", "deep/x", "", 0)
	g.want(codeOverLimit, "publish", "deep/x", "", 0)
	if len(g.res.Publishes) != 3 {
		t.Errorf("%d publishes", len(g.res.Publishes))
	}
}

func TestZeroInAManifestMeansNone(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, limits(function.Limits{Payload: 1, Output: 10}))
	g.want(codeOverLimit, "publish", "deep/x", "", 0)
	g.do("log", 1, "")
	if len(g.res.Log) != 0 || g.res.Dropped != 1 {
		t.Errorf("log %v", g.res.Log)
	}
}

func TestAnotherFunctionHasOtherPermissions(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.want(0, "publish", "deep/x", "1", 0)
	g.call.Function = &function.Function{Manifest: function.Manifest{Name: "other"}}
	g.begin()
	g.want(codeDenied, "publish", "deep/x", "1", 0)
}

func TestRespond(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, limits(function.Limits{Output: 200}))
	g.want(0, "respond", strings.Repeat("a", 150))
	g.want(0, "respond", strings.Repeat("b", 100)) // replaces, so that 150 + 100 is fine
	g.want(codeTooLarge, "respond", strings.Repeat("c", 201))
	g.want(0, "respond_attr", "status", "404")
	g.want(0, "respond_attr", "content-type", "text/plain")
	g.want(0, "respond_attr", "header.X-A", "1")
	g.want(codeOverLimit, "respond_attr", "header.X-B", strings.Repeat("1", 100))
	for _, c := range [][2]string{
		{"status", "99"},
		{"status", "600"},
		{"status", "abc"},
		{"status", ""},
		{"nope", "x"},
		{"header.", "x"},
		{"header.a b", "x"},
		{"header.X", "a\r\nSet-Cookie: x"},
		{"content-type", "a\nb"},
		{"header.Content-Length", "7"},
		{"header.transfer-encoding", "chunked"},
		{"header.Host", "x"},
	} {
		g.want(codeInvalid, "respond_attr", c[0], c[1])
	}
	g.want(codeTooLarge, "respond_attr", "header.X", strings.Repeat("x", MaxHeaderBytes))
	clear(g.mem)
	if err := g.s.End(0, nil); err != nil {
		t.Fatal(err)
	}
	r := g.res.Response
	if r.Status != 404 || r.ContentType != "text/plain" || string(r.Data) != strings.Repeat("b", 100) || len(r.Header) != 1 || r.Header[0] != (event.Attr{Name: "X-A", Value: "1"}) {
		t.Errorf("response %+v", r)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	for range MaxHeaders {
		g.want(0, "respond_attr", "header.a", "")
	}
	g.want(codeOverLimit, "respond_attr", "header.a", "")
}

func TestLog(t *testing.T) {
	g := newGuest(t, function.ABIMayfly, limits(function.Limits{Log: 100}))
	g.do("log", 3, "boom\x1b[2J")
	g.do("log", 99, "odd level")
	g.do("log", -1, strings.Repeat("é", 50))
	g.do("log", 0, "dropped")
	if len(g.res.Log) != 3 || g.res.Dropped != 2 {
		t.Fatalf("%d lines, %d dropped", len(g.res.Log), g.res.Dropped)
	}
	if l := g.res.Log[0]; l.Level != function.LevelError || l.Text != "boom\x1b[2J" || l.Time.IsZero() {
		t.Errorf("line %+v", l)
	}
	if l := g.res.Log[2]; l.Level != function.LevelInfo || !utf8.ValidString(l.Text) || len(l.Text) > 100-16-len("boom\x1b[2J")-16-len("odd level")-16 {
		t.Errorf("cut line %+v", l)
	}
}

func TestLogIsBoundedForEmptyLines(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	for range 100_000 {
		g.do("log", 1, 0, 0)
	}
	if n := len(g.res.Log); n != defaultLog/LogLineCost {
		t.Errorf("%d lines kept", n)
	}
	if g.res.Dropped != 100_000-len(g.res.Log) {
		t.Errorf("%d dropped", g.res.Dropped)
	}
}

func TestFailAndRetryAfter(t *testing.T) {
	g := newGuest(t, function.ABIMayfly)
	g.do("fail", strings.Repeat("x", MaxFailure-1)+"é")
	g.do("retry_after", 1500)
	if err := g.s.End(1, nil); err != nil {
		t.Fatal(err)
	}
	if g.res.Failure != strings.Repeat("x", MaxFailure-1) || g.res.RetryAfter != 1500*time.Millisecond {
		t.Errorf("failure of %d bytes, retry after %v", len(g.res.Failure), g.res.RetryAfter)
	}
	for ms, want := range map[int]time.Duration{-5: 0, 1 << 62: maxRetryAfter, -1 << 63: 0} {
		g.begin()
		g.do("retry_after", ms)
		if g.res.RetryAfter != want {
			t.Errorf("retry_after(%d) = %v", ms, g.res.RetryAfter)
		}
	}
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		n := rapid.IntRange(0, 20).Draw(t, "n")
		c := cut([]byte(s), n)
		if len(c) > n || !utf8.Valid(c) || !strings.HasPrefix(s, string(c)) || len(s) > n && len(c) < n-3 {
			t.Fatalf("cut(%q, %d) = %q", s, n, c)
		}
	})
}
