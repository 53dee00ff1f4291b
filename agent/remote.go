package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"mayfly/admin"
	"mayfly/function"
)

// openRemote opens the operators' door for those who come from afar, if the configuration wants one. It starts nothing but listens.
func (a *Agent) openRemote() (err error) {
	pin := func() []byte {
		if a.member == nil || a.cfg.Admin.Cert != "" {
			return nil
		}
		sum := sha256.Sum256(a.member.CA())
		return sum[:]
	}
	if a.access, err = admin.OpenTokens(a.path("access.json"), pin, time.Now); err != nil || a.cfg.Admin.Listen == "" {
		return err
	}
	config, err := a.remoteTLS()
	if err != nil {
		return err
	}
	ln, err := a.world.Listen("tcp", a.cfg.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	a.afar = tls.NewListener(ln, config)
	return nil
}

func (a *Agent) remoteTLS() (*tls.Config, error) {
	switch {
	case a.cfg.Admin.Cert != "":
		pair, err := tls.LoadX509KeyPair(a.cfg.Admin.Cert, a.cfg.Admin.Key)
		if err != nil {
			return nil, fmt.Errorf("admin.cert: %w", err)
		}
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}, nil
	case a.member != nil:
		config := a.member.DoorTLS()
		config.NextProtos = []string{"h2", "http/1.1"}
		return config, nil
	}
	return nil, &function.Error{
		Op: "open", Subject: "admin.listen", Class: function.ClassFatal, Kind: "no-certificate",
		Err:  errors.New("this node has no certificate to show: it belongs to no cluster, and [admin] cert and key are not set"),
		Hint: "mayfly init at the node itself, then set [admin] listen; or set cert and key",
	}
}

// runRemote serves operators from afar until ctx ends.
func (a *Agent) runRemote(ctx context.Context) error {
	return a.door.ServeRemote(ctx, a.afar, admin.Gate{Tokens: a.access})
}
