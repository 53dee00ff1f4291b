package peer

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/function"
)

func TestBlobRanges(t *testing.T) {
	s := newSite(t)
	m := bytesOf(1, 100)
	d := function.DigestOf(m)
	name := strings.Trim(etagOf(d), `"`)
	var read atomic.Int64
	s.serve(t, "b", Doors{Blob: holding(&read, m)}, Limits{})
	p := s.peers(t, "a")
	l, err := p.link("b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		header  []string // pairs
		status  int
		body    []byte
		content string
	}{
		{name, nil, 200, m, ""},
		{name, []string{"Range", "bytes=0-"}, 206, m, "bytes 0-99/100"},
		{name, []string{"Range", "bytes=40-"}, 206, m[40:], "bytes 40-99/100"},
		{name, []string{"Range", "bytes=40-49"}, 206, m[40:50], "bytes 40-49/100"},
		{name, []string{"Range", "bytes=40-1000"}, 206, m[40:], "bytes 40-99/100"},
		{name, []string{"Range", "bytes=99-"}, 206, m[99:], "bytes 99-99/100"},
		{name, []string{"Range", "bytes=100-"}, 416, nil, "bytes */100"},
		{name, []string{"Range", "bytes=9-8"}, 200, m, ""},
		{name, []string{"Range", "bytes=-5"}, 200, m, ""},
		{name, []string{"Range", "bytes=0-1,4-5"}, 200, m, ""},
		{name, []string{"Range", "bytes=99999999999999999999-"}, 200, m, ""},
		{name, []string{"Range", "lines=1-"}, 200, m, ""},
		{name, []string{"Range", "bytes=40-", "If-Range", etagOf(d)}, 206, m[40:], "bytes 40-99/100"},
		{name, []string{"Range", "bytes=40-", "If-Range", `"other"`}, 200, m, ""},
		{name, []string{"If-None-Match", etagOf(d)}, 304, nil, ""},
		{strings.Repeat("0", 64), nil, 404, nil, ""},
		{strings.ToUpper(name), nil, 404, nil, ""},
		{"sha256:" + name, nil, 404, nil, ""},
		{name[:63], nil, 404, nil, ""},
	} {
		r, err := request(context.Background(), http.MethodGet, "/v1/blobs/"+c.name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		resp, err := l.roundTrip(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || c.body != nil && !bytes.Equal(b, c.body) || resp.Header.Get("Content-Range") != c.content {
			t.Errorf("%s %v: %d, %d bytes, %q, %v", c.name, c.header, resp.StatusCode, len(b), resp.Header.Get("Content-Range"), err)
		}
		if c.status < 400 && resp.Header.Get("Etag") != etagOf(d) {
			t.Errorf("%v: ETag %q", c.header, resp.Header.Get("Etag"))
		}
	}
	if _, _, err := p.Blob(context.Background(), "b", function.DigestOf(nil), 0); function.KindOf(err) != kindAbsent {
		t.Errorf("%v", err)
	}
	if _, _, err := p.Blob(context.Background(), "b", d, 100); function.KindOf(err) != kindPastEnd {
		t.Errorf("%v", err)
	}
}

// So many uploads at once, and no more; a reader that goes away gives its place back.
func TestUploadsAreBounded(t *testing.T) {
	s := newSite(t)
	m := bytesOf(1, 4<<20)
	var read atomic.Int64
	srv, _ := s.serve(t, "b", Doors{Blob: holding(&read, m)}, Limits{})
	p := s.peers(t, "a")
	var open []io.Closer
	for range 2 { // not read from: they stay
		body, size, err := p.Blob(context.Background(), "b", function.DigestOf(m), 0)
		if err != nil || size != int64(len(m)) {
			t.Fatal(size, err)
		}
		open = append(open, body)
	}
	_, _, err := p.Blob(context.Background(), "b", function.DigestOf(m), 0)
	wantClass(t, err, function.ClassOverload, "busy")
	for _, o := range open {
		_ = o.Close()
	}
	eventually(t, "their places are free", func() bool { return len(srv.uploads) == 0 })
	body, _, err := p.Blob(context.Background(), "b", function.DigestOf(m), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if _ = body.Close(); err != nil || !bytes.Equal(got, m) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		began := time.Now()
		for range 100 {
			if err := p.wait(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("10,000 bytes at 1,000 a second took %v", took)
		}
		time.Sleep(time.Hour) // a quiet time gives no credit
		began = time.Now()
		for range 10 {
			_ = p.wait(t.Context(), 100)
		}
		if took := time.Since(began); took < 700*time.Millisecond {
			t.Errorf("1,000 bytes took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.wait(ctx, 1<<20) == nil || newPace(0).wait(ctx, 1) == nil || newPace(0).wait(t.Context(), 1<<30) != nil {
			t.Error("the context is not obeyed, or there is a rate where there is none")
		}
	})
}

func TestKnocks(t *testing.T) {
	k := newKnocks(3)
	now := time.Now()
	a := netip.MustParseAddr("192.0.2.1")
	for i := range 5 {
		if k.allow(a, now) != (i < 3) {
			t.Errorf("knock %d", i)
		}
	}
	if !k.allow(netip.MustParseAddr("192.0.2.2"), now) || !k.allow(a, now.Add(time.Minute)) {
		t.Error("refused")
	}
	for i := range 5000 {
		k.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	if len(k.by) > maxKnocking {
		t.Errorf("%d are remembered", len(k.by))
	}
	if k.allow(netip.MustParseAddr("192.0.2.9"), now) || !k.allow(netip.MustParseAddr("192.0.2.9"), now.Add(time.Minute)) {
		t.Error("a flood is over after a minute, and not before")
	}
}

func TestAddressOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "[2001:db8::1:2:3:4]:5": "2001:db8::", "[fe80::1%eth0]:5": "fe80::", "pipe": "invalid IP",
	} {
		if got := addressOf(addressed(remote)); got.String() != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}

type addressed string

func (a addressed) Network() string { return "tcp" }
func (a addressed) String() string  { return string(a) }
