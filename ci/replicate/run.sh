#!/usr/bin/env bash
# Proves pairs of volumes with real arrays.
#
#   ci/replicate/run.sh                    all: the life of a pair (prove.py), a death at every step of it (steps.py), full and
#                                          failing journals and disks (trouble.py), orders as an operator gives them (cycle.py),
#                                          volumes that join and grow (grow.py), pairs that are refused (refusals.py), the
#                                          demonstration (demo.py)
#   ci/replicate/run.sh prove steps        only these
#   KILLS=1000 ci/replicate/run.sh steps   until there were so many SIGKILLs, each step in turn
set -euo pipefail
# shellcheck source=ci/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need python3 mkfs.ext4 mount losetup nbdkit nbdfuse
(($#)) || set -- prove steps trouble cycle grow refusals demo
for part in "$@"; do
    began=$SECONDS
    options=()
    [[ $part != steps ]] || options=(--seconds "${STEPS_SECONDS:-60}" --kills "${KILLS:-0}")
    python3 "$ROOT/ci/replicate/$part.py" "$KAGAMID" "$KAGAMI" "${options[@]}"
    say "replicate: $part passed in $((SECONDS - began)) s"
done
say "pairs: passed in $SECONDS s"
