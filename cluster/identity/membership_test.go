package identity

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMembershipSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d, gone := s.join(t), s.join(t)
	d.learn(t, s.revoke(t, gone))
	staged, err := s.a.StageKey()
	if err != nil {
		t.Fatal(err)
	}
	d.learn(t, staged)
	d.clock.add(CertificateLife * 3 / 4)
	s.signer.clock.add(CertificateLife * 3 / 4)
	if err := s.a.RenewOwn(); err != nil {
		t.Fatal(err)
	}
	renew(t, s, d)
	before := d.Membership
	d.open(t)
	if !d.Certificate().Equal(before.Certificate()) || !bytes.Equal(d.Keys().encode(), before.Keys().encode()) || d.Keys().Epoch != 2 ||
		d.Cluster() != "plant" || d.ID() != before.ID() || !bytes.Equal(d.TrustStatement(), s.signer.TrustStatement()) {
		t.Error("it is not what it was")
	}
	if got := d.Revocations(); len(got) != 1 || got[0].Node != gone.ID() || !got[0].At.Equal(today()) {
		t.Errorf("revocations: %+v", got)
	}
}

// Whatever happened to the file, it is as it was or refused; nothing in between is believed.
func TestDamagedMembershipIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	path := filepath.Join(d.dir, membershipFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d.dir, d.node, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := 0; i < len(whole); i += 7 {
		flipped := slices.Clone(whole)
		flipped[i] ^= 1 << (i % 8)
		refused("a flipped bit", flipped)
		refused("a torn file", whole[:i])
	}
	refused("zeros", make([]byte, len(whole)))
	refused("more", append(slices.Clone(whole), 0))
	refused("far more", append(slices.Clone(whole), make([]byte, maxFile)...))
	tokens, err := seal(tokensWhat, map[string]tokenRecord{})
	if err != nil {
		t.Fatal(err)
	}
	refused("another file", tokens)

	// A new token makes it whole again, and it stays a node of the same id.
	s.admitted(t, d)
	d.open(t)
	if err := Leave(d.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.dir, d.node, nil); !errors.Is(err, ErrNoCluster) {
		t.Errorf("after leaving: %v", err)
	}
	if err := Leave(d.dir); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
}

// A membership fits one node key, and Join replaces it only by one that fits.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	d, other := newDevice(t), newDevice(t)
	token := s.token(t, TokenOptions{TTL: time.Hour, Uses: 9})
	g, err := s.admit(t, d, token)
	if err != nil {
		t.Fatal(err)
	}
	foreign := twin.token(t, TokenOptions{TTL: time.Hour, Uses: 9})
	alien, err := twin.admit(t, d, foreign)
	if err != nil {
		t.Fatal(err)
	}
	altered := func(change func(*Grant)) Grant { c := g; change(&c); return c }
	for name, bad := range map[string]Grant{
		"empty":                       {},
		"of another cluster":          alien,
		"without keys":                altered(func(c *Grant) { c.Keys = nil }),
		"another cluster's keys":      altered(func(c *Grant) { c.Keys = alien.Keys }),
		"another cluster's operators": altered(func(c *Grant) { c.Trust = alien.Trust }),
		"keys for operators":          altered(func(c *Grant) { c.Trust = c.Keys }),
		"operators for a revocation":  altered(func(c *Grant) { c.Revocations = [][]byte{c.Trust} }),
		"another certificate":         altered(func(c *Grant) { c.Certificate = alien.Certificate }),
		"the signer's certificate":    altered(func(c *Grant) { c.Certificate = s.signer.Certificate().Raw }),
		"another name":                altered(func(c *Grant) { c.Cluster = "other" }),
		"a later format":              altered(func(c *Grant) { c.Format++ }),
		"a label with a space":        altered(func(c *Grant) { c.Labels = []string{"a b"} }),
	} {
		if _, err := Join(d.dir, d.node, token, bad, nil); err == nil {
			t.Errorf("joined with a grant %s", name)
		}
	}
	if _, err := Join(other.dir, other.node, token, g, nil); err == nil {
		t.Error("joined with another's grant")
	}
	if _, err := Join(d.dir, d.node, token, g, d.clock.now); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(d.dir, d.node, foreign, alien, nil); err == nil {
		t.Error("a member of one cluster joined another")
	}
	if _, err := Open(d.dir, other.node, nil); err == nil {
		t.Error("another node has this membership")
	}
	d.open(t)
	if err := d.Renewed(alien); !errors.Is(err, ErrPeer) {
		t.Errorf("renewed by another cluster: %v", err)
	}

	// Another token says other things of it.
	again := s.token(t, TokenOptions{TTL: time.Hour, Uses: 1, Name: "press-5"})
	if g, err = s.admit(t, d, again); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(d.dir, d.node, again, g, d.clock.now); err != nil {
		t.Fatal(err)
	}
	d.open(t)
	if name, labels := d.Named(); name != "press-5" || labels != nil || !bytes.Equal(d.Certificate().Raw, g.Certificate) {
		t.Errorf("joined again as %q, %q", name, labels)
	}

	// The key is a new one, after a revocation: the former membership is in nobody's way.
	if g, err = s.admit(t, other, token); err != nil {
		t.Fatal(err)
	}
	if m, err := Join(d.dir, other.node, token, g, d.clock.now); err != nil || m.ID() != other.node.ID {
		t.Errorf("with a new key: %v", err)
	}
}

