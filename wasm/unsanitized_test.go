//go:build !race && !asan

package wasm

const sanitized = false
