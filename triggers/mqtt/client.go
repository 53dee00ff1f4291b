package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// client is one connection to a broker: a paho client that lives as long as its link and is never used again.
type client struct {
	*link
	paho    paho.Client
	present bool       // the broker had kept the session
	lost    chan error // why the client gave up
}

// identity is what a connection presents itself as.
type identity struct {
	id    string
	clean bool
}

// open dials one of the broker's addresses and returns a link that is not started.
func open(ctx context.Context, b *Broker, address string) (*link, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, b, u)
	if err != nil {
		return nil, err
	}
	return newLink(conn, b), nil
}

// handshake brings a paho client up on a started link. On error the link is closed.
func handshake(ctx context.Context, b *Broker, who identity, l *link) (*client, error) {
	password, err := b.password()
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	c := &client{link: l, lost: make(chan error, 1)}
	c.paho = paho.NewClient(b.options(who, password, c))
	stop := context.AfterFunc(ctx, func() { _ = l.end(context.Cause(ctx)) })
	defer stop()
	token := c.paho.Connect().(*paho.ConnectToken)
	<-token.Done() // bounded: the client sets ConnectTimeout as the link's deadline
	err = token.Error()
	if err == nil {
		err = l.why()
	}
	if err != nil {
		if cause := l.why(); cause != nil && !errors.Is(cause, net.ErrClosed) {
			err = cause
		}
		if _, secure := l.conn.(*tls.Conn); secure && hungUp(err) {
			err = errors.Join(errTLSClosed, err) // with TLS 1.3 a refused certificate shows only after our side is done
		}
		c.paho.Disconnect(0)
		_ = l.Close()
		return nil, err
	}
	c.present = token.SessionPresent()
	return c, nil
}

// options are those of the rules in DESIGN.md: no retry, no fallback to MQTT 3.1, nothing automatic.
func (b *Broker) options(who identity, password string, c *client) *paho.ClientOptions {
	o := paho.NewClientOptions().
		AddBroker("tcp://" + b.Name). // never dialled: the link is open already
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return c.link, nil }).
		SetProtocolVersion(4).
		SetClientID(who.id).
		SetCleanSession(who.clean).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetResumeSubs(false).
		SetOrderMatters(true).
		SetAutoAckDisabled(true).
		SetConnectTimeout(b.ConnectTimeout).
		SetKeepAlive(b.KeepAlive).
		SetPingTimeout(b.PingTimeout).
		SetConnectionLostHandler(func(_ paho.Client, err error) { c.lost <- err })
	if b.User != "" {
		o.SetUsername(b.User).SetPassword(password)
	}
	return o
}

// subscribe asks for the topics and returns the filters that were refused ([MQTT-3.9.3-2]).
func (c *client) subscribe(ctx context.Context, topics []Topic, within time.Duration) (refused []string, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	asked := make(map[string]byte, len(topics))
	for _, t := range topics {
		asked[t.Filter] = t.QoS
	}
	c.filters.Store(int32(len(asked)))
	token := c.paho.SubscribeMultiple(asked, nil).(*paho.SubscribeToken)
	if err := c.wait(ctx, token, within); err != nil {
		return nil, err
	}
	for filter, code := range token.Result() {
		if code > 1 {
			refused = append(refused, filter)
		}
	}
	slices.Sort(refused)
	return refused, nil
}

// unsubscribe takes filters back.
func (c *client) unsubscribe(ctx context.Context, filters []string, within time.Duration) error {
	if len(filters) == 0 {
		return nil
	}
	c.leaving.Store(true)
	defer c.leaving.Store(false)
	return c.wait(ctx, c.paho.Unsubscribe(filters...), within)
}

func (c *client) wait(ctx context.Context, token paho.Token, within time.Duration) error {
	patience := time.NewTimer(within)
	defer patience.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-patience.C:
		return errSilent
	case <-c.ended:
		return c.why()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// disconnect says goodbye, flushes and waits until everything the client started has ended.
func (c *client) disconnect() {
	c.paho.Disconnect(uint(closeFlush.Milliseconds()))
	_ = c.Close()
}

// reason returns why a link that has ended ended; a client that gave up by itself (no answer to its ping) knows better
// than the link, which was just closed.
func (c *client) reason() error {
	err := c.why()
	if !errors.Is(err, net.ErrClosed) {
		return err
	}
	select {
	case err = <-c.lost:
		return errors.Join(errSilent, err)
	case <-time.After(closeFlush):
		return err
	}
}
