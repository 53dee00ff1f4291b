package mqtt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/event"
	"mayfly/internal/mosquitto"
)

func TestBrokerRestart(t *testing.T) {
	for _, persistent := range []bool{true, false} {
		t.Run(fmt.Sprintf("persistence=%t", persistent), func(t *testing.T) {
			broker := mustRun(t, mosquitto.Options{Persistence: persistent})
			b := at(broker.URL())
			s := session(t, b, sub("in"), &notes{})
			in, _ := listen(t, s)
			p, _ := publisher(t, b)
			say(t, p, numbered("in", 0, 1)...)
			first := in.next(t) // not settled
			if err := broker.Restart(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "both are back", func() bool { return s.Status().Connects == 2 && p.Ready() })
			say(t, p, numbered("in", 1, 2)...)
			g := in.next(t)
			if string(g.ev.Data) != "1" {
				t.Errorf("after the restart came %s, want 1", g.ev.Data)
			}
			first.settle(nil)
			g.settle(nil)
			want := map[bool]uint64{true: 2, false: 1}[persistent] // a broker that forgot the first has nothing to be told
			eventually(t, "acknowledged", func() bool { return s.Status().Acked >= want })
			if n := s.Status().Redelivered; n != want-1 {
				t.Errorf("%d redelivered, want %d", n, want-1)
			}
		})
	}
}

func TestBrokerDownAtStart(t *testing.T) {
	broker, err := mosquitto.New(t.TempDir(), mosquitto.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, at(broker.URL()), sub("in"), &notes{})
	start(t, func(ctx context.Context) error { return s.Run(ctx, newBasket()) })
	eventually(t, "refused is reported", func() bool {
		st := s.Status()
		return st.Err != nil && st.Err.Kind == "refused" && st.Attempts > 0 && time.Since(st.ErrAt) < time.Hour
	})
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Kill(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "connected by itself", func() bool { return s.Status().Connected })
	if st := s.Status(); st.Err != nil || st.Attempts != 0 {
		t.Errorf("still reports %v after %d attempts", st.Err, st.Attempts)
	}
}

func TestUserAndPassword(t *testing.T) {
	broker := mustRun(t, mosquitto.Options{Users: map[string]string{"agent": "right"}})
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	file := filepath.Join(dir, "mqtt")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, by := range map[string]func(*Broker){
		"file":       func(b *Broker) { b.PasswordFile = file },
		"credential": func(b *Broker) { b.Credential = "mqtt" },
	} {
		t.Run(name, func(t *testing.T) {
			b := at(broker.URL())
			b.User = "agent"
			by(&b)
			write("wrong")
			p, err := NewPublisher(b, "", discardLog())
			if err != nil {
				t.Fatal(err)
			}
			start(t, p.Run)
			eventually(t, "wrong password is reported", func() bool {
				st := p.Status()
				return st.Err != nil && st.Err.Kind == "credentials" && st.Err.Hint != ""
			})
			write("right") // read again at every attempt
			eventually(t, "connected", p.Ready)
		})
	}
}

func TestSeveralBrokers(t *testing.T) {
	one, two := at(mustRun(t, mosquitto.Options{}).URL()), at(mustRun(t, mosquitto.Options{}).URL())
	two.Name = "plant"
	two.URLs = []string{"tcp://127.0.0.1:1", two.URLs[0]} // the second address is tried when the first fails
	in1, _ := listen(t, session(t, one, sub("in"), &notes{}))
	in2, _ := listen(t, session(t, two, sub("in"), &notes{}))
	p2, _ := publisher(t, two)
	say(t, p2, numbered("in", 2, 3)...)
	if g := in2.next(t); g.ev.Broker != "plant" || string(g.ev.Data) != "2" {
		t.Errorf("got %+v", g.ev)
	}
	if len(in1.events) != 0 {
		t.Error("the other broker's session got it too")
	}
}

