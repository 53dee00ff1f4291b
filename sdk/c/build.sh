#!/bin/sh
# Builds a function written in C.
#
#   build.sh f.c f.wasm              a handler for mayfly_v1, without a C library: a few hundred bytes
#   build.sh -command f.c f.wasm     an ordinary program with main(), with wasi-libc
#
# Memory starts with the stack, so that overflowing it traps instead of writing over data.
set -eu
need() { command -v "$1" >/dev/null || { echo "build.sh: $1 is missing; on Debian: apt-get install $2" >&2; exit 3; }; }

clang=${CLANG:-clang}
need "$clang" clang
need wasm-ld lld
flags="-std=c11 -Os -flto -Wall -Wextra -Werror -I$(dirname "$0") -Wl,--strip-all -Wl,--stack-first"
if [ "$1" = -command ]; then
	shift
	[ -e /usr/lib/wasm32-wasi/libc.a ] || [ -n "${WASI_SYSROOT:-}" ] || { echo "build.sh: wasi-libc is missing; on Debian: apt-get install wasi-libc libclang-rt-dev-wasm32" >&2; exit 3; }
	exec "$clang" --target=wasm32-wasi ${WASI_SYSROOT:+--sysroot="$WASI_SYSROOT"} $flags -Wl,-z,stack-size=32768 -o "$2" "$1"
fi
exec "$clang" --target=wasm32 -nostdlib -mbulk-memory $flags -Wl,--no-entry -Wl,-z,stack-size=16384 -o "$2" "$1"
