package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestTheAddressOthersReach(t *testing.T) {
	for _, c := range []struct {
		name, bind, fixed, route string
		interfaces               []string
		want                     string
	}{
		{"what the operator says", "0.0.0.0", "198.51.100.7", "10.0.0.2", []string{"10.0.0.2"}, "198.51.100.7"},
		{"the one it is bound to", "10.0.0.9", "", "10.0.0.2", []string{"10.0.0.2"}, "10.0.0.9"},
		{"the default route's", "::", "", "192.168.1.4", []string{"127.0.0.1", "172.17.0.1", "192.168.1.4"}, "192.168.1.4"},
		{"no default route: a private one", "::", "", "", []string{"127.0.0.1", "203.0.113.5", "10.9.0.1", "fe80::1"}, "10.9.0.1"},
		{"the same whatever the order", "::", "", "", []string{"10.9.0.1", "10.8.0.1"}, "10.8.0.1"},
		{"no IPv4 at all", "::", "", "", []string{"::1", "fe80::1", "2001:db8::5", "fd00::5"}, "fd00::5"},
		{"bound to IPv4 only", "0.0.0.0", "", "2001:db8::5", []string{"2001:db8::5", "10.0.0.3"}, "10.0.0.3"},
		{"never link-local IPv6", "::", "", "fe80::2", []string{"fe80::2", "127.0.0.1"}, "127.0.0.1"},
		{"the cable is out", "::", "", "", []string{"127.0.0.1", "::1"}, "127.0.0.1"},
		{"nothing", "::", "", "", nil, ""},
		{"an IPv4 address in IPv6 clothes", "::", "", "::ffff:10.0.0.2", nil, "10.0.0.2"},
	} {
		var all []netip.Addr
		for _, i := range c.interfaces {
			all = append(all, addr(i))
		}
		if got := reachable(addr(c.bind), addr(c.fixed), addr(c.route), all); got != addr(c.want) {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
	two := []netip.Addr{addr("10.0.0.1"), addr("::ffff:10.0.0.2"), addr("127.0.0.1"), addr("169.254.1.1")}
	for a, want := range map[string]bool{"": false, "10.0.0.1": true, "10.0.0.2": true, "10.0.0.3": false, "127.0.0.1": false, "169.254.1.1": false} {
		if lasting(addr(a), two) != want {
			t.Errorf("%q stays: %v", a, !want)
		}
	}
	if a := defaultRoute(); a.IsValid() && (a.IsLoopback() || a.IsUnspecified()) {
		t.Errorf("the default route has %v", a)
	}
}

// silent is a network where nobody is.
type silent struct{ dialled func() net.Conn }

func (silent) Start(func([]byte, net.Addr, time.Time), func(net.Conn)) {}
func (silent) Addr() netip.AddrPort                                    { return netip.MustParseAddrPort("127.0.0.1:1") }
func (silent) Send([]byte, string) error                               { return nil }
func (s silent) Dial(string, time.Duration) (net.Conn, error)          { return s.dialled(), nil }
func (silent) Close() error                                            { return nil }

func TestTheWireIsBounded(t *testing.T) {
	var n traffic
	w := newWire(silent{}, netip.MustParseAddrPort("127.0.0.1:1"), &n)
	if _, err := w.WriteTo(make([]byte, packetMax+1), "127.0.0.1:2"); !errors.Is(err, errOversize) {
		t.Errorf("too large a packet left: %v", err)
	}
	w.packet(make([]byte, packetMax+1), nil, time.Time{})
	w.packet(nil, nil, time.Time{})
	for range packetQueue + 10 {
		w.packet([]byte{1}, nil, time.Time{})
	}
	if got := n.read(); got.PacketsOversize != 3 || got.PacketsDropped != 10 || got.PacketsIn != packetQueue {
		t.Errorf("%+v", got)
	}
	for range streamsMax + 3 {
		c, _ := net.Pipe()
		w.stream(c)
	}
	if got := n.read(); got.StreamsRefused != 3 || got.StreamsIn != streamsMax {
		t.Errorf("%+v", got)
	}
	c := <-w.StreamCh()
	if err := errors.Join(c.Close(), c.Close()); err != nil { // twice counts once
		t.Error(err)
	}
	near, _ := net.Pipe()
	w.stream(near)
	again, _ := net.Pipe()
	w.stream(again)
	if got := n.read(); got.StreamsRefused != 4 {
		t.Errorf("one place was free: %+v", got)
	}
	w.drain()
}

func TestAStreamEndsAtItsBound(t *testing.T) {
	near, far := net.Pipe()
	var n traffic
	w := newWire(silent{func() net.Conn { return near }}, netip.MustParseAddrPort("127.0.0.1:1"), &n)
	c, err := w.DialTimeout("127.0.0.1:2", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := far.Write(make([]byte, 100_000)); err != nil {
				return
			}
		}
	}()
	got, err := io.Copy(io.Discard, c)
	if got != streamMax || !errors.Is(err, errOversize) {
		t.Errorf("%d bytes came, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func testCluster(t *testing.T) *Cluster {
	t.Helper()
	c, err := New(Config{
		Name: "a", Cluster: "site",
		Listen: func() (Network, error) { return silent{}, nil },
		Seeds:  []Peer{{"s", "10.0.0.1:1"}, {"a", "10.0.0.9:1"}},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A flood fills the inbox and no more: what does not fit is counted, and the caller is never held up.
func TestAFloodOfMessagesIsDropped(t *testing.T) {
	c := testCluster(t)
	d := &delegate{c}
	small := frame{kind: kindAnnounce, origin: "b", key: "k", body: []byte("x")}.encode()
	for range 1000 {
		d.NotifyMsg(small)
	}
	if got := c.Traffic().MessagesDropped; got != 1000-inboxItems {
		t.Errorf("%d dropped", got)
	}
	c = testCluster(t)
	d = &delegate{c}
	large := frame{kind: kindAnnounce, origin: "b", key: "k", body: make([]byte, announceMax)}.encode()
	for range 100 {
		d.NotifyMsg(large)
	}
	if held := len(c.inbox.items) * len(large); held > inboxBytes || held == 0 {
		t.Errorf("%d bytes are held", held)
	}
	d.NotifyMsg(make([]byte, 1<<20))
	d.NotifyMsg([]byte{frameVersion, kindSync, 1, 'b'})
	d.MergeRemoteState([]byte("garbage"), false)
	if got := c.Traffic().MessagesInvalid; got != 3 {
		t.Errorf("%d invalid", got)
	}
}

// What was received belongs to memberlist again when the call returns.
func TestAMessageIsCopied(t *testing.T) {
	c := testCluster(t)
	b := frame{kind: kindAnnounce, origin: "b", key: "k", body: []byte("x")}.encode()
	(&delegate{c}).NotifyMsg(b)
	clear(b)
	if got, err := decode(<-c.inbox.items); err != nil || string(got.body) != "x" {
		t.Errorf("%+v, %v", got, err)
	}
}

type fixedState []byte

func (f fixedState) MarshalBinary() ([]byte, error)     { return f, nil }
func (f fixedState) Merge(string, []byte) error         { return nil }
func (f fixedState) Heard(string, []byte) (bool, error) { return true, errors.New("never") }

func TestStatesAreBounded(t *testing.T) {
	c := testCluster(t)
	for key, size := range map[string]int{"small": 100, "large": digestMax + 1} {
		if err := c.AddState(key, fixedState(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	if c.AddState("small", fixedState(nil)) == nil || c.AddState("", fixedState(nil)) == nil || c.AddState(strings.Repeat("k", 33), fixedState(nil)) == nil {
		t.Error("a key that cannot be")
	}
	f, err := decode((&delegate{c}).LocalState(false))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := digests(f.body, func(key string, _ []byte) { keys = append(keys, key) }); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || keys[0] != "small" || c.Traffic().StatesOversize != 1 {
		t.Errorf("exchanged: %v", keys)
	}
	if err := c.handle(frame{kind: kindAnnounce, origin: "b", key: "small"}.encode()); err == nil || c.queue.NumQueued() > 0 {
		t.Errorf("passed on what a state refused: %v", err)
	}
	if err := c.handle(frame{kind: kindAnnounce, origin: "b", key: "later"}.encode()); err != nil {
		t.Errorf("a key of a later version: %v", err)
	}
}

func TestBroadcastsThatWaitAreBounded(t *testing.T) {
	c := testCluster(t)
	for range queueMax + 50 {
		c.spread([]byte("x"))
	}
	if n := c.queue.NumQueued(); n > queueMax {
		t.Errorf("%d wait", n)
	}
	for range 100 {
		c.spread(make([]byte, frameMax+1))
	}
	if got := c.Traffic().AnnouncesLate; got != 100-int64(cap(c.streams)) {
		t.Errorf("%d came too late", got)
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	listen := func() (Network, error) { return silent{}, nil }
	for name, config := range map[string]Config{
		"no name":             {Cluster: "c", Listen: listen},
		"a long name":         {Name: strings.Repeat("n", 33), Cluster: "c", Listen: listen},
		"no cluster":          {Name: "n", Listen: listen},
		"no network":          {Name: "n", Cluster: "c"},
		"a short key":         {Name: "n", Cluster: "c", Listen: listen, Keys: [][]byte{make([]byte, 16)}},
		"a seed without name": {Name: "n", Cluster: "c", Listen: listen, Seeds: []Peer{{"", "10.0.0.1:1"}}},
	} {
		if _, err := New(config, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := testCluster(t)
	if c.Rekey([][]byte{make([]byte, 32)}) == nil {
		t.Error("a cluster in the clear took a key")
	}
	broken := errors.New("no such device")
	c.config.Listen = func() (Network, error) { return nil, broken }
	if err := c.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("it ran: %v", err)
	}
	if c.Run(t.Context()) == nil {
		t.Error("it ran twice")
	}
}

// A stranger's packets can each cause a line: only some are shown, and how many were not.
func TestLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &lines{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 100 {
			if _, err := l.Write([]byte("2026/01/02 03:04:05 [ERR] memberlist: Decrypt packet failed\n")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Write([]byte("2026/01/02 03:04:05 [INFO] memberlist: chatter\n")); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "level=WARN msg=gossip text=\"Decrypt packet failed\""); n != linesMost || strings.Contains(out.String(), "chatter") {
			t.Errorf("%d lines:\n%s", n, out.String())
		}
		time.Sleep(2 * linesPer)
		if _, err := l.Write([]byte("2026/01/02 03:04:05 [WARN] memberlist: again\n")); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "text=again suppressed_before=80") {
			t.Error(out.String())
		}
	})
}

func TestNodesThatCannotBe(t *testing.T) {
	meta, _ := Meta{}.MarshalBinary()
	good := memberlist.Node{Name: "b", Addr: net.IPv4(10, 0, 0, 2), Port: 7, Meta: meta}
	if m, err := memberOf(&good); err != nil || m.Addr.String() != "10.0.0.2:7" {
		t.Fatalf("%+v, %v", m, err)
	}
	for name, change := range map[string]func(*memberlist.Node){
		"no address":  func(n *memberlist.Node) { n.Addr = nil },
		"everywhere":  func(n *memberlist.Node) { n.Addr = net.IPv4zero },
		"no port":     func(n *memberlist.Node) { n.Port = 0 },
		"a long name": func(n *memberlist.Node) { n.Name = strings.Repeat("n", 33) },
		"no meta":     func(n *memberlist.Node) { n.Meta = nil },
		"a long meta": func(n *memberlist.Node) { n.Meta = make([]byte, 512) },
	} {
		n := good
		change(&n)
		if (&delegate{testCluster(t)}).NotifyAlive(&n) == nil {
			t.Errorf("%s: admitted", name)
		}
	}
}
