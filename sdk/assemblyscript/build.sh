#!/bin/sh
# Builds a function written in AssemblyScript:  build.sh f.ts f.wasm
#
# The compiler is the one package-lock.json beside this file names. It is installed once, into the user's cache directory.
set -eu
need() { command -v "$1" >/dev/null || { echo "build.sh: $1 is missing; on Debian: apt-get install $2" >&2; exit 3; }; }
need node nodejs
need npm npm

sdk=$(realpath "$(dirname "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mayfly/assemblyscript-$(sha256sum <"$sdk/package-lock.json" | cut -c1-12)
asc=$cache/node_modules/assemblyscript/bin/asc.js
if [ ! -e "$cache/complete" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9 # several builds may start at once
	if [ ! -e "$cache/complete" ]; then
		echo "build.sh: installing the AssemblyScript compiler into $cache" >&2
		cp "$sdk/package.json" "$sdk/package-lock.json" "$cache/"
		npm ci --prefix "$cache" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
			{ echo "build.sh: npm could not install the package assemblyscript" >&2; exit 3; }
		touch "$cache/complete"
	fi
	exec 9>&-
fi
out=$(realpath -m "$2")
cd "$(dirname "$1")"
exec node "$asc" "$(basename "$1")" -o "$out" -Osize --runtime stub --exportStart _initialize \
	--use "abort=$(realpath --relative-to=. "$sdk")/mayfly/abort"
