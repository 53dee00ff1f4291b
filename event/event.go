// Package event holds the words for what happens: an event that came in, a message that goes out, and the
// topics both are addressed by. Pure values: no goroutine, no I/O, no clock.
//
// Attribute names are those of CloudEvents 1.0 (id, source, type, time, subject, datacontenttype, dataschema);
// topics follow MQTT 3.1.1 section 4.7.
package event

import (
	"strconv"
	"strings"
	"time"
)

// Types of events by where they came from, the CloudEvents attribute "type".
const (
	TypeMQTT   = "mayfly.mqtt.message"
	TypeHTTP   = "mayfly.http.request"
	TypeCron   = "mayfly.cron.tick"
	TypeInvoke = "mayfly.invoke" // asked for by an operator: `mayfly invoke`, `mayfly test`
)

// Event is one thing that happened. It is immutable once a source has handed it on; Data must not be written to.
type Event struct {
	ID          string    // unique per source; minted by the source when the sender gave none
	Source      string    // where it came from, a URI reference such as "mqtt://site/plant/7/temp"
	Type        string    // one of the Type constants, or what a CloudEvents sender said
	Time        time.Time // when it was received (or what a CloudEvents sender said)
	Subject     string
	ContentType string // datacontenttype
	DataSchema  string

	Broker   string // name of the configured broker it came in on; "" when it did not come by MQTT
	Topic    string // MQTT topic, or the one an HTTP request or a schedule stands for; may be empty
	QoS      byte   // 0 or 1
	Retained bool   // sent by the broker because of a subscription, not because it was just published
	Dup      bool   // the broker says it may have sent this before

	Delivery Delivery // evidence for recognising a redelivery; zero when the source has none

	TraceParent string // W3C trace context, empty when unknown
	User        []Attr // further attributes, visible to functions by what Attr.Shown says
	Captures    []Attr // what stands for the {names} of an HTTP route, visible as topic.<name>

	Data []byte
}

// Delivery is what an MQTT session knows about one delivery of a QoS 1 message. A broker that sends a message again keeps
// its packet id and sets DUP ([MQTT-4.4.0-1], [MQTT-3.3.1-1]); once acknowledged, the id is free for another message. So
// an event with Dup set is the one seen before only if Session, PacketID, topic and data are all the same.
type Delivery struct {
	Session  string // the session's client id, stable over reconnections, restarts and nodes
	Epoch    uint64 // counts the session's connections in this process, from 1; ids are never reused unacknowledged within one
	Fence    uint64 // epoch of the session's ownership in the cluster, the same as long as no other node had it; 0 = nobody else can have it
	PacketID uint16 // 1 to 65535; 0 means no evidence (QoS 0)
}

// Attr is one further attribute of an event.
type Attr struct{ Name, Value string }

// AuthPrefix begins the names of attributes that say who caused an event. Only a source that checked it gives an event such attributes; what
// senders can name has another prefix or no dot.
const AuthPrefix = "auth."

// Shown is the name by which functions know an attribute in Event.User: auth.<name> as it is, any other as user.<name>.
func (a Attr) Shown() string {
	if strings.HasPrefix(a.Name, AuthPrefix) {
		return a.Name
	}
	return "user." + a.Name
}

// Attr returns the attribute of that name as text. The names are the CloudEvents ones plus topic, qos, retained, dup,
// traceparent, auth.<name> and user.<name>. It reports false for a name that is unknown or has no value.
func (e *Event) Attr(name string) (string, bool) {
	switch name {
	case "id":
		return e.ID, e.ID != ""
	case "source":
		return e.Source, e.Source != ""
	case "type":
		return e.Type, e.Type != ""
	case "time":
		return e.Time.UTC().Format(time.RFC3339Nano), !e.Time.IsZero()
	case "subject":
		return e.Subject, e.Subject != ""
	case "datacontenttype":
		return e.ContentType, e.ContentType != ""
	case "dataschema":
		return e.DataSchema, e.DataSchema != ""
	case "topic":
		return e.Topic, e.Topic != ""
	case "qos":
		return strconv.Itoa(int(e.QoS)), true
	case "retained":
		return strconv.FormatBool(e.Retained), true
	case "dup":
		return strconv.FormatBool(e.Dup), true
	case "traceparent":
		return e.TraceParent, e.TraceParent != ""
	}
	key, own := strings.CutPrefix(name, "user.")
	if key == "" || own == strings.HasPrefix(key, AuthPrefix) { // neither kind, or user.auth.<name>
		return "", false
	}
	for _, a := range e.User {
		if a.Name == key {
			return a.Value, true
		}
	}
	return "", false
}

// Message is one thing to be said: a publish a function asked for.
type Message struct {
	Broker string // name of the configured broker; "" means the one the event came in on, or the node's default
	Topic  string
	Data   []byte
	QoS    byte // 0 or 1
	Retain bool
}