// choosy is a broker that accepts everybody and refuses to let them read secret topics, as brokers do by 0x80; every
// subscription it grants gets a message at once.
func choosy(conn net.Conn) {
	defer conn.Close()
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			_, _ = conn.Write([]byte{packets.Connack << 4, 2, 0, 0})
		case *packets.SubscribePacket:
			answer := []byte{packets.Suback << 4, byte(2 + len(p.Topics)), byte(p.MessageID >> 8), byte(p.MessageID)}
			for _, topic := range p.Topics {
				if strings.HasPrefix(topic, "secret") {
					answer = append(answer, 0x80)
				} else {
					answer = append(answer, 1)
				}
			}
			_, _ = conn.Write(appendPublish(answer, "open", nil, 1, 2))
		}
	}
}

// One topic that is refused must not cost the triggers that share the session their messages.
func TestRefusedSubscriptionIsReportedAndTheOthersWork(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go choosy(conn)
		}
	}()
	memory := &notes{}
	s := session(t, at("tcp://"+server.Addr().String()), sub("secret/#", "open"), memory)
	in, _ := listen(t, s)
	in.next(t).settle(nil)
	st := s.Status()
	if !slices.Equal(st.Denied, []string{"secret/#"}) || st.Err == nil || st.Err.Kind != "subscription" || !strings.Contains(st.Err.Error(), "secret/#") {
		t.Errorf("status %+v", st)
	}
	if known, _ := memory.Subscribed(s.ClientID()); known["open"] != 1 || len(known) != 1 {
		t.Errorf("remembered as subscribed: %v", known)
	}
}

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	a.file, _, a.key = a.write(t, "ca", template, template, nil)
	pemText, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pemText)
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue signs a certificate for 127.0.0.1 that ends then.
func (a *authority) issue(t *testing.T, name string, end time.Time) (certFile, keyFile string) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: end.Add(-2 * time.Hour),
		NotAfter: end, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certFile, keyFile, _ = a.write(t, name, template, a.cert, a.key)
	return certFile, keyFile
}

func (a *authority) write(t *testing.T, name string, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (certFile, keyFile string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, key
}

func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	goodCert, goodKey := ca.issue(t, "server", soon)
	oldCert, oldKey := ca.issue(t, "old", time.Now().Add(-time.Minute))
	ourCert, ourKey := ca.issue(t, "agent", soon)
	good := mustRun(t, mosquitto.Options{CertFile: goodCert, KeyFile: goodKey, ClientCA: ca.file})
	old := mustRun(t, mosquitto.Options{CertFile: oldCert, KeyFile: oldKey})
	plain := mustRun(t, mosquitto.Options{})
	cases := []struct {
		name, url string
		tls       TLS
		kind      string // "" = connects
	}{
		{"client certificate", good.URL(), TLS{CA: ca.file, Cert: ourCert, Key: ourKey}, ""},
		{"TLS 1.3 only", good.URL(), TLS{CA: ca.file, Cert: ourCert, Key: ourKey, MinVersion: "1.3"}, ""},
		{"no client certificate", good.URL(), TLS{CA: ca.file}, "tls-refused tls-closed"}, // which of them depends on who is faster
		{"unknown authority", good.URL(), TLS{CA: stranger.file, Cert: ourCert, Key: ourKey}, "tls-unknown-ca"},
		{"another name", good.URL(), TLS{CA: ca.file, Cert: ourCert, Key: ourKey, ServerName: "else"}, "tls-name"},
		{"expired", old.URL(), TLS{CA: ca.file}, "tls-expired"},
		{"port without TLS", strings.Replace(plain.URL(), "tcp", "tls", 1), TLS{CA: ca.file}, "tls-closed"},
		{"missing file", good.URL(), TLS{CA: "/nonexistent"}, "file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := at(c.url)
			b.TLS = c.tls
			p, err := NewPublisher(b, "", discardLog())
			if err != nil {
				t.Fatal(err)
			}
			start(t, p.Run)
			if c.kind == "" {
				eventually(t, "connected", p.Ready)
				say(t, p, event.Message{Topic: "x", QoS: 1, Data: make([]byte, 100_000)})
				return
			}
			eventually(t, "reported", func() bool { return p.Status().Err != nil })
			if e := p.Status().Err; !strings.Contains(c.kind, e.Kind) || e.Hint == "" {
				t.Errorf("reported as %s: %v (hint %q), want %s", e.Kind, e, e.Hint, c.kind)
			}
		})
	}
}
