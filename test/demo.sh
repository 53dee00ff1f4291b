#!/usr/bin/env bash
# Shows a function at work: an agent in a temporary directory, readings in, results out. --once ends by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./test/demo --bin bin "$@"
