#!/usr/bin/env bash
# Proves that no acknowledged write is lost: kagami-bench's checker reads and writes at random on several connections,
# every block stamped, while connections are cut and the target is killed and started again, over and over.
#
#   ci/kill.sh [SECONDS]         default 60; TARGET=tgt for Debian's tgtd
#
# SIGKILL may lose what was acknowledged but not flushed (the checker is told before each kill), never what was flushed.
# SIGTERM, every fourth time, may lose nothing. At the end the target is started once more and a second run of the
# checker, which knows the first only by its state file, reads everything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

seconds=${1:-60}
[[ -x $KAGAMI_BENCH ]] || die "$KAGAMI_BENCH is not there: cargo build --profile ci"
seed=${SEED:-$RANDOM$RANDOM}
work=$(work_folder kill)
checker=
finish() {
    local code=$?
    [[ -z $checker ]] || kill -KILL "$checker" 2>/dev/null || true
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "kill: what was left is in $work"; fi
}
trap finish EXIT

target_init "$work/target"
target_lun 0 512 96
target_lun 1 4096 96
target_start
url=iscsi://127.0.0.1:$TARGET_PORT/$(target_iqn any)/$(target_wire_lun 0)
luns=$(target_wire_lun 0),$(target_wire_lun 1)

say "kill: seed $seed, $seconds s"
mkfifo "$work/words"
# Slow enough that the rest of the machine gets its turn too.
"$KAGAMI_BENCH" verify "$url" --lun "$luns" --span 48MiB --connections 4 --time "${seconds}s" --cut-every 700ms \
    --reconnect 60s --seed "$seed" --state "$work/state" --poll sleep --rate 3000 \
    <"$work/words" >"$work/checker.log" 2>&1 &
checker=$!
exec 7>"$work/words"

said() { (($(grep -c "$1" "$work/checker.log") >= $2)); }
ended() { ! alive "$checker"; }
# fail early when the checker found something, instead of waiting for words it will never say
wait_said() {
    local words=$1 times=$2 deadline=$((SECONDS + 60))
    until said "$words" "$times"; do
        if ended || ((SECONDS > deadline)); then return 1; fi
        sleep 0.02
    done
}

kills=0 terms=0 round=0
began=$SECONDS
RANDOM=$((seed % 32768))
while ((SECONDS - began < seconds - 6)) && ! ended; do
    sleep "0.$((RANDOM % 900 + 100))"
    round=$((round + 1))
    if ((round % 4 == 0)); then
        target_stop || die "the target did not end well on SIGTERM under load"
        terms=$((terms + 1))
    else
        echo crash >&7
        wait_said 'crash noted' $((kills + 1)) || break
        target_kill
        kills=$((kills + 1))
    fi
    sleep "0.0$((RANDOM % 90 + 10))"
    target_start
    if ((round % 4)); then wait_said 'crash over' "$kills" || break; fi
done
exec 7>&-
code=0
wait "$checker" || code=$?
checker=
tail -n 1 "$work/checker.log"
((code == 0)) || {
    tail -n 12 "$work/checker.log"
    die "the checker ended with $code after $kills kills and $terms restarts; seed $seed"
}
((kills >= seconds / 8 && terms >= 1)) || die "only $kills kills and $terms restarts in $seconds s"

target_stop || die "the target did not end well on SIGTERM"
target_start
"$KAGAMI_BENCH" verify "$url" --lun "$luns" --span 48MiB --check-only --state "$work/state" --no-stdin --poll sleep ||
    die "a run after the last restart found wrong data; seed $seed"
target_stop || die "the target did not end well on SIGTERM"
say "kill: passed in $SECONDS s, $kills kills, $terms restarts"
