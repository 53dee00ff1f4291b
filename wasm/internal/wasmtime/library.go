package wasmtime

// The library comes with this module: its archive of libwasmtime is what binding.c is linked with. To move to another
// version change the path here and in go.mod, run the tests, and read what header_test.go has to say.
import wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

// modulePath is where the library and its headers come from.
const modulePath = "github.com/bytecodealliance/wasmtime-go/v39"

// Version is the version of libwasmtime: part of the fingerprint of native code.
const Version = "39.0.1"

// Wat2Wasm turns the text form of a module into bytes, for tests and measurements.
func Wat2Wasm(text string) ([]byte, error) { return wasmtime.Wat2Wasm(text) }
