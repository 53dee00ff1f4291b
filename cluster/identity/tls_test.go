package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

func TestMembersShakeHands(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant-7.example")
	a, b := s.join(t), s.join(t)
	a.open(t)
	b.open(t)
	for _, pair := range [][2]*device{{a, b}, {b, a}, {s.signer, a}, {a, s.signer}} {
		from, to := pair[0], pair[1]
		atServer, atClient, serr, cerr := call(t, to.ServerTLS(), from.ClientTLS(to.ID()))
		if serr != nil || cerr != nil {
			t.Fatalf("server %v, client %v", serr, cerr)
		}
		if id, ok := NodeOf(&atServer); !ok || id != from.ID() {
			t.Errorf("the server sees %q, %v", id, ok)
		}
		if id, ok := NodeOf(&atClient); !ok || id != to.ID() {
			t.Errorf("the client sees %q, %v", id, ok)
		}
		if atServer.Version != tls.VersionTLS13 {
			t.Errorf("version %x", atServer.Version)
		}
	}
	if id, ok := NodeOf(nil); ok {
		t.Errorf("nothing is node %q", id)
	}
	if id, ok := NodeOf(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{a.Certificate()}}); ok {
		t.Errorf("before the end of the handshake it is node %q", id)
	}
}

// with returns a copy of a client's or server's configuration that shows another certificate.
func with(c *tls.Config, key ed25519.PrivateKey, chain ...[]byte) *tls.Config {
	c = c.Clone()
	cert := &tls.Certificate{Certificate: chain, PrivateKey: key}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	return c
}

// sign makes a certificate from a template, signed by a key.
func sign(t *testing.T, template, parent *x509.Certificate, public ed25519.PublicKey, key ed25519.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Every certificate a stranger could show, shown to a server and to a client [I1] [I3].
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	host, member, gone := s.join(t), s.join(t), s.join(t)
	if _, err := s.a.Revoke(gone.ID()); err != nil {
		t.Fatal(err)
	}
	for _, b := range s.signer.RevocationStatements() {
		if news, err := host.Learn(b); err != nil || !news {
			t.Fatal(news, err)
		}
	}
	foreign := twin.join(t)
	stranger, err := Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self := *member.Certificate()
	self.PublicKey = publicOf(stranger.Key)
	named := *member.Certificate() // says it is member, for the key of somebody else
	renamed := *member.Certificate()
	renamed.URIs = []*url.URL{nameOf("plant", host.ID())}
	elsewhere := *member.Certificate()
	elsewhere.URIs = []*url.URL{nameOf("other", member.ID())}
	nameless := *member.Certificate()
	nameless.URIs = nil
	double := *member.Certificate()
	double.URIs = append(double.URIs, nameOf("plant", host.ID()))
	ca, caKey := s.a.ca, s.a.key
	for name, c := range map[string]struct {
		key   ed25519.PrivateKey
		chain [][]byte
		want  error
	}{
		"no certificate":                      {nil, nil, ErrPeer},
		"another cluster of the same name":    {foreign.node.Key, [][]byte{foreign.Certificate().Raw}, ErrPeer},
		"the same with its authority":         {foreign.node.Key, [][]byte{foreign.Certificate().Raw, twin.a.ca.Raw}, ErrPeer},
		"revoked":                             {gone.node.Key, [][]byte{gone.Certificate().Raw}, ErrRevoked},
		"signed by itself":                    {stranger.Key, [][]byte{sign(t, &named, &self, publicOf(stranger.Key), stranger.Key)}, ErrPeer},
		"signed by a member":                  {stranger.Key, [][]byte{sign(t, &named, member.Certificate(), publicOf(stranger.Key), member.node.Key), member.Certificate().Raw}, ErrPeer},
		"the authority's own certificate":     {caKey, [][]byte{ca.Raw}, ErrPeer},
		"certified with another's name":       {stranger.Key, [][]byte{sign(t, &named, ca, publicOf(stranger.Key), caKey)}, ErrPeer},
		"a member with another's name":        {member.node.Key, [][]byte{sign(t, &renamed, ca, publicOf(member.node.Key), caKey)}, ErrPeer},
		"certified for another cluster":       {member.node.Key, [][]byte{sign(t, &elsewhere, ca, publicOf(member.node.Key), caKey)}, ErrPeer},
		"certified without a name":            {member.node.Key, [][]byte{sign(t, &nameless, ca, publicOf(member.node.Key), caKey)}, ErrPeer},
		"certified with two names":            {member.node.Key, [][]byte{sign(t, &double, ca, publicOf(member.node.Key), caKey)}, ErrPeer},
		"a member's certificate, another key": {stranger.Key, [][]byte{member.Certificate().Raw}, nil},
	} {
		client := member.ClientTLS(host.ID())
		if c.key == nil {
			client.GetClientCertificate = nil
		} else {
			client = with(client, c.key, c.chain...)
		}
		if _, _, serr, cerr := call(t, host.ServerTLS(), client); serr == nil || cerr == nil || c.want != nil && !errors.Is(serr, c.want) {
			t.Errorf("%s: a server says %v, the client %v", name, serr, cerr)
		}
		if c.key == nil {
			continue // a server without a certificate cannot begin
		}
		for _, id := range []string{member.ID(), gone.ID(), foreign.ID(), host.ID(), of(stranger.Key).ID, ""} {
			if _, _, serr, cerr := call(t, with(member.ServerTLS(), c.key, c.chain...), host.ClientTLS(id)); serr == nil || cerr == nil {
				t.Errorf("%s: as a server it is taken for %q", name, id)
			}
		}
	}
}