// Statements may arrive in any order, any number of times, over restarts: all members end up the same [I3].
func TestStatementsAddUpInAnyOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	var said [][]byte
	keep := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, b)
	}
	o, err := GenerateOperator()
	if err != nil {
		t.Fatal(err)
	}
	keep(s.a.StageKey())
	keep(s.a.Revoke(newDevice(t).node.ID))
	keep(s.a.UseKey())
	keep(s.a.SetTrust(1, o.Public()))
	keep(s.a.StageKey())
	keep(s.a.Revoke(newDevice(t).node.ID))
	keep(s.a.UseKey())
	keep(s.a.DropOldKey())
	keep(s.a.SetTrust(1))
	// Two signers took the same step at the same time.
	keep(say(s.a.key, aboutKeys, "plant", s.signer.Keys().stage().encode()), nil)
	keep(say(s.a.key, aboutKeys, "plant", s.signer.Keys().stage().encode()), nil)
	keep(say(s.a.key, aboutTrust, "plant", Trust{Epoch: 3, Threshold: 1, Keys: []OperatorKey{o.Public()}}.encode()), nil)

	first := s.signer.now.Load().grant
	first.Keys, first.Trust, first.Revocations = firstKeys(s), firstTrust(s, o), nil
	var want string
	rapid.Check(t, func(r *rapid.T) {
		m, err := check(first, s.signer.node)
		if err != nil {
			r.Fatal(err)
		}
		order := rapid.Permutation(append(slices.Clone(said), said[:4]...)).Draw(r, "order")
		restart := rapid.IntRange(0, len(order)-1).Draw(r, "restart")
		for i, b := range order {
			if m, _, err = m.merge(b); err != nil {
				r.Fatal(err)
			}
			if same, news, err := m.merge(b); news || err != nil || same != m {
				r.Fatalf("the same is news again: %v, %v", news, err)
			}
			if i != restart {
				continue
			}
			if m, err = check(m.grant, s.signer.node); err != nil {
				r.Fatal(err)
			}
		}
		got := string(m.grant.Keys) + string(m.grant.Trust) + strings.Join(slices.Sorted(maps.Keys(m.revoked)), " ")
		if want == "" {
			want = got
		}
		if got != want || len(m.revoked) != 2 || len(m.grant.Revocations) != 2 {
			r.Fatal("another order, another result")
		}
	})
}

