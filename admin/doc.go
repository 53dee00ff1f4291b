// Package admin is the operator's door to an agent: what is said on the wire, the server the agent opens on a unix
// socket, and the client the command line uses. Both ends live here so that they change together.
//
// The protocol is HTTP/1.1 with JSON bodies below /v1/. Requests that carry a module are multipart/form-data with a part
// "request" (JSON) before a part "module" (the bytes). Answers that go on (logs, events, messages, the progress of a
// deployment) are newline-delimited JSON, one Frame per line. A reader that is too slow loses records and is told how many;
// it never holds up the agent.
//
// Within /v1/ fields are only added. A client ignores fields it does not know; the server refuses them, because a request
// with a misspelt field would otherwise do something else than was asked for.
//
// The package links neither the sandbox engine nor the store, so the command line stays pure Go.
package admin