// The node that answers is the one that was called [I1].
func TestAnotherMemberIsNotTheOneCalled(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b, c := s.join(t), s.join(t), s.join(t)
	for _, id := range []string{c.ID(), "", "signer.mayfly", s.signer.ID(), b.ID() + "a"} {
		if _, _, _, err := call(t, b.ServerTLS(), a.ClientTLS(id)); !errors.Is(err, ErrPeer) {
			t.Errorf("called %q and took %s: %v", id, b.ID(), err)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b := s.join(t), s.join(t)
	old := a.ClientTLS(b.ID())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, serr, cerr := call(t, b.ServerTLS(), old); serr == nil || cerr == nil {
		t.Errorf("TLS 1.2: server %v, client %v", serr, cerr)
	}
	old = b.ServerTLS()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, serr, cerr := call(t, old, a.ClientTLS(b.ID())); serr == nil || cerr == nil {
		t.Errorf("TLS 1.2: server %v, client %v", serr, cerr)
	}
}

// A certificate ends by the clock of who looks at it; one in force before the look does not.
func TestExpiry(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b := s.join(t), s.join(t)
	for after, want := range map[time.Duration]bool{
		0: true, -12 * time.Hour: true, CertificateLife: true, CertificateLife + time.Second: false, 20 * 365 * 24 * time.Hour: false,
	} {
		b.clock.set(today().Add(after))
		_, _, serr, cerr := call(t, b.ServerTLS(), a.ClientTLS(b.ID()))
		if got := serr == nil; got != want || got != (cerr == nil) || !want && !errors.Is(serr, ErrExpired) {
			t.Errorf("the server %s later: server %v, client %v", after, serr, cerr)
		}
		_, _, _, cerr = call(t, a.ServerTLS(), b.ClientTLS(a.ID()))
		if got := cerr == nil; got != want || !want && !errors.Is(cerr, ErrExpired) {
			t.Errorf("the client %s later: %v", after, cerr)
		}
	}
}

// New handshakes use the new certificate, and obey a revocation, without anybody making new configurations.
func TestConfigurationsFollowTheMembership(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b := s.join(t), s.join(t)
	server, client := b.ServerTLS(), a.ClientTLS(b.ID())
	before, _, serr, cerr := call(t, server, client)
	if serr != nil || cerr != nil {
		t.Fatal(serr, cerr)
	}
	for _, d := range []*device{s.signer, a, b} {
		d.clock.add(CertificateLife * 3 / 4)
		if !d.RenewalDue() {
			t.Error("three quarters of its life are over, and no renewal is due")
		}
	}
	for _, d := range []*device{a, b} {
		renew(t, s, d)
	}
	for _, d := range []*device{a, b} {
		d.clock.add(CertificateLife / 2)
	}
	after, _, serr, cerr := call(t, server, client)
	if serr != nil || cerr != nil {
		t.Fatal(serr, cerr)
	}
	if before.PeerCertificates[0].Equal(after.PeerCertificates[0]) {
		t.Error("the old certificate is still shown")
	}
	b.learn(t, s.revoke(t, a))
	if _, _, serr, _ := call(t, server, client); !errors.Is(serr, ErrRevoked) {
		t.Errorf("revoked, and the server says %v", serr)
	}
	if !b.Revoked(a.ID()) || b.Revoked(b.ID()) {
		t.Error("it is not known who was revoked")
	}
}

func (s *site) revoke(t *testing.T, d *device) []byte {
	t.Helper()
	statement, err := s.a.Revoke(d.ID())
	if err != nil {
		t.Fatal(err)
	}
	return statement
}

func (d *device) learn(t *testing.T, statement []byte) {
	t.Helper()
	if news, err := d.Learn(statement); err != nil || !news {
		t.Fatalf("news %v, %v", news, err)
	}
}

// renew is what a node and a signer do over the network; it returns what went wrong at the signer.
func renewal(t *testing.T, s *site, d *device) error {
	t.Helper()
	atServer, _, serr, cerr := call(t, s.a.ServerTLS(), d.SignerTLS())
	if serr != nil || cerr != nil {
		return errors.Join(serr, cerr)
	}
	id, ok := RenewerOf(&atServer)
	if _, member := NodeOf(&atServer); !ok || id != d.ID() || member || !Joining(&atServer) {
		return fmt.Errorf("the signer sees %q, %v, %v", id, ok, member)
	}
	csr, err := d.RenewalRequest()
	if err != nil {
		return err
	}
	g, err := s.a.Renew(id, csr)
	if err != nil {
		return err
	}
	return d.Renewed(g)
}

func renew(t *testing.T, s *site, d *device) {
	t.Helper()
	if err := renewal(t, s, d); err != nil {
		t.Fatal(err)
	}
	if d.RenewalDue() {
		t.Error("renewal is due right after it")
	}
}

// A device with a clock at any time, and a device that lay in a drawer [I4].
func TestClocks(t *testing.T) {
	t.Parallel()
	boot := time.Unix(30, 0) // no battery: 1970
	for name, c := range map[string]struct {
		device time.Time // its clock; zero = right
		away   time.Duration
		calls  bool // it gets through to another member and back without renewing
		renews error
	}{
		"right":                            {time.Time{}, 0, true, nil},
		"1970":                             {boot, 0, true, nil},
		"1970, its certificate is old":     {boot, CertificateLife + time.Hour, false, nil},
		"the last shutdown":                {today().Add(time.Hour), 29 * 24 * time.Hour, true, nil},
		"away for a while":                 {time.Time{}, CertificateLife + time.Hour, false, nil},
		"away for 180 days":                {time.Time{}, CertificateLife + RenewalGrace, false, nil},
		"away for longer":                  {time.Time{}, CertificateLife + RenewalGrace + time.Second, false, ErrExpired},
		"1970 and away for longer":         {boot, CertificateLife + RenewalGrace + time.Second, false, ErrExpired},
		"the battery died, and it is 2099": {time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), 0, false, ErrExpired},
	} {
		s := newSite(t, "plant")
		d := s.join(t)
		s.signer.clock.add(c.away)
		d.clock.add(c.away)
		if err := s.a.RenewOwn(); err != nil {
			t.Fatal(err)
		}
		peer := s.join(t)
		if !c.device.IsZero() {
			d.clock.set(c.device)
		}
		d.open(t)
		_, _, serr, cerr := call(t, peer.ServerTLS(), d.ClientTLS(peer.ID()))
		_, _, serr2, cerr2 := call(t, d.ServerTLS(), peer.ClientTLS(d.ID()))
		if err := errors.Join(serr, cerr, serr2, cerr2); (err == nil) != c.calls {
			t.Errorf("%s: %v", name, err)
		}
		if c.device.IsZero() && c.away == 0 {
			continue
		}
		if err := renewal(t, s, d); !errors.Is(err, c.renews) {
			t.Errorf("%s: renewal: %v", name, err)
		} else if err == nil {
			if _, _, serr, cerr := call(t, peer.ServerTLS(), d.ClientTLS(peer.ID())); serr != nil || cerr != nil {
				t.Errorf("%s: renewed, and still %v, %v", name, serr, cerr)
			}
		}
	}
}

// A clock that is never set does not tell when renewal is due: it is after each start, and then every so often [I4].
func TestRenewalWithoutAClock(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	d.clock.set(time.Unix(30, 0))
	d.open(t)
	for range 2 {
		if !d.RenewalDue() {
			t.Error("not due")
		}
		renew(t, s, d)
		d.clock.add(CertificateLife / 2)
		if d.RenewalDue() {
			t.Error("due after half of its life")
		}
		d.clock.add(CertificateLife / 4)
	}
	// Issued while the signer's clock was far ahead: its end says nothing.
	s.signer.clock.add(10 * 365 * 24 * time.Hour)
	if err := s.a.RenewOwn(); err != nil {
		t.Fatal(err)
	}
	csr, err := d.RenewalRequest()
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.a.Renew(d.ID(), csr)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Renewed(g); err != nil {
		t.Fatal(err)
	}
	d.clock.set(today().Add(time.Hour))
	d.open(t)
	if !d.RenewalDue() {
		t.Error("a certificate from the future is kept")
	}
	other := s.join(t)
	other.clock.set(today().Add(time.Hour))
	if _, _, serr, cerr := call(t, other.ServerTLS(), d.ClientTLS(other.ID())); serr != nil || cerr != nil {
		t.Errorf("certificates from the future: %v, %v", serr, cerr)
	}
}

// A joining node tells its secret to a signer of the right cluster and to nobody else, whoever is in between [I2].
func TestOnlyTheSignerHearsTheSecret(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	member := s.join(t)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	posing := func(m *Membership, chain ...[]byte) *tls.Config {
		c := with(m.ServerTLS(), m.node.Key, chain...)
		c.VerifyConnection, c.ClientAuth = nil, tls.NoClientCert
		return c
	}
	mine, ca, other := member.Certificate().Raw, s.a.ca.Raw, twin.a.ca.Raw
	named := *s.signer.Certificate()
	forged := sign(t, &named, member.Certificate(), publicOf(member.node.Key), member.node.Key)
	expired := s.a.ServerTLS()
	for name, server := range map[string]*tls.Config{
		"a member":                           posing(member.Membership, mine, ca),
		"a member that certified itself":     posing(member.Membership, forged, mine, ca),
		"another signer":                     twin.a.ServerTLS(),
		"another signer with our authority":  posing(twin.signer.Membership, twin.signer.Certificate().Raw, ca),
		"our signer without its authority":   posing(s.signer.Membership, s.signer.Certificate().Raw),
		"our signer, from another authority": posing(s.signer.Membership, s.signer.Certificate().Raw, other),
		"the authority's bare certificate":   with(posing(member.Membership, mine), s.a.key, ca, ca),
	} {
		if _, _, _, err := call(t, server, token.TLS(today)); !errors.Is(err, ErrPeer) {
			t.Errorf("%s hears the secret: %v", name, err)
		}
	}
	late := func() time.Time { return today().Add(CertificateLife + time.Minute) }
	if _, _, _, err := call(t, expired, token.TLS(late)); !errors.Is(err, ErrExpired) {
		t.Errorf("a signer that expired: %v", err)
	}
	for _, clock := range []func() time.Time{today, func() time.Time { return time.Unix(0, 0) }} {
		atServer, _, serr, cerr := call(t, s.a.ServerTLS(), token.TLS(clock))
		if serr != nil || cerr != nil {
			t.Fatal(serr, cerr)
		}
		if id, ok := NodeOf(&atServer); ok || !Joining(&atServer) {
			t.Errorf("who joins is node %q", id)
		}
		if id, ok := RenewerOf(&atServer); ok {
			t.Errorf("who joins renews as %q", id)
		}
	}
}

// Only a signer has a door for those without a certificate, and nothing else is behind it [I3].
func TestTheSignersDoor(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	member, gone := s.join(t), s.join(t)
	s.revoke(t, gone)
	asking := func(server string, d *device) *tls.Config {
		c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: server, InsecureSkipVerify: true}
		if d != nil {
			c = with(c, d.node.Key, d.Certificate().Raw)
		}
		return c
	}
	for name, c := range map[string]struct {
		server, client *tls.Config
		want           bool
	}{
		"joining at a signer":             {s.a.ServerTLS(), asking(signerName, nil), true},
		"joining at a member":             {member.ServerTLS(), asking(signerName, nil), false},
		"renewing at a member":            {member.ServerTLS(), asking(signerName, member), false},
		"a call without a certificate":    {s.a.ServerTLS(), asking(s.signer.ID(), nil), false},
		"a call without a server's name":  {s.a.ServerTLS(), asking("", nil), false},
		"a revoked node renewing":         {s.a.ServerTLS(), asking(signerName, gone), false},
		"a call, the signer's own door":   {s.signer.ServerTLS(), asking(signerName, nil), false},
		"a member calling without a name": {s.a.ServerTLS(), asking("", member), true},
	} {
		if _, _, serr, _ := call(t, c.server, c.client); (serr == nil) != c.want {
			t.Errorf("%s: %v", name, serr)
		}
	}
}