func firstKeys(s *site) []byte {
	return say(s.a.key, aboutKeys, "plant", Keys{Epoch: 1, Used: today(), Current: make([]byte, gossipKeySize)}.encode())
}

func firstTrust(s *site, o Operator) []byte {
	return say(s.a.key, aboutTrust, "plant", Trust{Epoch: 1, Threshold: 1, Keys: []OperatorKey{o.Public()}}.encode())
}

// Nobody but the authority says anything, and what it said for another cluster or about something else does not count [I3].
func TestForgedStatementsAreRefused(t *testing.T) {
	t.Parallel()
	s, twin := newSite(t, "plant"), newSite(t, "plant")
	d, victim := s.join(t), s.join(t)
	body := Revocation{victim.ID(), today()}.encode()
	genuine := say(s.a.key, aboutRevocation, "plant", body)
	moved := slices.Clone(genuine)
	moved[1] = byte(aboutTrust)
	for name, b := range map[string][]byte{
		"empty":                  nil,
		"by a member":            say(d.node.Key, aboutRevocation, "plant", body),
		"by another authority":   say(twin.a.key, aboutRevocation, "plant", body),
		"for another cluster":    say(s.a.key, aboutRevocation, "other", body),
		"about something else":   moved,
		"about nothing known":    say(s.a.key, 9, "plant", body),
		"with more behind":       append(slices.Clone(genuine), 0),
		"of nobody":              say(s.a.key, aboutRevocation, "plant", Revocation{"NOBODYNOBODYNOBO", today()}.encode()),
		"keys of epoch 0":        say(s.a.key, aboutKeys, "plant", Keys{Current: newKey()}.encode()),
		"keys that are too few":  say(s.a.key, aboutKeys, "plant", Keys{Epoch: 9}.encode()),
		"more signers than keys": say(s.a.key, aboutTrust, "plant", Trust{Epoch: 9, Threshold: 1}.encode()[:8]),
		"nobody's threshold":     say(s.a.key, aboutTrust, "plant", Trust{Epoch: 9, Threshold: 0}.encode()),
		"too large":              make([]byte, maxStatement+1),
	} {
		if news, err := d.Learn(b); news || !errors.Is(err, ErrStatement) {
			t.Errorf("a statement %s: %v, %v", name, news, err)
		}
	}
	for i := range genuine {
		for bit := range 8 {
			b := slices.Clone(genuine)
			b[i] ^= 1 << bit
			if news, err := d.Learn(b); news || err == nil {
				t.Fatalf("byte %d of it changed, and it is believed", i)
			}
		}
	}
	if d.Revoked(victim.ID()) || d.Keys().Epoch != 1 || d.Trust().Epoch != 1 {
		t.Error("something was believed")
	}
	d.learn(t, genuine)
}

