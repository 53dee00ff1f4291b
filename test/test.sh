#!/usr/bin/env bash
# All tests, in two parts.
#
# Without the race detector: the engine, whose limits on memory and time are only true without it (with it, those tests run
# too, less the limits on memory); what starts other processes, which the detector does not see; what has one goroutine; whole sites in
# virtual time, which it makes ten times slower (with it, one of them runs too).
# With it: everything else, and the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin # mosquitto

failed=0
run() { "$@" || failed=1; } # everything runs, whatever failed before it

single=(mayfly/internal/arch mayfly/internal/testcluster mayfly/test/e2e)
mapfile -t parallel < <(go list ./... | grep -vxF -f <(printf '%s\n' "${single[@]}"))
run go vet ./...
run go test -shuffle=on -timeout=10m ./wasm/... "${single[@]}"
run go test -race -shuffle=on -timeout=12m "${parallel[@]}"
run go test -race -timeout=5m -run '^TestAPartitionOfGossip' ./internal/testcluster
exit $failed
