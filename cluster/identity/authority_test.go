package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mayfly/internal/durable"
)

// A token that was stolen is worth nothing once it is used; who used it may ask again [I2].
func TestStolenTokenIsWorthNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	owner, thief := newDevice(t), newDevice(t)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1, Name: "press-4", Labels: []string{"gpio", "zone=hall"}})
	for range 3 {
		g, err := s.admit(t, owner, token)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Join(owner.dir, owner.node, token, g, owner.clock.now)
		if err != nil {
			t.Fatal(err)
		}
		if name, labels := m.Named(); name != "press-4" || !slices.Equal(labels, []string{"gpio", "zone=hall"}) || m.Cluster() != "plant" {
			t.Errorf("it is called %q, %q", name, labels)
		}
		if _, err := s.admit(t, thief, token); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "spent") {
			t.Errorf("the thief: %v", err)
		}
		s.restart(t)
	}
	info := s.a.Tokens()
	if len(info) != 1 || info[0].ID != token.ID() || !slices.Equal(info[0].Admitted, []string{owner.node.ID}) || info[0].Uses != 1 {
		t.Errorf("tokens: %+v", info)
	}
	s.signer.clock.add(time.Hour)
	if _, err := s.admit(t, owner, token); !errors.Is(err, ErrToken) {
		t.Errorf("at its end: %v", err)
	}
}

// The signer dies after it counted and before it granted: whoever was counted gets his grant, nobody else does [I2].
func TestDeathBetweenCountAndGrant(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d, other := newDevice(t), newDevice(t)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	if _, err := s.a.count(token.id, publicOf(d.node.Key), today()); err != nil {
		t.Fatal(err)
	}
	s.restart(t)
	if _, err := s.admit(t, other, token); !errors.Is(err, ErrToken) {
		t.Errorf("another gets the use of who was counted: %v", err)
	}
	g, err := s.admit(t, d, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(d.dir, d.node, token, g, d.clock.now); err != nil {
		t.Error(err)
	}
}

// What cannot be counted is not granted [I2].
func TestNothingIsGrantedThatCouldNotBeCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := newDevice(t)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	if err := os.Rename(s.signer.dir, s.signer.dir+".away"); err != nil { // the disk fails
		t.Fatal(err)
	}
	if g, err := s.admit(t, d, token); err == nil || g.Certificate != nil || errors.Is(err, ErrToken) {
		t.Errorf("granted without a disk: %v", err)
	}
	if _, err := s.a.CreateToken(TokenOptions{TTL: time.Hour, Uses: 1}); err == nil {
		t.Error("a token that is nowhere")
	}
	if _, err := s.a.Revoke(d.node.ID); err == nil || s.signer.Revoked(d.node.ID) {
		t.Error("a revocation that is nowhere")
	}
	if err := os.Rename(s.signer.dir+".away", s.signer.dir); err != nil {
		t.Fatal(err)
	}
	if got := s.a.Tokens(); len(got) != 1 || got[0].Admitted != nil {
		t.Errorf("tokens: %+v", got)
	}
	if _, err := s.admit(t, newDevice(t), token); err != nil {
		t.Errorf("the use was lost to somebody who got nothing: %v", err)
	}
}

