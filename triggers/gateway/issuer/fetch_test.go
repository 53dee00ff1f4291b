package issuer

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(context.Background())
}

// What a provider, or somebody in between, can answer: nothing of it is taken for keys, and the keys we have stay.
func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	es := p.signer("es", jwt.SigningMethodES256)
	i := p.fetched(p.issuer(nil))
	say := func(kind, text string) func() {
		return func() {
			p.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				fmt.Fprint(w, text)
			}
		}
	}
	about := func(key, value string) func() { return func() { p.details[key] = value } }
	twice := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + strings.Repeat("A", 43) + `"},{"kty":"OKP","crv":"Ed25519","kid":"a","x":"` + strings.Repeat("A", 43) + `"}]}`
	for name, change := range map[string]func(){
		"a page":                say("text/html", `{"keys":[]}`),
		"an empty object":       say("application/json", `{}`),
		"not JSON":              say("application/json", `keys`),
		"far too long":          say("application/json", `{"keys":[`+strings.Repeat(" ", maxDocument)+`]}`),
		"too many":              say("application/json", `{"keys":[`+strings.Repeat(`{},`, maxKeys)+`{}]}`),
		"one id, two keys":      say("application/json", twice),
		"an error":              func() { p.answer = http.NotFound },
		"another issuer":        about("issuer", p.server.URL+"/"),
		"keys by plain HTTP":    about("jwks_uri", "http://127.0.0.1:1/keys"),
		"keys in a file":        about("jwks_uri", "file:///etc/passwd"),
		"keys nowhere":          about("jwks_uri", ""),
		"redirect to elsewhere": about("jwks_uri", p.server.URL+"/there"),
	} {
		p.set(func() { p.answer, p.details = nil, map[string]string{}; change() })
		if err := i.refresh(t.Context()); err == nil {
			t.Errorf("%s was taken for keys", name)
		}
		if got := kind(i, p.token(es, nil)); got != "" {
			t.Errorf("after %s the keys are gone: %s", name, got)
		}
	}
	p.set(func() { p.answer, p.details = nil, map[string]string{"jwks_uri": p.server.URL + "/here"} })
	if err := i.refresh(t.Context()); err != nil {
		t.Errorf("a redirect on the same host: %v", err)
	}
	if s := i.Status(); s.Keys != 1 || s.Err != nil || s.Fetched.IsZero() || s.Name != "site" {
		t.Errorf("status %+v", s)
	}
}

// Keys that are weak, for something else, or not understood are passed over.
func TestKeysThatArePassedOver(t *testing.T) {
	short := `"n":"` + strings.Repeat("A", 20) + `","e":"AQAB"`
	point := `"x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"`
	wide := `"n":"` + strings.Repeat("_", 342) + `"`
	for _, text := range []string{
		`{"kty":"RSA","kid":"a",` + short + `}`, `{"kty":"RSA","kid":"a",` + wide + `,"e":"AQ"}`, `{"kty":"RSA","kid":"a",` + wide + `,"e":"Ag"}`,
		`{"kty":"RSA","kid":"a","use":"enc",` + wide + `,"e":"AQAB"}`, `{"kty":"RSA","kid":"a","alg":"HS256",` + wide + `,"e":"AQAB"}`,
		`{"kty":"RSA","kid":"a","key_ops":["encrypt"],` + wide + `,"e":"AQAB"}`, `{"kty":"RSA",` + wide + `,"e":"AQAB"}`,
		`{"kty":"RSA","kid":"a","n":"` + strings.Repeat("_", 1500) + `","e":"AQAB"}`,
		`{"kty":"EC","kid":"a","crv":"P-256",` + point + `}`, `{"kty":"EC","kid":"a","crv":"secp256k1",` + point + `}`,
		`{"kty":"oct","kid":"a","k":"AAAA"}`, `{"kty":"OKP","crv":"X25519","kid":"a","x":"AAAA"}`, `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}`,
		`5`, `{"kid":5}`, `{}`,
	} {
		keys, err := parseKeys([]byte(`{"keys":[` + text + `]}`))
		if err != nil || len(keys) != 0 {
			t.Errorf("%s: %v, %v", text, keys, err)
		}
	}
	keys, err := parseKeys([]byte(`{"keys":[{"kty":"RSA","kid":"a","alg":"RS512",` + wide + `,"e":"AQAB"}]}`))
	if err != nil || len(keys) != 1 || fmt.Sprint(keys["a"].algorithms) != "[RS512]" {
		t.Errorf("%v, %v", keys, err)
	}
}

// Run looks again and again, soon after a failure, and seldom when all is well.
func TestRunGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan bool, 1)
		var asked []time.Duration
		began := time.Now()
		i, err := New(Config{Name: "site", URL: "http://127.0.0.1:1", Audience: []string{"api"}, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		i.client.Transport = trip(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "keys") {
				return reply(r, `{"keys":[]}`), nil
			}
			asked = append(asked, time.Since(began))
			if !<-answers {
				return nil, errNone
			}
			return reply(r, `{"issuer":"http://127.0.0.1:1","jwks_uri":"http://127.0.0.1:1/keys"}`), nil
		})
		ctx, cancel := contextOf(t)
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		for _, ok := range []bool{false, false, false, true, true} {
			answers <- ok
		}
		synctest.Wait()
		time.Sleep(2 * i.c.Refresh)
		cancel()
		close(answers)
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second, 14*time.Second + i.c.Refresh, 14*time.Second + 2*i.c.Refresh}
		if fmt.Sprint(asked) != fmt.Sprint(want) {
			t.Errorf("asked after %v, want %v", asked, want)
		}
	})
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text)
		for id, k := range keys {
			if id == "" || k.public == nil || len(k.algorithms) == 0 || err != nil {
				t.Errorf("%q: %+v, %v", id, k, err)
			}
		}
	})
}
