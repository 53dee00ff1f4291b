#!/usr/bin/env bash
# All tests: first the engine without the race detector, which its C code slows down too much to measure limits, then
# everything with it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin # mosquitto

go vet ./...
go test -shuffle=on -timeout=5m ./wasm/...
go test -race -shuffle=on -timeout=12m ./...
