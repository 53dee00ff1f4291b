package admission

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// headerSize is the length of "\0asm" and the version.
const headerSize = 8

// checkHeader tells a core module from everything else people put in its place.
func checkHeader(b []byte) error {
	if !bytes.HasPrefix(b, []byte("\x00asm")) {
		what, hint := looksLike(b)
		return refuse("not-wasm", errors.New("not a Wasm module: "+what), hint)
	}
	if len(b) < headerSize {
		return refuse("malformed", errTruncated, "copy or build it again")
	}
	version, layer := int(b[4])|int(b[5])<<8, int(b[6])|int(b[7])<<8
	switch {
	case layer == 1:
		return refuse("component", errors.New("a component (WASI 0.2), not a core module"),
			"build for WASI preview 1: target wasm32-wasip1 (Rust, Go: GOOS=wasip1), or without wasm-tools component new")
	case version != 1 || layer != 0:
		return refuse("malformed", fmt.Errorf("offset 4: version %d, layer %d; only version 1 of core modules is known", version, layer), "build a core module, version 1")
	}
	return nil
}

// looksLike says what a file that is not Wasm seems to be, and what to do.
func looksLike(b []byte) (what, hint string) {
	const build = "point module.path at the .wasm file that the compiler wrote"
	for _, known := range []struct{ magic, what, hint string }{
		{"\x1f\x8b", "it is gzip-compressed", "unpack it with gunzip"},
		{"\x28\xb5\x2f\xfd", "it is zstd-compressed", "unpack it with unzstd"},
		{"\x7fELF", "it is an ELF file, a native program or a precompiled module", "deploy the .wasm file: every node compiles it for itself"},
		{"PK\x03\x04", "it is a zip archive", "unpack it"},
		{"MZ", "it is a Windows program", "compile for a wasm32 target"},
		{"\xcf\xfa\xed\xfe", "it is a macOS program", "compile for a wasm32 target"},
		{"BC\xc0\xde", "it is LLVM bitcode", "link it with wasm-ld"},
		{"!<arch>", "it is a static library", "link it with wasm-ld"},
		{"#!", "it is a script", build},
		{"version https://git-lfs", "it is a Git LFS pointer", "fetch the file with git lfs pull"},
	} {
		if bytes.HasPrefix(b, []byte(known.magic)) {
			return known.what, known.hint
		}
	}
	start := strings.ToLower(string(bytes.TrimLeft(b[:min(len(b), 512)], "\ufeff \t\r\n")))
	switch {
	case len(b) == 0:
		return "it is empty", build
	case strings.HasPrefix(start, "(module"), strings.HasPrefix(start, "(component"), strings.HasPrefix(start, ";;"):
		return "it is the text format", "translate it with wat2wasm"
	case strings.HasPrefix(start, "<!doctype"), strings.HasPrefix(start, "<html"):
		return "it is an HTML page", "download the file itself, not the page that shows it"
	case strings.HasPrefix(start, "{"), strings.HasPrefix(start, "["):
		return "it seems to be JSON or TOML", build
	}
	return fmt.Sprintf("it starts with % x", b[:min(len(b), 4)]), build
}
