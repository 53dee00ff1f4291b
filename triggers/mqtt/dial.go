package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dial opens the transport to one of the broker's addresses: TCP, TLS over it (handshake included), or a Unix socket.
func dial(ctx context.Context, b *Broker, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.ConnectTimeout)
	defer cancel()
	connect := b.Dial
	if connect == nil {
		d := net.Dialer{KeepAlive: b.KeepAlive}
		if u.Scheme != "unix" {
			d.Control = userTimeout(b.WriteTimeout + b.PingTimeout)
		}
		connect = d.DialContext
	}
	if u.Scheme == "unix" {
		return connect(ctx, "unix", u.Path)
	}
	conn, err := connect(ctx, "tcp", u.Host)
	if err != nil || u.Scheme == "tcp" {
		return conn, err
	}
	config, err := b.TLS.config(u.Hostname())
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		if hungUp(err) {
			err = errors.Join(errTLSClosed, err)
		}
		return nil, err
	}
	return secure, nil
}

// userTimeout bounds how long written bytes may stay unacknowledged by the peer's TCP: a half-open link fails after d, not
// after the quarter of an hour that retransmission takes.
func userTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return failed
	}
}
