// Package wasm runs functions: it compiles modules in a child process, keeps native code in an authenticated cache,
// instantiates a fresh sandbox for each event within limits that all are enforced, and says why a guest was ended.
// No type of the engine underneath leaves this package.
package wasm
