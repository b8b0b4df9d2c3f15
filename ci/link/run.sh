#!/usr/bin/env bash
# Proves the remote link: virtual volumes under verified load, links that are cut, hang and heal, arrays that are killed,
# chains, loops, growth.
#
#   ci/link/run.sh [SECONDS]     of load in each part, default 10; KILLS=300 for at least so many SIGKILLs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/../lib.sh"

need python3 iscsi-readcapacity16
for program in "$KAGAMID" "$KAGAMI_BENCH"; do
    [[ -x $program ]] || die "$program is not there: cargo build --profile ci -p kagamid -p kagami-bench"
done
python3 "$here/prove.py" "$KAGAMID" "$KAGAMI_BENCH" --time "${1:-10}" --kills "${KILLS:-0}"
say "link: passed"
