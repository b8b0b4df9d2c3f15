#!/usr/bin/env bash
# Proves that connections move between two real cores under verified load and that nothing is lost by it: a volume
# alone, of whose connections half came to the wrong core; two volumes, one at home on each core; and the same with
# connections that are cut all the time, and with digests and many commands.
#
#   ci/moves.sh [SECONDS]       of load in each of four parts, default 5
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

seconds=${1:-5}
for program in "$KAGAMID" "$KAGAMI_BENCH"; do
    [[ -x $program ]] || die "$program is not there: cargo build --profile ci -p kagamid -p kagami-bench"
done
need python3
read -ra cpus <<<"$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2])')"
# Nothing moves on a machine with one core.
((${#cpus[@]} == 2)) || die "two cores are needed"
work=$(work_folder moves)
checkers=()
finish() {
    local code=$?
    for checker in "${checkers[@]}"; do kill -KILL "$checker" 2>/dev/null || true; done
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "moves: what was left is in $work"; fi
}
trap finish EXIT

metrics_port=$(free_port)
target_init "$work/target"
TARGET_ARRAY_KEYS=("cores = [${cpus[0]}, ${cpus[1]}]" "metrics = \"127.0.0.1:$metrics_port\"" 'ram = "64MiB"' 'cache = "64MiB"')
target_lun 0 512 64 ram
target_lun 1 4096 64
target_start
url=iscsi://127.0.0.1:$TARGET_PORT/$(target_iqn any)

# counter NAME: the sum over the cores.
counter() {
    python3 - "$metrics_port" "kagami_$1" <<'END'
import sys, urllib.request
text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10).read().decode()
print(sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0] == sys.argv[2]))
END
}

# load LUNS OPTIONS...: volumes under verified load.
load() {
    local lun code
    local -a luns
    read -ra luns <<<"$1"
    shift
    checkers=()
    for lun in "${luns[@]}"; do
        "$KAGAMI_BENCH" verify "$url/$lun" --span 32MiB --connections 2 --largest 64KiB --time "${seconds}s" --poll sleep \
            --timeout 40s --no-stdin --initiator "iqn.2026-11.io.kagami:moves$lun" "$@" >"$work/checker$lun.log" 2>&1 &
        checkers+=($!)
    done
    for lun in "${luns[@]}"; do
        code=0
        wait "${checkers[$lun]}" || code=$?
        tail -n 1 "$work/checker$lun.log"
        ((code == 0)) || {
            tail -n 12 "$work/checker$lun.log"
            die "the checker of LUN $lun ended with $code"
        }
    done
    checkers=()
}

# A connection moves when it falls quiet for a moment, and the time for that is short (20 ms) and is asked for more and more
# seldom: on a machine that is busy with something else, a load may end before. Each try is checked whole.
moved=0
for try in 1 2 3 4 5 6 7 8; do
    load 0
    # Levels and counts are told a few times a second.
    sleep 0.5
    moved=$(counter connections_moved_in_total)
    say "moves: $moved moves, $(counter connection_moves_given_up_total) given up, $(counter commands_crossed_total) commands crossed"
    ((moved == 0)) || break
    say "moves: none in try $try"
done
((moved > 0)) || die "no connection moved"
load "0 1"
load "0 1" --cut-every 300ms
load "0 1" --depth 32 --digests both
sleep 0.5
moved=$(counter connections_moved_in_total)
gone=$(counter connections_moved_out_total)
((moved == gone)) || die "$gone connections went and $moved came"
none_left() { (($(counter connections) == 0)); }
wait_until 10 none_left || die "connections are left: $(counter connections)"
(($(counter digest_errors_total) == 0)) || die "digest errors"
target_stop || die "the target did not end well on SIGTERM"
say "moves: passed in $SECONDS s, $moved moves"
