package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"mayfly/internal/guests"
	"mayfly/internal/mosquitto"
)

// waits checks that an agent without its broker is up, says why it waits in words that hold why, and serves what needs no
// broker.
func (n *node) waits(why, next string) {
	n.t.Helper()
	until(n.t, "the status says why", func() (bool, string) {
		r := n.mayfly("status")
		return r.code == 0 && strings.Contains(r.out, why) && strings.Contains(r.out, next), r.out + r.err
	})
	n.must("deploy", n.copied("counter", guests.C(n.t, "examples/counter/counter.c")))
	n.must("invoke", "counter", "-d", "one").want(n.t, 0, "done on e2e")
}

func TestBrokerDownAtStart(t *testing.T) {
	t.Parallel()
	b, err := mosquitto.New(t.TempDir(), mosquitto.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := atBroker(t, b.URL(), "")
	n.echoLater()
	n.waits("connection refused", "is the broker running")
	n.mayfly("pub", "a/b", "x").want(t, 1, "error: ", "next:  ")
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Kill()
	d := connect(t, b.Addr(), "device")
	d.subscribe(t, "out/#")
	until(t, "the agent has subscribed", func() (bool, string) { f := n.function("echo"); return f.State == "ready", f.Reason })
	n.serves(d, "now")
}

// echoLater deploys the neighbour where there is no broker yet.
func (n *node) echoLater() {
	n.t.Helper()
	n.must("deploy", n.copied("echo", guests.C(n.t, "examples/echo/echo.c")))
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{Users: map[string]string{"mayfly": "right"}})
	n := newNode(t, "")
	file := n.file("password", "wrong\n")
	n.configure(brokerAt(b.URL()) + fmt.Sprintf("user = \"mayfly\"\npassword_file = %q\n", file))
	n.start()
	n.waits("not Authorized", "the broker does not accept user and password")
	n.file("password", "right\n") // read again at the next attempt
	until(t, "the agent has connected", func() (bool, string) { s := n.status(); return s.Brokers[0].Connected, fmt.Sprint(s.Reasons) })
	for _, said := range []string{n.log.String(), n.must("status", "-o", "json").out, n.must("config", "show").out} {
		if strings.Contains(said, "right") || strings.Contains(said, "wrong") {
			t.Error("a password was shown")
		}
	}
}

// certificate makes a self-signed certificate for 127.0.0.1 that ends at a time, and returns its files.
func (n *node) certificate(end time.Time) (cert, key string) {
	n.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, NotBefore: end.Add(-48 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		n.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		n.t.Fatal(err)
	}
	name := fmt.Sprint("tls-", end.Unix())
	return n.file(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		n.file(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

func TestExpiredCertificates(t *testing.T) {
	t.Parallel()
	n := newNode(t, "")
	old, oldKey := n.certificate(time.Now().Add(-time.Hour))
	good, goodKey := n.certificate(time.Now().Add(time.Hour))
	theirs := mosquitto.Run(t, mosquitto.Options{CertFile: old, KeyFile: oldKey})
	ours := mosquitto.Run(t, mosquitto.Options{CertFile: good, KeyFile: goodKey, ClientCA: old})
	n.configure(fmt.Sprintf(`default_broker = "theirs"
[broker.theirs]
urls = [%q]
ca = %q
[broker.ours]
urls = [%q]
ca = %q
cert = %q
key = %q
`, theirs.URL(), old, ours.URL(), good, old, oldKey))
	n.start()
	n.waits("certificate has expired or is not yet valid", "check this device's clock")
	n.waits("remote error: tls: expired certificate", "the broker refused our certificate")
}

// The broker is away while events come in by other ways, more than memory alone would hold if nobody had bounded it, and the
// power fails on top. A virtual hour is as long as this one: nothing in the outbox ages.
func TestBrokerGoneForLong(t *testing.T) {
	t.Parallel()
	b := mosquitto.Run(t, mosquitto.Options{Persistence: true, MaxQueued: -1})
	n := atBroker(t, b.URL(), "")
	n.teller("1.0.0", "")
	d := connect(t, b.Addr(), "durable")
	d.subscribe(t, "told/#")
	n.invoke("a", 1, 1)
	told(t, d, "a", 1)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	const each = 500
	n.invoke("a", 2, each)
	n.invoke("b", 1, each)
	until(t, "the outbox holds what was said", func() (bool, string) {
		s := n.status()
		return s.Outbox.Count == 2*each-1, fmt.Sprint(s.Outbox)
	})
	n.must("status").want(t, 0, "connection refused", "is the broker running")
	n.kill()
	n.start()
	n.invoke("a", each+1, each+1)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	d.dial(t, b.Addr(), "durable")
	told(t, d, "a", each+1)
	told(t, d, "b", each)
	until(t, "the outbox is empty", func() (bool, string) { s := n.status(); return s.Outbox.Count == 0, fmt.Sprint(s.Outbox) })
	if losses := n.status().Losses; len(losses) > 0 {
		t.Errorf("lost: %+v", losses)
	}
}
