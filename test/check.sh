#!/usr/bin/env bash
# The gate. Every step runs, whatever the ones before it said; nothing in the tree is changed.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin
failed=()

step() { # name, command...
	local name=$1 start=$SECONDS
	shift
	if "$@"; then
		echo "check: $name: ok ($((SECONDS - start)) s)"
	else
		echo "check: $name: FAILED" >&2
		failed+=("$name")
	fi
}

tool() { go tool -modfile=internal/tools.mod "$@"; }
quiet() { # succeeds when a command prints nothing
	local out
	out=$("$@") || return
	[ -z "$out" ] || { printf '%s\n' "$out"; return 1; }
}

sources() { git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ -e "$f" ] && echo "$f"; done; }
formatted() { sources | xargs go tool -modfile=internal/tools.mod gofumpt -l; }
arm64() { CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc go build -o /dev/null ./cmd/mayflyd; }
pure() {
	local arch
	for arch in amd64 arm64 arm; do CGO_ENABLED=0 GOARCH=$arch GOARM=7 go build -o /dev/null ./cmd/mayfly || return; done
	CGO_ENABLED=0 GOARCH=arm GOARM=7 go vet ./cmd/mayfly/... # 64-bit atomics and int overflow on a 32-bit machine
}

generated() { # in copies, so that nothing here changes
	local copies same=0
	copies=$(mktemp -d) && mkdir "$copies/before" || return
	sources_and_all | tar --null -T - -c | tar -x -C "$copies/before" &&
		cp -r "$copies/before" "$copies/after" &&
		(cd "$copies/after" && go generate ./...) &&
		diff -r "$copies/before" "$copies/after" || same=1
	rm -rf "$copies"
	return $same
}
sources_and_all() { git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do [ -e "$f" ] && printf '%s\0' "$f"; done; }

before=$(git status --porcelain)
step "format" quiet formatted
step "vet" go vet ./...
step "modernise" quiet go fix -diff ./...
step "go.mod is tidy" go mod tidy -diff
step "shape" go test -count=1 ./internal/arch
step "lint" tool golangci-lint run
step "agent for arm64" arm64
step "command line without cgo" pure
step "generated files" generated
step "fuzz smoke" test/fuzz.sh "${FUZZTIME:-10s}"
step "the tree is as it was" test "$before" = "$(git status --porcelain)"

if [ ${#failed[@]} -gt 0 ]; then
	printf 'check: failed: %s\n' "${failed[*]}" >&2
	exit 1
fi
echo "check: all is well"
