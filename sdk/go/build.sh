#!/bin/sh
# Builds a function written in Go:  build.sh directory f.wasm
#
# A program that exports mayfly_handle is built as a reactor; one that does not is an ordinary program with main().
set -eu
command -v go >/dev/null || { echo "build.sh: Go is missing; version 1.24 or later is needed" >&2; exit 3; }
out=$(realpath -m "$2")
cd "$1"
mode=exe
grep -qs '^//go:wasmexport mayfly_handle' -- *.go && mode=c-shared
GOOS=wasip1 GOARCH=wasm GOFLAGS= exec go build -buildmode=$mode -buildvcs=false -trimpath -ldflags='-s -w' -o "$out" .
