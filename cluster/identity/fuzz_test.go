package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"testing"
)

// fixed is an authority that is the same in every process, so that what a fuzzer found stays found.
func fixed(f *testing.F) *authorityKey {
	f.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	der, err := newCA("plant", key, today())
	if err != nil {
		f.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	return &authorityKey{cluster: "plant", ca: ca, key: key}
}

// Whatever is read is written again byte for byte: there is one encoding of everything.
func FuzzStatement(f *testing.F) {
	a := fixed(f)
	public := OperatorKey{publicOf(a.key)}
	keys := Keys{Epoch: 1, Used: today(), Current: make([]byte, 32)}
	used, err := keys.stage().use(today())
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range [][]byte{keys.encode(), keys.stage().encode(), used.encode()} {
		f.Add(say(a.key, aboutKeys, "plant", body))
		f.Add(body)
	}
	f.Add(Trust{Epoch: 2, Threshold: 1, Keys: []OperatorKey{public}}.encode())
	f.Add(Trust{Epoch: 2, Threshold: 1}.encode())
	f.Add(Revocation{idOf(a.key.Public()), today()}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStatement(b); err == nil {
			again := appendPart(appendPart([]byte{statementFormat, byte(s.about)}, []byte(s.cluster)), s.body)
			if !bytes.Equal(again, s.signed) || !bytes.Equal(appendPart(again, s.sig), b) {
				t.Error("a statement has two encodings")
			}
			if _, err := hear(b, "plant", a.ca); err == nil && !bytes.Equal(say(a.key, s.about, s.cluster, s.body), b) {
				t.Error("the authority is believed to have said what it did not")
			}
		}
		if k, err := decodeKeys(b); err == nil {
			if !bytes.Equal(k.encode(), b) {
				t.Error("keys have two encodings")
			}
			for _, key := range k.At(today()) {
				if len(key) != gossipKeySize {
					t.Errorf("a key of %d bytes", len(key))
				}
			}
		}
		if s, err := decodeTrust("plant", b); err == nil && (!bytes.Equal(s.encode(), b) || s.Epoch == 0 || s.Threshold < 1) {
			t.Error("a set of operators has two encodings")
		}
		if r, err := decodeRevocation(b); err == nil && !bytes.Equal(r.encode(), b) {
			t.Error("a revocation has two encodings")
		}
	})
}

func FuzzSignatures(f *testing.F) {
	a, b := Operator{ed25519.NewKeyFromSeed(make([]byte, 32))}, Operator{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
	both, err := JoinSignatures(a.Sign("plant", nil), b.Sign("plant", nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Sign("plant", nil), b.Sign("plant", nil))
	f.Add(both, a.Sign("plant", nil))
	trust := Trust{Cluster: "plant", Epoch: 1, Threshold: 1, Keys: []OperatorKey{a.Public(), b.Public()}}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		all, err := decodeSignatures(x)
		if err == nil && !bytes.Equal(encodeSignatures(all), x) {
			t.Error("signatures have two encodings")
		}
		ok := bytes.Equal(x, both) || bytes.Equal(x, a.Sign("plant", nil)) || bytes.Equal(x, b.Sign("plant", nil))
		if got := trust.Verify(nil, x) == nil; got != ok {
			t.Errorf("verified: %v, and it is genuine: %v", got, ok)
		}
		xy, err := JoinSignatures(x, y)
		if err != nil {
			return
		}
		if again, err := JoinSignatures(xy, y); err != nil || !bytes.Equal(again, xy) {
			t.Errorf("joined twice it is another: %v", err)
		}
	})
}

func FuzzTexts(f *testing.F) {
	f.Add("mf1." + spell(make([]byte, 32)) + "." + spell(make([]byte, 5)) + "." + spell(make([]byte, 20)))
	f.Add(OperatorKey{make([]byte, 32)}.String())
	f.Add("MF1...")
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := ParseToken(s); err == nil {
			if again, err := ParseToken(token.Text()); err != nil || again.Text() != token.Text() || len(token.Text()) != 4+52+1+8+1+32 {
				t.Errorf("%q is %q", s, token.Text())
			}
		}
		if k, err := ParseOperatorKey(s); err == nil {
			if again, err := ParseOperatorKey(k.String()); err != nil || again.String() != k.String() {
				t.Errorf("%q is %q", s, k)
			}
		}
		if isID(s) && len(s) != idLength {
			t.Errorf("%q is an id", s)
		}
	})
}

// Messages from anybody: a grant makes a member only if the authority stands behind all of it.
func FuzzMessages(f *testing.F) {
	a := fixed(f)
	node := of(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	cert, err := a.issue(publicOf(node.Key), today())
	if err != nil {
		f.Fatal(err)
	}
	csr, err := request(node)
	if err != nil {
		f.Fatal(err)
	}
	g := Grant{
		Format: grantFormat, Cluster: "plant", CA: a.ca.Raw, Certificate: cert,
		Keys:        say(a.key, aboutKeys, "plant", Keys{Epoch: 1, Used: today(), Current: make([]byte, 32)}.encode()),
		Trust:       say(a.key, aboutTrust, "plant", Trust{Epoch: 2, Threshold: 1}.encode()),
		Revocations: [][]byte{say(a.key, aboutRevocation, "plant", Revocation{idOf(a.key.Public()), today()}.encode())},
	}
	if _, err := check(g, node); err != nil {
		f.Fatal(err)
	}
	f.Add(g.Encode())
	f.Add(JoinRequest{Token: "mf1.a.b.c", CSR: csr}.Encode())
	f.Add(csr)
	for _, what := range []any{g, authorityRecord{"plant", a.ca.Raw, a.key.Seed()}, map[string]tokenRecord{"a": {Uses: 1}}} {
		sealed, err := seal(membershipWhat, what)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := DecodeGrant(b); err == nil {
			if s, err := check(g, node); err == nil && bytes.Equal(g.CA, a.ca.Raw) && (s.grant.Cluster != "plant" || len(s.keys.Current) != 32) {
				t.Errorf("a member of %q", s.grant.Cluster)
			}
		}
		if r, err := DecodeJoinRequest(b); err == nil {
			if key, err := requestedKey(r.CSR); err == nil && idOf(key) == "" {
				t.Error("a request without a key")
			}
		}
		if key, err := requestedKey(b); err == nil && len(key) != ed25519.PublicKeySize {
			t.Errorf("a key of %d bytes", len(key))
		}
		var sealed Grant
		if err := unseal(membershipWhat, b, &sealed); err == nil {
			if _, err := check(sealed, node); err == nil && sealed.Format != grantFormat {
				t.Error("a membership of another format")
			}
		}
	})
}