// A clock that is behind does not say that renewal is due; the certificates of others do [I4].
func TestRenewalByAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	for _, c := range []struct {
		passed time.Duration
		due    bool
	}{{time.Hour, false}, {CertificateLife / 2, false}, {CertificateLife / 2, true}} {
		s.signer.clock.add(c.passed)
		if err := s.a.RenewOwn(); err != nil {
			t.Fatal(err)
		}
		if d.RenewalDue() {
			t.Error("due before anybody was met")
		}
		if _, _, _, err := call(t, s.a.ServerTLS(), d.ClientTLS(s.signer.ID())); (err != nil) != c.due {
			t.Errorf("after %s: %v", c.passed, err)
		}
		if d.RenewalDue() != c.due {
			t.Errorf("after %s due: %v", c.passed, !c.due)
		}
	}
	renew(t, s, d)
}

// A clock that is not set does not make good again what had ended when this node's own certificate was issued [I4].
func TestWhatHadEndedStaysEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	old := s.join(t)
	s.signer.clock.add(CertificateLife + time.Hour)
	d := s.join(t)
	d.clock.set(time.Unix(30, 0))
	if _, _, serr, _ := call(t, d.ServerTLS(), old.ClientTLS(d.ID())); !errors.Is(serr, ErrExpired) {
		t.Errorf("server: %v", serr)
	}
	if _, _, _, cerr := call(t, old.ServerTLS(), d.ClientTLS(old.ID())); !errors.Is(cerr, ErrExpired) {
		t.Errorf("client: %v", cerr)
	}
}

// Handshakes, readers and changes at the same time do not disturb each other.
func TestChangesWhileInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b := s.join(t), s.join(t)
	server, client := b.ServerTLS(), a.ClientTLS(b.ID())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			for _, step := range []func() ([]byte, error){s.a.StageKey, s.a.UseKey} {
				statement, err := step()
				if err == nil {
					_, err = a.Learn(statement)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if _, _, serr, cerr := call(t, server, client); serr != nil || cerr != nil {
			t.Fatal(serr, cerr)
		}
		if k := a.Keys(); len(k.At(today())) == 0 || a.Revoked(b.ID()) || a.Trust().Development() {
			t.Error("in between there is nothing")
		}
	}
	if a.Keys().Epoch != 41 {
		t.Errorf("epoch %d", a.Keys().Epoch)
	}
}

// The configurations do for HTTP/2 over a real network what they do alone.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	a, b := s.join(t), s.join(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: b.ServerTLS(), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := NodeOf(r.TLS)
		_, _ = fmt.Fprint(w, r.Proto, " ", id)
	})}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	transport := &http.Transport{TLSClientConfig: a.ClientTLS(b.ID()), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || string(text) != "HTTP/2.0 "+a.ID() {
		t.Errorf("%q, %v", text, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
