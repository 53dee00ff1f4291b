package mosquitto

import (
	"net"
	"testing"
)

func TestBrokerKeepsItsPortOverRestarts(t *testing.T) {
	b := Run(t, Options{Persistence: true, Users: map[string]string{"ann": "secret"}})
	dial := func() error {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := dial(); err != nil {
		t.Fatalf("started broker does not answer: %v", err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := dial(); err == nil {
		t.Fatal("stopped broker still answers")
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := dial(); err != nil {
		t.Fatalf("broker does not answer after a restart: %v", err)
	}
}

func TestBrokerThatCannotStartSaysWhy(t *testing.T) {
	b, err := New(t.TempDir(), Options{Lines: []string{"no_such_option true"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err == nil {
		t.Fatalf("started with a broken configuration, killed: %v", b.Kill())
	}
}
