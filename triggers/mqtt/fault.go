package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/function"
)

// Errors a publisher answers with. Compare with errors.Is.
var (
	// ErrDown means there is no connection; nothing was sent.
	ErrDown = errors.New("not connected to the broker")
	// ErrFull means the in-flight window is full; nothing was sent.
	ErrFull = errors.New("as many messages are in flight as allowed")
	// ErrUnknown means the connection ended before the broker confirmed: it may have the message or not.
	ErrUnknown = errors.New("the connection ended before the broker confirmed the message")
)

// Reasons for ending a connection ourselves.
var (
	errGivenBack  = errors.New("an event could not be kept safe here and was given back to the broker")
	errOverloaded = errors.New("events are not settled as fast as they come; the broker keeps the rest")
	errProtocol   = errors.New("the broker broke the protocol")
	errRefusedSub = errors.New("the broker refused the subscription")
	errTLSClosed  = errors.New("closed by the broker while TLS was set up")
	errSilent     = errors.New("the broker did not answer in time")
)

// cause is one recognisable reason why a broker cannot be used: the stable word for it and what to do.
type cause struct{ kind, hint string }

// explain turns what went wrong with a broker into an error an operator can act upon.
func explain(op string, b *Broker, err error) *function.Error {
	if e, ok := errors.AsType[*function.Error](err); ok {
		return e
	}
	c := causeOf(err)
	return &function.Error{Op: op, Subject: "broker " + b.Name, Class: function.ClassRetry, Kind: c.kind, Err: err, Hint: c.hint}
}

func causeOf(err error) cause {
	if c, ok := certificateCause(err); ok {
		return c
	}
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return cause{"credentials", "the broker does not accept user and password: compare them with the broker's own list"}
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return cause{"client-id", "the broker does not accept our client id: allow ids that begin with mf"}
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return cause{"unavailable", "the broker is starting, stopping or full; it is tried again"}
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return cause{"version", "the broker does not speak MQTT 3.1.1"}
	case errors.Is(err, errRefusedSub):
		return cause{"subscription", "the broker's access list does not let this user read the topic"}
	case errors.Is(err, errGivenBack):
		return cause{"given-back", "see why events fail here: mayfly status"}
	case errors.Is(err, errOverloaded):
		return cause{"overloaded", "raise the function's concurrency, or spread it over more nodes"}
	case errors.Is(err, errProtocol):
		return cause{"protocol", "is this an MQTT port? tls:// and tcp:// have different ones"}
	case errors.As(err, &dns):
		return cause{"dns", "the name is not known: compare the URL with `getent hosts`"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return cause{"refused", "nothing listens there: is the broker running, is the port right?"}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return cause{"file", "the agent cannot read this file"}
	case errors.Is(err, errSilent), errors.As(err, &timeout) && timeout.Timeout():
		return cause{"timeout", "no answer: a firewall, a wrong address, or a link that is down"}
	case errors.Is(err, errTLSClosed):
		return cause{"tls-closed", "does that port speak TLS? does it want a certificate of ours (tls.cert, tls.key)? see the broker's log"}
	case hungUp(err):
		return cause{"closed", "the broker closed the connection: another client may use the same client id; see its log"}
	}
	return cause{"network", "see the broker's log"}
}

// hungUp says whether the other side closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func certificateCause(err error) (cause, bool) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return cause{"tls-expired", "the broker's certificate has expired or is not valid yet: renew it, and check this device's clock"}, true
	case errors.As(err, &unknown):
		return cause{"tls-unknown-ca", "the broker's certificate is not signed by an authority we know: set tls.ca"}, true
	case errors.As(err, &name):
		return cause{"tls-name", "the broker's certificate is for another name: set tls.server_name or use its name in the URL"}, true
	case errors.As(err, &invalid):
		return cause{"tls-invalid", "the broker's certificate is not good for this use"}, true
	case errors.As(err, &record):
		return cause{"tls-not-spoken", "that port does not speak TLS: use its TLS port, or tcp://"}, true
	case errors.As(err, &remote) && remote.Op == "remote error": // how crypto/tls reports the peer's alert
		return cause{"tls-refused", "the broker refused our certificate, or wants one: set tls.cert and tls.key"}, true
	}
	return cause{}, false
}
