#!/usr/bin/env bash
# Shows a function at work: an agent in a temporary directory, readings in, results out. --once ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -o bin/demo ./test/demo
exec bin/demo --bin bin "$@" # exec: a signal reaches it, and through it the agent
