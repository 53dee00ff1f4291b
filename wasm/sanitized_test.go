//go:build race || asan

package wasm

// sanitized says that these tests, and so the compiler they start, carry a sanitizer, whose own memory is far
// beyond what the compiler may have. Limits on memory are then not set, nor tested.
const sanitized = true
