package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mayfly/cluster"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
)

// sweep: everybody who has no business there knocks everywhere. Nothing is answered, nothing obeyed, and no memory is lost to it.
func sweep(t *trial) error {
	if err := t.world(4); err != nil {
		return err
	}
	members, strange := t.nodes[:3], t.nodes[3]
	if err := t.unite(members); err != nil {
		return err
	}
	if _, err := strange.mayfly("init", "--cluster", "hosts"); err != nil { // of the same name, even
		return err
	}
	if err := strange.member(); err != nil {
		return err
	}
	ghost := guest{name: "ghost", source: relay.source}
	recorded := t.record()
	if err := errors.Join(t.deploy(members[0], relay), t.deploy(members[0], ghost), t.deployed(ghost.name, 10*time.Second, members...)); err != nil {
		return err
	}
	if _, err := t.owner(relay.name); err != nil {
		return err
	}
	if err := t.begin(200, relay.name); err != nil {
		return err
	}
	t.sleep(3 * time.Second)
	if _, err := members[0].mayfly("fn", "rm", ghost.name, "--yes"); err != nil {
		return err
	}
	if err := t.removed(ghost.name, 10*time.Second, members...); err != nil {
		return err
	}
	before, err := rss(members)
	if err != nil {
		return err
	}
	if err := t.knock(members, strange); err != nil {
		return err
	}
	t.replay(recorded)
	if err := t.stolenKey(members); err != nil {
		return err
	}
	t.floods(members)
	return t.unharmed(members, before)
}

// doors are all paths of calls between nodes, and some that are none.
var doors = []string{
	"POST /v1/exec", "GET /v1/load", "GET /v1/blobs/" + strings.Repeat("0", 64), "POST /v1/state/catalog", "POST /v1/state/authority",
	"GET /v1/keyring", "POST /v1/join", "POST /v1/renew", "GET /v1/admin/status", "GET /", "GET /metrics", "GET /debug/pprof/",
}

// knock calls every door of every member without a certificate, with that of another cluster of the same name, as a node and as one
// that joins.
func (t *trial) knock(members []*node, strange *node) error {
	m, err := member(strange.data())
	if err != nil {
		return err
	}
	foreign := m.ClientTLS("whoever")
	accepted, asked := 0, 0
	for _, n := range members {
		for _, c := range []*tls.Config{
			{},
			{ServerName: "signer.mayfly"},
			{GetClientCertificate: foreign.GetClientCertificate, Certificates: foreign.Certificates, ServerName: n.id},
			{GetClientCertificate: foreign.GetClientCertificate, Certificates: foreign.Certificates, ServerName: "signer.mayfly"},
		} {
			c.InsecureSkipVerify = true // an attacker does not care whom he talks to
			for _, door := range doors {
				asked++
				if said, ok := t.open(n.calls(), c, door); ok {
					accepted++
					t.fault("%s: %s as %q: %s", n.name, door, c.ServerName, said)
				}
			}
		}
	}
	own, err := member(members[1].data()) // or nothing was asked at all
	if err != nil {
		return err
	}
	if _, ok := t.open(members[0].calls(), own.ClientTLS(members[0].id), "GET /v1/load"); !ok {
		return errors.New("not even a member is let in")
	}
	t.figures["knocks"], t.figures["knocks_accepted"] = float64(asked), float64(accepted)
	return nil
}

// open asks at one door and says whether anything good came back.
func (t *trial) open(address string, c *tls.Config, door string) (said string, ok bool) {
	for _, next := range []string{"h2", "http/1.1"} {
		config := c.Clone()
		config.NextProtos = []string{next}
		h := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: next == "h2", DisableKeepAlives: true}}
		verb, path, _ := strings.Cut(door, " ")
		r, err := http.NewRequestWithContext(t.ctx, verb, "https://"+address+path, strings.NewReader("{}"))
		if err != nil {
			return err.Error(), true
		}
		answer, err := h.Do(r)
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		answer.Body.Close()
		if answer.StatusCode < 400 {
			return fmt.Sprintf("%d %s", answer.StatusCode, text), true
		}
	}
	return "", false
}

// member opens the membership that a node's agent has on disk.
func member(data string) (*identity.Membership, error) {
	who, err := identity.Load(data)
	if err != nil {
		return nil, err
	}
	return identity.Open(filepath.Join(data, "cluster"), who, nil)
}

// recording is frames of gossip as they went over the wire.
type recording struct {
	mu     sync.Mutex
	frames []struct {
		to    string
		frame []byte
	}
}

// record begins to keep what the nodes say to each other over UDP.
func (t *trial) record() *recording {
	r := &recording{}
	t.net.Tap(func(_, to string, frame []byte) {
		const ether, protocol, udp = 14, 9, 17
		if len(frame) < ether+28 || frame[ether+protocol] != udp || binary.BigEndian.Uint16(frame[ether+22:]) != 7946 {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.frames) < 20_000 {
			r.frames = append(r.frames, struct {
				to    string
				frame []byte
			}{to, bytes.Clone(frame)})
		}
	})
	return r
}

