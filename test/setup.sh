#!/usr/bin/env bash
# Checks that this machine has what a make target needs, and installs what is missing from Debian's packages.
#
#   test/setup.sh run|test|hosts|check
#
# Go and a C compiler are asked for, not installed: which ones is your decision.
set -euo pipefail

packages=() # missing Debian packages
reasons=()  # what each is for

want() { # package, what for, test
	local package=$1 reason=$2
	shift 2
	"$@" >/dev/null 2>&1 && return
	packages+=("$package")
	reasons+=("$package ($reason)")
}
has() { command -v "$1" >/dev/null 2>&1; }
rust_wasm() {
	local rustc
	for rustc in ${RUSTC:-rustc /usr/bin/rustc}; do
		ls "$("$rustc" --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)"/libcore-*.rlib >/dev/null 2>&1 && return
	done
	return 1
}
clang_builtins() { ls "$(clang -print-resource-dir)"/lib/wasi/libclang_rt.builtins-wasm32.a; }

need_go() {
	if ! has go; then
		echo "setup: Go is missing. Mayfly needs version 1.26 or later, on the PATH." >&2
		exit 1
	fi
	local version
	version=$(GOTOOLCHAIN=local go env GOVERSION)
	if [ "$(printf '%s\n' go1.26 "$version" | sort -V | head -1)" != go1.26 ]; then
		echo "setup: $version is too old. Mayfly needs Go 1.26 or later." >&2
		exit 1
	fi
	if ! has "${CC:-gcc}"; then
		echo "setup: a C compiler is missing (the sandbox engine is a C library). On Debian: apt-get install gcc libc6-dev" >&2
		exit 1
	fi
}

need_tests() {
	want mosquitto "a broker to test against" test -n "$(PATH=$PATH:/usr/sbin command -v mosquitto)"
	want clang "functions written in C" has clang
	want lld "functions written in C" has wasm-ld
	want wasi-libc "programs written in C" test -e /usr/lib/wasm32-wasi/libc.a
	want libclang-rt-dev-wasm32 "programs written in C" clang_builtins
	want rustc "functions written in Rust" rust_wasm
	want libstd-rust-dev-wasm32 "functions written in Rust" rust_wasm
	want nodejs "functions written in AssemblyScript" has node
	want npm "functions written in AssemblyScript" has npm
	want wabt "hostile modules" has wat2wasm
	want docker-registry "a registry for functions" has docker-registry
	want systemd "systemd-analyze, which judges the unit" has systemd-analyze
}

need_hosts() {
	want iproute2 "network namespaces" has ip
}

need_check() {
	want gcc-aarch64-linux-gnu "the agent for arm64" has aarch64-linux-gnu-gcc
	want libc6-dev-arm64-cross "the agent for arm64" test -e /usr/aarch64-linux-gnu/include/stdio.h
}

install() {
	[ ${#packages[@]} -gt 0 ] || return 0
	local command=(apt-get install -y --no-install-recommends "${packages[@]}") as=()
	if ! has apt-get; then
		echo "setup: missing, and there is no apt-get to install it with:" >&2
		printf '  %s\n' "${reasons[@]}" >&2
		exit 1
	fi
	if [ "$(id -u)" != 0 ]; then
		if ! has sudo; then
			echo "setup: missing:" >&2
			printf '  %s\n' "${reasons[@]}" >&2
			echo "As root: apt-get update && ${command[*]}" >&2
			exit 1
		fi
		as=(sudo)
		echo "setup: sudo is needed to install Debian packages:" >&2
	else
		echo "setup: installing Debian packages:" >&2
	fi
	printf '  %s\n' "${reasons[@]}" >&2
	"${as[@]}" apt-get update -q >&2
	DEBIAN_FRONTEND=noninteractive "${as[@]}" "${command[@]}" >&2
}

case ${1:-} in
run) need_go ;;
test) need_go && need_tests ;;
hosts) need_go && need_tests && need_hosts ;;
check) need_go && need_tests && need_check ;;
*)
	echo "usage: test/setup.sh run|test|hosts|check" >&2
	exit 2
	;;
esac
install