// What belongs together is learned together, and what is wrong in between spoils nothing else [I3].
func TestLearnTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d, gone := s.join(t), s.join(t)
	revocation := s.revoke(t, gone)
	keys, err := s.a.StageKey()
	if err != nil {
		t.Fatal(err)
	}
	forged := say(gone.node.Key, aboutRevocation, "plant", Revocation{s.signer.ID(), today()}.encode())
	if news, err := d.Learn(keys, forged, revocation); !news || !errors.Is(err, ErrStatement) {
		t.Errorf("news %v, %v", news, err)
	}
	d.open(t)
	if d.Keys().Epoch != 2 || !d.Revoked(gone.ID()) || d.Revoked(s.signer.ID()) {
		t.Errorf("epoch %d, revoked %+v", d.Keys().Epoch, d.Revocations())
	}
	if news, err := d.Learn(keys, revocation); news || err != nil {
		t.Errorf("news %v, %v", news, err)
	}
	if keys, err = s.a.UseKey(); err != nil {
		t.Fatal(err)
	}
	if news, err := d.Learn(keys, revocation); !news || err != nil {
		t.Errorf("news before what is known: %v, %v", news, err)
	}
	if news, err := d.Learn(); news || err != nil {
		t.Errorf("nothing is news: %v, %v", news, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	changed := d.Watch()
	statement := s.revoke(t, s.join(t))
	if closed(changed) {
		t.Error("a change before any")
	}
	d.learn(t, statement)
	if !closed(changed) {
		t.Error("no change")
	}
	changed = d.Watch()
	if news, err := d.Learn(statement); news || err != nil || closed(changed) {
		t.Error("no news are no change")
	}
	renew(t, s, d)
	if !closed(changed) {
		t.Error("a new certificate is a change")
	}
}

// What the disk did not take did not happen.
func TestFailedSaveChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d, gone := s.join(t), s.join(t)
	statement := s.revoke(t, gone)
	changed := d.Watch()
	before := d.Certificate()
	if err := os.Rename(d.dir, d.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if news, err := d.Learn(statement); news || err == nil || d.Revoked(gone.ID()) {
		t.Errorf("news %v, %v", news, err)
	}
	if err := renewal(t, s, d); err == nil || d.Certificate() != before {
		t.Errorf("renewed without a disk: %v", err)
	}
	select {
	case <-changed:
		t.Error("a change was told that is not on disk")
	default:
	}
	if err := os.Rename(d.dir+".away", d.dir); err != nil {
		t.Fatal(err)
	}
	d.learn(t, statement)
}

// Keys are changed in steps that leave nobody out, not even who slept through all of them [I3].
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	awake, asleep := s.join(t), s.join(t)
	original := awake.Keys().Current
	understood := func(d *device) {
		t.Helper()
		for _, from := range []*device{s.signer, awake} {
			if !slices.ContainsFunc(d.Keys().At(d.clock.now()), func(k []byte) bool { return bytes.Equal(k, from.Keys().At(today())[0]) }) {
				t.Errorf("what is sent with epoch %d is not understood with epoch %d", from.Keys().Epoch, d.Keys().Epoch)
			}
		}
	}
	if _, err := s.a.UseKey(); err == nil {
		t.Error("used a key that was not staged")
	}
	for _, step := range []func() ([]byte, error){s.a.StageKey, s.a.StageKey, s.a.UseKey} {
		statement, err := step()
		if err != nil {
			t.Fatal(err)
		}
		understood(awake) // before it heard of the step
		understood(s.signer)
		awake.learn(t, statement)
		understood(awake)
	}
	keys := awake.Keys()
	if bytes.Equal(keys.Current, original) || !bytes.Equal(keys.Old, original) || keys.Staged != nil || keys.Epoch != 4 {
		t.Errorf("epoch %d: the old key is not the original one, or a staged one is left", keys.Epoch)
	}
	if n := len(keys.At(today().Add(KeepOldKey - time.Second))); n != 2 {
		t.Errorf("%d keys within a day", n)
	}
	if n := len(keys.At(today().Add(KeepOldKey))); n != 1 {
		t.Errorf("%d keys after a day", n)
	}
	if n := len(keys.At(time.Unix(0, 0))); n != 2 {
		t.Errorf("%d keys by a clock that is not set", n)
	}
	statement, err := s.a.DropOldKey()
	if err != nil {
		t.Fatal(err)
	}
	awake.learn(t, statement)
	if n := len(awake.Keys().At(today())); n != 1 {
		t.Errorf("%d keys after the old one was dropped", n)
	}
	asleep.learn(t, awake.KeysStatement()) // any member hands on what the authority said
	understood(asleep)
}

// TestAMissingMembershipIsNotNone [I6]: a node that was a member is not alone because a file is gone, only because somebody says so.
func TestAMissingMembershipIsNotNone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	if _, err := Open(d.dir, d.node, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.dir, membershipFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.dir, d.node, nil); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoCluster) {
		t.Errorf("without its membership: %v", err)
	}
	if err := Leave(d.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d.dir, d.node, nil); !errors.Is(err, ErrNoCluster) {
		t.Errorf("after it left: %v", err)
	}
}
