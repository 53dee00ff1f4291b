// Package peer carries calls from node to node: run a function, hand over a module, pull replicated state, ask how busy somebody
// is. HTTP/2 over mutual TLS 1.3, one connection per pair and direction, everything bounded. Who calls is what the verified
// certificate says, never what a request says.
//
// Server is the answering side, Peers the asking one, Fetcher brings modules that are not here. DESIGN.md walks through the
// failures.
package peer