// However many ask at once, however often, and whenever the signer starts again: no more nodes join than the token has uses [I2].
func TestUsesAreNeverExceeded(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	var nodes []*device
	for range 8 {
		nodes = append(nodes, newDevice(t))
	}
	rapid.Check(t, func(r *rapid.T) {
		uses := rapid.IntRange(1, 4).Draw(r, "uses")
		token, err := s.a.CreateToken(TokenOptions{TTL: time.Hour, Uses: uses})
		if err != nil {
			r.Fatal(err)
		}
		admitted := map[string]bool{}
		for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(nodes)-1), 1, 12).Draw(r, "who") {
			if i < 0 {
				s.restart(t)
				continue
			}
			_, err := s.admit(t, nodes[i], token)
			id := nodes[i].node.ID
			if want := admitted[id] || len(admitted) < uses; want != (err == nil) {
				r.Fatalf("%d of %d uses are spent, this node's among them %v: %v", len(admitted), uses, admitted[id], err)
			}
			if err == nil {
				admitted[id] = true
			}
		}
		if err := s.a.RevokeToken(token.ID()); err != nil {
			r.Fatal(err)
		}
		if _, err := s.admit(t, nodes[0], token); !errors.Is(err, ErrToken) {
			r.Fatalf("a revoked token: %v", err)
		}
	})
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 3})
	var wg sync.WaitGroup
	got := make([]bool, len(nodes))
	for i, d := range nodes {
		wg.Go(func() {
			_, err := s.admit(t, d, token)
			got[i] = err == nil
		})
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(got, func(ok bool) bool { return !ok })); n != 3 {
		t.Errorf("%d joined at once with 3 uses", n)
	}
}

func TestAdmitRefuses(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	d, gone := newDevice(t), s.join(t)
	s.revoke(t, gone)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 9})
	spent := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	if err := s.a.RevokeToken(spent.ID()); err != nil {
		t.Fatal(err)
	}
	if err := s.a.RevokeToken(spent.ID()); err == nil {
		t.Error("a token was revoked twice")
	}
	good, err := token.Request(d.node)
	if err != nil {
		t.Fatal(err)
	}
	guess := token
	guess.secret = make([]byte, secretSize)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p256)
	if err != nil {
		t.Fatal(err)
	}
	tampered := slices.Clone(good.CSR)
	tampered[len(tampered)-1] ^= 1
	revoked, err := request(gone.node)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		csr   []byte
		want  error
	}{
		"a wrong secret":       {guess.Text(), good.CSR, ErrToken},
		"another's token":      {twin.token(t, TokenOptions{TTL: time.Hour, Uses: 1}).Text(), good.CSR, ErrToken},
		"a revoked token":      {spent.Text(), good.CSR, ErrToken},
		"no token":             {"", good.CSR, ErrToken},
		"no request":           {token.Text(), nil, ErrRequest},
		"a request cut short":  {token.Text(), good.CSR[:40], ErrRequest},
		"a tampered request":   {token.Text(), tampered, ErrRequest},
		"another kind of key":  {token.Text(), other, ErrRequest},
		"a request too large":  {token.Text(), make([]byte, maxRequest+1), ErrRequest},
		"the key of a revoked": {token.Text(), revoked, ErrRevoked},
	} {
		if g, err := s.a.Admit(JoinRequest{c.token, c.csr}); !errors.Is(err, c.want) || g.Certificate != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, info := range s.a.Tokens() {
		if info.Admitted != nil && info.ID == token.ID() {
			t.Errorf("a refusal was counted: %+v", info)
		}
	}
	s.signer.clock.set(time.Unix(60, 0))
	if _, err := s.a.Admit(good); !errors.Is(err, ErrClock) {
		t.Errorf("a signer in 1970: %v", err)
	}
	if _, err := s.a.CreateToken(TokenOptions{TTL: time.Hour, Uses: 1}); !errors.Is(err, ErrClock) {
		t.Errorf("a signer in 1970: %v", err)
	}
	if err := s.a.RenewOwn(); !errors.Is(err, ErrClock) {
		t.Errorf("a signer in 1970: %v", err)
	}
}

// Whatever a request asks for, the certificate names its key, and makes nobody a signer or an authority [I1].
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	victim, d := s.join(t), newDevice(t)
	forged, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: victim.ID(), OrganizationalUnit: []string{signerUnit}},
		URIs:            []*url.URL{nameOf("plant", victim.ID())},
		DNSNames:        []string{"signer.mayfly"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}, // a certificate authority
	}, d.node.Key)
	if err != nil {
		t.Fatal(err)
	}
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	g, err := s.a.Admit(JoinRequest{token.Text(), forged})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(g.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if _, id, ok := claimed(cert); !ok || id != d.node.ID || cert.IsCA || isSigner(cert) || cert.DNSNames != nil || cert.Subject.CommonName != id {
		t.Errorf("certified %v as %v", cert.Subject, cert.URIs)
	}
	if _, err := s.a.Renew(victim.ID(), forged); !errors.Is(err, ErrRequest) {
		t.Errorf("renewed another's certificate: %v", err)
	}
}

func TestFailedAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := newDevice(t)
	token, second := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1}), s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})
	guess := token
	guess.secret = make([]byte, secretSize)
	unknown := guess
	unknown.id = "aaaaaaaa"
	for _, wrong := range []Token{guess, unknown} {
		for i := range 3 * maxFailed {
			want := ErrToken
			if i >= maxFailed {
				want = ErrAttempts
			}
			if _, err := s.admit(t, d, wrong); !errors.Is(err, want) {
				t.Fatalf("attempt %d: %v", i, err)
			}
		}
	}
	if _, err := s.admit(t, d, token); !errors.Is(err, ErrAttempts) {
		t.Errorf("the right secret tells itself from the wrong ones: %v", err)
	}
	if _, err := s.admit(t, d, second); err != nil {
		t.Errorf("another token suffers: %v", err)
	}
	s.signer.clock.add(time.Minute)
	if _, err := s.admit(t, d, token); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	if len(s.a.failed) > 2 {
		t.Errorf("%d tokens are remembered", len(s.a.failed))
	}
}

func TestTokenOptions(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	for _, o := range []TokenOptions{
		{},
		{TTL: time.Hour},
		{Uses: 1},
		{TTL: -time.Hour, Uses: 1},
		{TTL: time.Hour, Uses: -1},
		{TTL: time.Hour, Uses: maxUses + 1},
		{TTL: 2 * maxTokenTTL, Uses: 1},
		{TTL: time.Hour, Uses: 2, Name: "press"},
		{TTL: time.Hour, Uses: 1, Name: "a press"},
		{TTL: time.Hour, Uses: 1, Labels: []string{""}},
		{TTL: time.Hour, Uses: 1, Labels: []string{"a|b"}},
		{TTL: time.Hour, Uses: 1, Labels: make([]string, maxLabels+1)},
		{TTL: time.Hour, Uses: 1, Labels: []string{strings.Repeat("x", maxLabel+1)}},
	} {
		if token, err := s.a.CreateToken(o); err == nil {
			t.Errorf("%+v made %s", o, token)
		}
	}
	token := s.token(t, TokenOptions{TTL: time.Minute, Uses: maxUses})
	text, err := os.ReadFile(filepath.Join(s.signer.dir, tokensFile))
	if err != nil || strings.Contains(string(text), spell(token.secret)) || !strings.Contains(string(text), token.ID()) {
		t.Errorf("on disk: %s, %v", text, err)
	}
	if strings.Contains(token.String(), spell(token.secret)) || !strings.Contains(token.Text(), token.String()[len(tokenPrefix):]) {
		t.Errorf("%s is printed as %s", token.Text(), token)
	}
	if again, err := ParseToken(" " + strings.ToUpper(token.Text()) + "\n"); err != nil || again.Text() != token.Text() {
		t.Errorf("%s reads as %s, %v", token.Text(), again.Text(), err)
	}
	s.signer.clock.add(keepExpired + 2*time.Minute)
	if s.token(t, TokenOptions{TTL: time.Minute, Uses: 1}); len(s.a.Tokens()) != 1 {
		t.Errorf("expired tokens are kept: %+v", s.a.Tokens())
	}
}

func TestRevokeRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	for _, id := range []string{"", "nobody", s.signer.ID(), strings.ToUpper(newDevice(t).node.ID), "../../etc/passwd"} {
		if _, err := s.a.Revoke(id); err == nil {
			t.Errorf("revoked %q", id)
		}
	}
	d := s.join(t)
	s.revoke(t, d)
	if err := renewal(t, s, d); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked node renews: %v", err)
	}
	csr, err := d.RenewalRequest()
	if err != nil {
		t.Fatal(err)
	}
	if g, err := s.a.Renew(d.ID(), csr); !errors.Is(err, ErrRevoked) || g.Keys != nil {
		t.Errorf("a connection older than the revocation: %v", err)
	}
	if _, err := s.admit(t, d, s.token(t, TokenOptions{TTL: time.Hour, Uses: 1})); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked node joins again: %v", err)
	}
}

