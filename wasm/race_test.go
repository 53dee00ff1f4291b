//go:build race

package wasm

// raceDetector says that these tests, and so the compiler they start, carry the race detector, whose own memory is far
// beyond what the compiler may have. Limits on memory are then not set, nor tested.
const raceDetector = true
