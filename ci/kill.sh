#!/usr/bin/env bash
# Proves that no acknowledged write is lost: kagami-bench's checker reads and writes at random on several connections,
# every block stamped, while connections are cut and the target is killed and started again, over and over.
#
#   ci/kill.sh [SECONDS]         default 60; TARGET=tgt for Debian's tgtd
#   KILLS=300 ci/kill.sh         until there were so many SIGKILLs in each mode, however long that takes
#   PATIENCE=300 ci/kill.sh      for a machine on which programs are stopped now and then
#   MODES=writeback ci/kill.sh   only that cache mode (default: writeback, then writethrough, sharing the time)
#
# Two units, of 512 and of 4096-byte blocks, are in the mode's cache; nothing here knows how the target does it, only what
# its caching mode page says (WCE). With WCE=0 every acknowledged write counts as flushed.
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
wanted=${KILLS:-0}
read -ra modes <<<"${MODES:-writeback writethrough}"
[[ $TARGET == kagamid ]] || modes=("${modes[0]}")
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

# How long the checker may take to notice something; more on a machine that stops programs for a while.
patience=${PATIENCE:-60}
said() { (($(grep -c "$1" "$folder/checker.log") >= $2)); }
ended() { ! alive "$checker"; }
# Fails early when the checker ended, as it does when it found something, instead of waiting for words it will never
# say. A checker that lives and says nothing stands still, and that is a failure of its own.
wait_said() {
    local words=$1 times=$2 deadline=$((SECONDS + patience))
    until said "$words" "$times"; do
        if ended; then return 1; fi
        ((SECONDS <= deadline)) || {
            tail -n 12 "$folder/checker.log"
            die "the checker did not say '$words' for the ${times}th time within $patience s; seed $seed"
        }
        sleep 0.02
    done
}

all_kills=0 all_terms=0
# one_mode MODE SECONDS: kills under load for so long, and longer where KILLS asks for more
one_mode() {
    local mode=$1 seconds=$2 kills=0 terms=0 round=0 began=$SECONDS code=0 time=$2
    folder=$work/$mode
    target_init "$folder"
    target_lun 0 512 96 - cache="\"$mode\""
    target_lun 1 4096 96 - cache="\"$mode\""
    target_start
    local url luns
    url=iscsi://127.0.0.1:$TARGET_PORT/$(target_iqn any)/$(target_wire_lun 0)
    luns=$(target_wire_lun 0),$(target_wire_lun 1)
    # Each kill takes about a second; the checker is told to stop when there were enough.
    ((wanted == 0)) || time=$((wanted * 20 + 60))

    say "kill: $mode, seed $seed, $([[ $wanted == 0 ]] && echo "$seconds s" || echo "$wanted kills")"
    mkfifo "$folder/words"
    # Slow enough that the rest of the machine gets its turn too.
    "$KAGAMI_BENCH" verify "$url" --lun "$luns" --span 48MiB --connections 4 --time "${time}s" --cut-every 700ms \
        --reconnect "${patience}s" --seed "$seed" --state "$folder/state" --poll sleep --rate 3000 --timeout 40s \
        <"$folder/words" >"$folder/checker.log" 2>&1 &
    checker=$!
    exec 7>"$folder/words"
    while ! ended; do
        if ((wanted > 0)); then ((kills < wanted)) || break; else ((SECONDS - began < seconds - 6)) || break; fi
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
            ((kills % 50)) || say "kill: $mode: $kills kills in $((SECONDS - began)) s"
        fi
        sleep "0.0$((RANDOM % 90 + 10))"
        target_start
        if ((round % 4)); then wait_said 'crash over' "$kills" || break; fi
    done
    exec 7>&-
    # With a number of kills, the checker's own time is not over yet: it ends well on SIGTERM, and keeps what it knows.
    ((wanted == 0)) || kill -TERM "$checker" 2>/dev/null || true
    wait "$checker" || code=$?
    checker=
    tail -n 1 "$folder/checker.log"
    ((code == 0)) || {
        tail -n 12 "$folder/checker.log"
        die "$mode: the checker ended with $code after $kills kills and $terms restarts; seed $seed"
    }
    if ((wanted > 0)); then
        ((kills >= wanted)) || die "$mode: only $kills kills"
    else
        ((kills >= seconds / 8 && terms >= 1)) || die "$mode: only $kills kills and $terms restarts in $seconds s"
    fi

    target_stop || die "the target did not end well on SIGTERM"
    target_start
    "$KAGAMI_BENCH" verify "$url" --lun "$luns" --span 48MiB --check-only --state "$folder/state" --no-stdin --poll sleep ||
        die "$mode: a run after the last restart found wrong data; seed $seed"
    target_stop || die "the target did not end well on SIGTERM"
    say "kill: $mode: $kills kills, $terms restarts in $((SECONDS - began)) s, nothing lost that was flushed"
    all_kills=$((all_kills + kills)) all_terms=$((all_terms + terms))
    rm -f "$folder"/*.img
}

RANDOM=$((seed % 32768))
for mode in "${modes[@]}"; do one_mode "$mode" $((seconds / ${#modes[@]})); done
say "kill: passed in $SECONDS s, $all_kills kills, $all_terms restarts (${modes[*]})"
