#!/bin/sh
# Runs the tests of the C binding, and those that drive it hardest, under AddressSanitizer with leak detection. First it
# sees for itself that the sanitizer of this compiler finds what it should.
set -eu
cd "$(dirname "$0")/.."
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
printf '#include <stdlib.h>\nint main(int n, char **v) { char *p = malloc(n); (void)v; return p[n + 1]; }\n' >"$probe/bad.c"
"${CC:-gcc}" -fsanitize=address -o "$probe/bad" "$probe/bad.c"
if "$probe/bad" 2>/dev/null; then
	echo "AddressSanitizer of ${CC:-gcc} does not find an overflow" >&2
	exit 1
fi
go test -asan -count=1 ./wasm/internal/wasmtime
go test -asan -count=1 -run 'Invoke|Command|Reuse|Kept|Concurrent|Wild|TrapStorm|Close|Loaded|Unusable' ./wasm
echo "AddressSanitizer: no findings"