// replay sends everything again that was recorded, three times.
func (t *trial) replay(r *recording) {
	t.net.Tap(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 3 {
		for i, f := range r.frames {
			if err := t.net.Inject(f.to, f.frame); err != nil {
				t.noted("replay: %v", err)
			}
			if i%50 == 0 {
				t.sleep(time.Millisecond)
			}
		}
	}
	t.figures["frames_replayed"] = float64(3 * len(r.frames))
	if len(r.frames) == 0 {
		t.fault("no gossip was recorded")
	}
}

// stolenKey lets somebody gossip who has the key and no certificate: he says that functions are deployed and removed, and that he is ahead
// of everybody.
func (t *trial) stolenKey(members []*node) error {
	m, err := member(members[1].data())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(t.dir, "thief")
	if err != nil {
		return err
	}
	thief, err := identity.Load(dir)
	if err != nil {
		return err
	}
	var seeds []cluster.Peer
	for _, n := range members {
		seeds = append(seeds, cluster.Peer{Name: n.id, Addr: n.host.Address + ":" + gossipPort})
	}
	at := netip.MustParseAddr(labAddress)
	c, err := cluster.New(cluster.Config{
		Name: thief.ID, Cluster: m.Cluster(), Keys: m.Keys().At(time.Now()), Seeds: seeds, Small: true,
		Listen: func() (cluster.Network, error) { return cluster.ListenUDP(netip.AddrPortFrom(at, 7946), at) },
		Meta:   cluster.Meta{Fingerprint: thief.Fingerprint(), Port: 7947, Slots: 1000, Speed: 255, Brokers: 1, Arch: cluster.ArchAMD64},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(c.AddState("catalog", liar{}), c.AddState("authority", liar{})); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for range pick(t, 20, 100) {
		for _, b := range forged(thief.ID, members[0].id) {
			if err := c.Announce("catalog", b); err != nil {
				return errors.Join(err, ctx.Err())
			}
		}
		if err := c.Announce("authority", bytes.Repeat([]byte{0xff}, 32)); err != nil {
			return err
		}
		t.sleep(200 * time.Millisecond)
	}
	t.figures["thief_sees_members"] = float64(len(c.Members()))
	cancel()
	return <-ended
}

// liar is a state whose digest is nonsense.
type liar struct{}

func (liar) MarshalBinary() ([]byte, error)     { return bytes.Repeat([]byte{0xff}, 8<<10), nil }
func (liar) Merge(string, []byte) error         { return nil }
func (liar) Heard(string, []byte) (bool, error) { return false, nil }

// forged are announcements of records that nobody signed who may: in the name of the thief and of the founder.
func forged(thief, founder string) (all [][]byte) {
	const version, whole = 1, 2
	now := uint64(time.Now().Add(time.Minute).UnixMilli()) << 16
	for _, r := range []catalog.Record{
		{Kind: catalog.KindFunction, Key: "relay", Ver: now, Writer: founder, Deleted: true, Sig: make([]byte, 96)},
		{Kind: catalog.KindFunction, Key: "relay", Ver: now, Writer: thief, Deleted: true},
		{Kind: catalog.KindFunction, Key: "evil", Ver: now, Writer: founder, Body: []byte(`{"manifest":"evil"}`), Sig: make([]byte, 96)},
		{Kind: catalog.KindNode, Key: founder, Ver: now, Writer: founder, Body: []byte(`{"name":"evil"}`), Sig: make([]byte, 96)},
		{Kind: catalog.KindConfig, Key: "node/" + founder, Ver: now, Writer: founder, Body: []byte(`{"drain":true}`), Sig: make([]byte, 96)},
	} {
		all = append(all, append([]byte{version, whole}, r.Encode()...))
	}
	return all
}

// floods sends streams that say they are enormous, and streams that are, to every port of every member, many at once.
func (t *trial) floods(members []*node) {
	label := append([]byte{244, byte(len("hosts"))}, "hosts"...)
	huge := append(bytes.Clone(label), 10, 0xff, 0xff, 0xff, 0xf0) // an encrypted exchange of state of 4 GiB
	var sent sync.WaitGroup
	for _, n := range members {
		for _, port := range []string{gossipPort, callsPort, gatewayPort} {
			for i := range 40 {
				sent.Go(func() {
					head := [][]byte{huge, label, nil, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}[i%4]
					t.pour(n.host.Address+":"+port, head, 4<<20)
				})
			}
		}
	}
	sent.Wait()
}

// pour writes until the other side has had enough.
func (t *trial) pour(address string, head []byte, size int) {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(t.ctx, "tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	_, err = conn.Write(head)
	for block := make([]byte, 64<<10); err == nil && size > 0; size -= len(block) {
		_, err = conn.Write(block)
	}
}

// unharmed checks that all is as before.
func (t *trial) unharmed(members []*node, before []int64) error {
	t.sleep(2 * time.Second)
	after, err := rss(members)
	if err != nil {
		return err
	}
	for i, n := range members {
		grown := float64(after[i]-before[i]) / (1 << 20)
		t.figures["rss_growth_mib"] = max(t.figures["rss_growth_mib"], grown)
		if grown > 100 {
			t.fault("%s grew by %.0f MiB", n.name, grown)
		}
		for name, want := range map[string]bool{relay.name: true, "evil": false, "ghost": false} {
			if has, err := n.has(name); err != nil || has != want {
				t.fault("%s has %s: %v, %v", n.name, name, has, err)
			}
		}
		all, err := n.client.Nodes(t.ctx)
		for _, m := range all {
			if m.Name == "evil" || m.Draining {
				t.fault("%s believes that %s is called %q, draining %v", n.name, m.ID, m.Name, m.Draining)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := t.together(time.Minute, members...); err != nil {
		return err
	}
	t.flow.mark()
	_, err = t.through(30 * time.Second)
	t.settle(30 * time.Second)
	return err
}

// rss is the resident memory of each agent, in bytes.
func rss(nodes []*node) (all []int64, err error) {
	for _, n := range nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			return nil, err
		}
		all = append(all, kib<<10)
	}
	return all, nil
}
