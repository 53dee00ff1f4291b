package mqtt

import (
	"strings"
	"testing"
	"time"
)

func TestValidateReportsEveryFault(t *testing.T) {
	if err := at("tcp://h:1").WithDefaults().Validate(); err != nil {
		t.Errorf("the least configuration: %v", err)
	}
	bad := Broker{
		Name: "a/b", URLs: []string{"mqtt://h:1", "tcp://h", "tcp://u:p@h:1", "unix://host/x", "tls://h:1/path"}, PasswordFile: "p", Credential: "../c",
		TLS: TLS{Cert: "c", MinVersion: "1.1"}, KeepAlive: 1500 * time.Millisecond, PingTimeout: -1, ConnectTimeout: -1, WriteTimeout: -1,
		Window: 20000, MaxPayload: -1,
	}
	err := bad.WithDefaults().Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if strings.Contains(err.Error(), "u:p") {
		t.Error("an error shows a password")
	}
	for _, want := range []string{
		"name:", `"mqtt://h:1"`, `"tcp://h"`, "holds credentials", `"unix://host/x"`, `"tls://h:1/path"`, "user:", "password_file and credential",
		`credential "../c"`, "cert and key", "min_version", "keepalive 1.5s", "ping_timeout", "connect_timeout", "write_timeout", "window 20000", "max_payload -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("says nothing of %s", want)
		}
	}
}
