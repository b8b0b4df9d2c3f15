#!/usr/bin/env bash
# Proves that orders of a command device are done once or not at all: many hosts at once, bad records, SIGKILL in a loop.
#
#   ci/orders/run.sh [SECONDS]     of SIGKILLs, default 20; KILLS=300 for at least so many
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/../lib.sh"

[[ -x $KAGAMID ]] || die "$KAGAMID is not there: cargo build --profile ci"
say "orders: $(python3 "$here/crowd.py" "$KAGAMID")"
say "orders: $(python3 "$here/kill.py" "$KAGAMID" --time "${1:-20}" --kills "${KILLS:-0}")"
say "orders: $(python3 "$here/kill.py" "$KAGAMID" --far --time "${1:-20}" --kills "${KILLS:-0}")"
say "orders: passed"
