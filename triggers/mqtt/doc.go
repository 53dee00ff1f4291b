// Package mqtt brings messages from MQTT brokers in as events, acknowledges them when they are safe, and publishes what
// functions say.
//
// A Session is a triggers.Source: events are handed over in the order received, acknowledged in that order and not before they
// are settled without an error (promises D1 and D5); what is not acknowledged the broker sends again. A Publisher confirms a
// message only when the broker has. Both reconnect for ever, report why they are not connected, and bound their memory
// whatever a broker sends. MQTT 3.1.1 only; QoS 0 and 1.
//
// It is the only package that knows the client library. DESIGN.md says what is left to the library, and walks the failures.
package mqtt
