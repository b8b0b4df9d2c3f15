#!/usr/bin/env bash
# Pairs of volumes with real arrays: see prove.py.
set -euo pipefail
# shellcheck source=ci/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need python3
exec python3 "$ROOT/ci/replicate/prove.py" "$KAGAMID" "$KAGAMI" "$@"
