package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func operators(t *testing.T, n int) []Operator {
	t.Helper()
	all := make([]Operator, n)
	for i := range all {
		o, err := GenerateOperator()
		if err != nil {
			t.Fatal(err)
		}
		all[i] = o
	}
	slices.SortFunc(all, func(a, b Operator) int { return slices.Compare(a.Public().key, b.Public().key) })
	return all
}

// An order counts exactly if everybody who signed it is trusted and signed this order, and enough did, each once [I5].
func TestOrdersNeedTheirSignatures(t *testing.T) {
	t.Parallel()
	all := operators(t, 6)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(r, "trusted") // the others are strangers
		trust := Trust{Cluster: "plant", Epoch: 1, Threshold: rapid.IntRange(1, n).Draw(r, "threshold")}
		for _, o := range all[:n] {
			trust.Keys = append(trust.Keys, o.Public())
		}
		message := rapid.SliceOf(rapid.Byte()).Draw(r, "message")
		var joined []byte
		signers, strange := map[int]bool{}, false
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 1, 8).Draw(r, "signers") {
			said := message
			wrong := !signers[i] && rapid.IntRange(0, 9).Draw(r, "wrong") == 0
			if wrong {
				said = append(slices.Clone(message), 1)
			}
			sig := all[i].Sign("plant", said)
			if joined != nil {
				var err error
				if sig, err = JoinSignatures(joined, sig); err != nil {
					r.Fatal(err)
				}
			}
			joined = sig
			strange = strange || wrong || i >= n
			signers[i] = true
		}
		err := trust.Verify(message, joined)
		if want := !strange && len(signers) >= trust.Threshold; want != (err == nil) || !want && !errors.Is(err, ErrUntrusted) {
			r.Fatalf("%d of %d signed, strangers or wrong %v: %v", len(signers), trust.Threshold, strange, err)
		}
	})
}

func TestTrust(t *testing.T) {
	t.Parallel()
	o := operators(t, 3)
	message := []byte("deploy overheat 1.2.0")
	one := Trust{Cluster: "plant", Epoch: 1, Threshold: 1, Keys: []OperatorKey{o[0].Public(), o[1].Public()}}
	two := one
	two.Threshold = 2
	sig := o[0].Sign("plant", message)
	twice := append(slices.Clone(sig), sig[1:]...)
	for name, c := range map[string]struct {
		trust Trust
		sig   []byte
		want  bool
	}{
		"one of one":                  {one, sig, true},
		"one of two":                  {two, sig, false},
		"one twice":                   {two, twice, false},
		"for another cluster":         {one, o[0].Sign("other", message), false},
		"of another message":          {one, o[0].Sign("plant", message[1:]), false},
		"by a stranger":               {one, o[2].Sign("plant", message), false},
		"by nobody":                   {one, nil, false},
		"an empty list":               {one, []byte{signaturesFormat}, false},
		"a later format":              {one, append([]byte{2}, sig[1:]...), false},
		"cut":                         {one, sig[:len(sig)-1], false},
		"nobody was ever trusted":     {Trust{}, sig, false},
		"nobody was trusted, no sign": {Trust{}, nil, false},
		"threshold nought":            {Trust{Cluster: "plant", Epoch: 1, Keys: one.Keys}, sig, false},
		"development":                 {Trust{Cluster: "plant", Epoch: 2, Threshold: 1}, nil, true},
	} {
		if err := c.trust.Verify(message, c.sig); (err == nil) != c.want || !c.want && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if one.Development() || (Trust{}).Development() || !(Trust{Epoch: 1, Threshold: 1}).Development() {
		t.Error("development is not what it should be")
	}
}

func TestSetTrust(t *testing.T) {
	t.Parallel()
	s := newSite(t, "plant")
	d := s.join(t)
	founder, err := LoadOperator(filepath.Join(s.signer.dir, OperatorFile))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("deploy")
	if err := d.Trust().Verify(message, founder.Sign("plant", message)); err != nil || d.Trust().Development() {
		t.Errorf("the founder: %v", err)
	}
	o := operators(t, 2)
	statement, err := s.a.SetTrust(2, o[1].Public(), o[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	before := d.TrustStatement()
	d.learn(t, statement)
	both, err := JoinSignatures(o[0].Sign("plant", message), o[1].Sign("plant", message))
	if err != nil {
		t.Fatal(err)
	}
	if news, err := d.Learn(before); news || err != nil {
		t.Errorf("what was replaced came back: %v, %v", news, err)
	}
	if err := d.Trust().Verify(message, both); err != nil {
		t.Error(err)
	}
	if err := d.Trust().Verify(message, founder.Sign("plant", message)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("the founder is trusted still: %v", err)
	}
	for _, c := range []struct {
		k    int
		keys []OperatorKey
	}{
		{0, []OperatorKey{o[0].Public()}},
		{2, []OperatorKey{o[0].Public()}},
		{2, []OperatorKey{o[0].Public(), o[0].Public()}},
		{2, nil},
		{0, nil},
		{1, []OperatorKey{{}}},
		{1, make([]OperatorKey, maxSignatures+1)},
	} {
		if _, err := s.a.SetTrust(c.k, c.keys...); err == nil {
			t.Errorf("%d of %d are trusted", c.k, len(c.keys))
		}
	}
	if statement, err = s.a.SetTrust(1); err != nil {
		t.Fatal(err)
	}
	d.learn(t, statement)
	if !d.Trust().Development() || d.Trust().Verify(message, nil) != nil {
		t.Error("development was asked for")
	}
}

func TestOperatorKeys(t *testing.T) {
	t.Parallel()
	o := operators(t, 1)[0]
	path := filepath.Join(t.TempDir(), "me.key")
	if err := o.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := LoadOperator(path)
	if err != nil || again.String() != o.String() {
		t.Errorf("%s was read as %s, %v", o, again, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", o, o), fmt.Sprint(o.key[0], " ", o.key[1])) {
		t.Error("printing it shows the key")
	}
	text := o.Public().String()
	if k, err := ParseOperatorKey(" " + strings.ToUpper(text[len(operatorPrefix):])); err == nil {
		t.Errorf("without its prefix it is %s", k)
	}
	if k, err := ParseOperatorKey(text + "\n"); err != nil || k.String() != text {
		t.Errorf("%s reads as %s, %v", text, k, err)
	}
	for _, bad := range []string{"", operatorPrefix, text[:len(text)-1], text + "a", strings.Replace(text, "mfo1", "mfo2", 1)} {
		if _, err := ParseOperatorKey(bad); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
	if err := os.WriteFile(path, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOperator(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
	sigs := o.Sign("plant", nil)
	for _, more := range operators(t, maxSignatures) {
		var err error
		before := sigs
		if sigs, err = JoinSignatures(sigs, more.Sign("plant", nil)); err != nil {
			if len(before) != 1+maxSignatures*72 {
				t.Error(err)
			}
			return
		}
	}
	t.Error("there is no bound")
}
