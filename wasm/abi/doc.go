// Package abi is what guests may call: the functions a Wasm module may import, what each of them does to one call, and
// how the call's end becomes a result. It works over data only. It knows no engine: whoever runs the guest hands over the
// number of the import, its arguments and the guest's memory. It does no I/O, except that it reads random bytes and that
// http_send hands a request to function.HTTP.
//
// README.md beside this file is the precise description for authors of guest SDKs.
package abi
