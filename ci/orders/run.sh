#!/usr/bin/env bash
# Proves that orders of a command device are done once or not at all: many hosts at once, bad records, SIGKILL in a loop,
# for one array and for a second one that only the first can reach; that `kagami --via` gives them; that a result survives SIGKILL, and that an array which
# forgets it is found out; that options of a group are set; and that the client in
# Python is what the document says.
#
#   ci/orders/run.sh [SECONDS]     of SIGKILLs, default 20 each; KILLS=300 for at least so many
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/../lib.sh"

KAGAMI=${KAGAMI:-$BUILD/ci/kagami}
for program in "$KAGAMID" "$KAGAMI"; do
    [[ -x $program ]] || die "$program is not there: cargo build --profile ci"
done
# prove SCRIPT ARGUMENTS...: says what it proved, and ends where it did not
prove() {
    local said script=$1
    shift
    said=$(python3 "$here/$script" "$KAGAMID" "$@")
    say "orders: $said"
}
prove document.py
prove tool.py "$KAGAMI"
prove crowd.py
prove map.py
prove replay.py
python3 "$here/options.py" "$KAGAMID" "$KAGAMI"
prove kill.py --forget --time 60
prove kill.py --time "${1:-20}" --kills "${KILLS:-0}"
prove kill.py --far --time "${1:-20}" --kills "${KILLS:-0}"
say "orders: passed"