// Found dies after any of its files: it can be repeated, and the authority stays the same.
func TestFoundIsRepeatable(t *testing.T) {
	t.Parallel()
	whole := newSite(t, "plant")
	for name, lost := range map[string][]string{
		"before the membership":     {joinedFile, membershipFile},
		"before the operator's key": {joinedFile, membershipFile, OperatorFile},
		"before anything":           {joinedFile, membershipFile, OperatorFile, AuthorityFile},
	} {
		d := newDevice(t)
		if err := os.CopyFS(d.dir, os.DirFS(whole.signer.dir)); err != nil {
			t.Fatal(err)
		}
		for _, f := range lost {
			if err := os.Remove(filepath.Join(d.dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if len(lost) < 4 {
			if _, err := Found(d.dir, d.node, "other", d.clock.now); err == nil {
				t.Errorf("%s: founded another cluster with the same authority", name)
			}
		}
		m, err := Found(d.dir, d.node, "plant", d.clock.now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if same := slices.Equal(m.now.Load().grant.CA, whole.a.ca.Raw); same != (len(lost) < 4) {
			t.Errorf("%s: same authority %v", name, same)
		}
		if _, err := OpenAuthority(d.dir, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		o, err := LoadOperator(filepath.Join(d.dir, OperatorFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Trust().Verify([]byte("deploy"), o.Sign("plant", []byte("deploy"))); err != nil {
			t.Errorf("%s: the founder's orders: %v", name, err)
		}
	}
}

func TestFoundRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Plant", "a b", "-a", "a-", "a..b", ".", "a/b", "a:1", "ä", strings.Repeat("a", 64)} {
		d := newDevice(t)
		if _, err := Found(d.dir, d.node, name, d.clock.now); err == nil {
			t.Errorf("founded %q", name)
		}
		if _, err := os.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q left something: %v", name, err)
		}
	}
	d := newDevice(t)
	d.clock.set(time.Unix(0, 0))
	if _, err := Found(d.dir, d.node, "plant", d.clock.now); !errors.Is(err, ErrClock) {
		t.Errorf("founded in 1970: %v", err)
	}
	s := newSite(t, "7.plant-x.3")
	if _, err := Found(s.signer.dir, s.signer.node, "plant", s.signer.clock.now); !errors.Is(err, ErrMember) {
		t.Errorf("founded twice: %v", err)
	}
	if err := Leave(s.signer.dir); err == nil {
		t.Error("the signer left")
	}
	entries, err := os.ReadDir(s.signer.dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(s.signer.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

// The authority's file, copied to a member, makes it a signer; anywhere else it does nothing.
func TestSecondSigner(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	d, foreign := s.join(t), twin.join(t)
	if _, err := OpenAuthority(d.dir, d.Membership); !errors.Is(err, ErrNotSigner) {
		t.Errorf("without the file: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(s.signer.dir, AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []*device{d, foreign} {
		if err := durable.Write(filepath.Join(to.dir, AuthorityFile), text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenAuthority(foreign.dir, foreign.Membership); err == nil {
		t.Error("a signer with the authority of another cluster")
	}
	a, err := OpenAuthority(d.dir, d.Membership)
	if err != nil {
		t.Fatal(err)
	}
	second := &site{signer: d, a: a}
	joined := second.join(t)
	if _, _, serr, cerr := call(t, s.signer.ServerTLS(), joined.ClientTLS(s.signer.ID())); serr != nil || cerr != nil {
		t.Errorf("admitted by the second, refused by the first: %v, %v", serr, cerr)
	}
	renew(t, second, s.join(t))
	text[len(text)-3] ^= 1
	if err := durable.Write(filepath.Join(d.dir, AuthorityFile), text); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(d.dir, d.Membership); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}
