#!/usr/bin/env bash
# All tests, in two parts.
#
# Without the race detector: the engine, whose limits on memory and time are only true without it (with it, those tests run
# too, less the limits on memory); what starts other processes, which the detector does not see; what has one goroutine.
# With it: everything else, and the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin # mosquitto

go vet ./...
single=(mayfly/internal/arch mayfly/test/e2e)
go test -shuffle=on -timeout=10m ./wasm/... "${single[@]}"
go list ./... | grep -vxF -f <(printf '%s\n' "${single[@]}") | xargs go test -race -shuffle=on -timeout=12m
