#!/usr/bin/env bash
# Proves run-time management with the programs themselves: volumes are made, grown, renamed, masked and removed with
# `kagami` while kagami-bench does verified I/O on another volume; then SIGKILL, a restart, and everything is there.
#
#   ci/manage/run.sh [SECONDS]       of verified load, default 20
#
# Nothing of it may disturb the load: the checker ends with 0 commands lost and no wrong block.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

seconds=${1:-20}
KAGAMI=${KAGAMI:-$BUILD/ci/kagami}
for program in "$KAGAMID" "$KAGAMI_BENCH" "$KAGAMI"; do
    [[ -x $program ]] || die "$program is not there: cargo build --profile ci -p kagamid -p kagami-bench -p kagami"
done
need python3
work=$(work_folder manage)
checker=
finish() {
    local code=$?
    [[ -z $checker ]] || kill -KILL "$checker" 2>/dev/null || true
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "manage: what was left is in $work"; fi
}
trap finish EXIT

target_init "$work/target"
TARGET_ARRAY_KEYS=('ram = "32MiB"' 'cache = "64MiB"')
target_lun 0 512 64
target_start
url=iscsi://127.0.0.1:$TARGET_PORT/$(target_iqn any)
export KAGAMI_VIA=unix:$TARGET_DIR/admin.sock
kagami() { "$KAGAMI" "$@"; }
# The kernel may keep a killed array's port open for a moment, so an open port is not enough.
answers() { wait_until 30 "$KAGAMI" arrays || die "nobody answers at $KAGAMI_VIA"; }
answers

# refused CODE WORDS COMMAND...: ends with that exit code and one line that has the words.
refused() {
    local want=$1 words=$2 code=0 said
    shift 2
    said=$("$@" 2>&1 >/dev/null) || code=$?
    ((code == want)) || die "exit code $code instead of $want: $* ($said)"
    [[ $said == *"$words"* && $(wc -l <<<"$said") -eq 1 ]] || die "not one line with '$words': $said"
}

# json EXPRESSION COMMAND...: what a Python expression makes of the JSON `j` that the command prints.
json() {
    local expression=$1
    shift
    "$@" --json | python3 -c "import json, sys; j = json.load(sys.stdin); print($expression)"
}

steps() { json '" ".join("%d:%s:%d" % (v["lun"], v["name"], v["size_bytes"] >> 20) for v in j["volumes"])' kagami volumes; }

[[ $(json 'j["schema"]' kagami arrays) == 1 ]] || die "no schema"
[[ $(stat -c %a "$TARGET_DIR/admin.sock") == 600 ]] || die "the admin socket is open to others"

say "manage: verified load for $seconds s"
"$KAGAMI_BENCH" verify "$url/0" --span 48MiB --connections 2 --time "${seconds}s" --poll sleep --rate 2000 --timeout 40s --no-stdin \
    --state "$work/state" >"$work/checker.log" 2>&1 &
checker=$!

round=0 deadline=$((SECONDS + seconds - 4))
while ((SECONDS < deadline)) && alive "$checker"; do
    round=$((round + 1))
    kagami volume create "file$round" --size 8MiB >/dev/null
    kagami volume create "ram$round" --backend ram --size 8MiB >/dev/null
    kagami volume grow "file$round" --size 16MiB >/dev/null
    kagami volume grow "ram$round" --size 16MiB >/dev/null
    kagami volume rename "file$round" "log$round" >/dev/null
    # The checker's session sees them, as no initiator is listed.
    refused 3 'is in use' kagami volume remove "ram$round"
    kagami volume remove "ram$round" --force >/dev/null
    ((round == 1)) || kagami volume remove "log$round" --force >/dev/null
    refused 3 'belongs to' kagami volume remove v0 --force
    sleep 0.2
done
code=0
wait "$checker" || code=$?
checker=
tail -n 1 "$work/checker.log"
((code == 0)) || {
    tail -n 12 "$work/checker.log"
    die "the checker ended with $code after $round rounds"
}
((round >= 3)) || die "only $round rounds"

# Masks, with nobody logged in.
host=iqn.2026-11.io.kagami:ci-host
kagami initiator add "$host" --luns 0 >/dev/null
kagami volume unmask log1 "$host" >/dev/null
refused 3 'sees volume' kagami volume unmask log1 "$host"
kagami volume mask log1 "$host" >/dev/null
kagami volume unmask log1 "$host" >/dev/null
kagami peer add osaka --iqn iqn.2026-11.io.kagami:osaka --portal 127.0.0.1:9 --io-timeout 10s >/dev/null
refused 2 'no volume' kagami volume grow nobody --size 1GiB
refused 2 'is no size' kagami volume create x --size 10GB
refused 5 'admin socket' kagami --via unix:/nonexistent volumes

before=$(steps)
target_kill
refused 5 'no array listens' kagami volumes
target_start
answers
[[ $(steps) == "$before" ]] || die "before the kill: $before; after it: $(steps)"
[[ $(json 'j["initiators"][0]["luns"]' kagami initiator list) == '[0, 1]' ]] || die "the mask is lost"
[[ $(json 'j["peers"][0]["name"]' kagami peer list) == osaka ]] || die "the peer is lost"
kagami events | grep -q "rename volume file1 to log1" || die "no event of the renaming"
kagami stats | grep -q '^0 .*v0' || die "no statistics"

# Killed in the middle of changes, again and again: what was answered is there, what was not is wholly there or not at
# all, and the array starts.
for round in 1 2 3 4 5; do
    (
        # The killed array ends it.
        for i in $(seq 1 500); do
            kagami volume create "k$round-$i" --backend null --size 1MiB >/dev/null 2>&1 || exit 0
            echo "+k$round-$i"
            ((i % 3)) || { kagami volume remove "k$round-$i" >/dev/null 2>&1 && echo "-k$round-$i"; } || exit 0
        done
    ) >"$work/acknowledged" &
    changer=$!
    sleep "0.$((RANDOM % 800 + 150))"
    target_kill
    wait "$changer" || true
    target_start
    answers
    kagami volumes --json >"$work/volumes.json"
    python3 - "$work/acknowledged" "$work/volumes.json" <<'END' || die "round $round of kills"
import json, sys
lines = open(sys.argv[1]).read().split()
there = {volume["name"] for volume in json.load(open(sys.argv[2]))["volumes"]}
gone = {line[1:] for line in lines if line[0] == "-"}
made = {line[1:] for line in lines if line[0] == "+"} - gone
# The last one may have been removed without an answer.
lost = made - there
asked = {line[1:] for line in lines[-1:] if line[0] == "+" and int(line.rsplit("-", 1)[1]) % 3 == 0}
sys.exit(f"lost: {lost - asked}; back: {gone & there}" if lost - asked or gone & there else 0)
END
    say "manage: kill $round, $(grep -c '^+' "$work/acknowledged") volumes made before it"
    for name in $(python3 -c 'import json, sys; print(*[v["name"] for v in json.load(open(sys.argv[1]))["volumes"] if v["name"][0] == "k"])' "$work/volumes.json"); do
        kagami volume remove "$name" >/dev/null
    done
done
kagami volume create back --size 8MiB >/dev/null

# Everything as one file, which kagamid takes; the load's data are still right.
kagami config export >"$work/export.toml"
"$KAGAMID" --config "$work/export.toml" --check >"$work/check.log" 2>&1 || {
    cat "$work/check.log"
    die "the export is not taken"
}
kagami initiator remove "$host" --force >/dev/null
"$KAGAMI_BENCH" verify "$url/0" --span 48MiB --check-only --state "$work/state" --no-stdin --poll sleep ||
    die "the data are not what they were"
target_stop || die "the target did not end well on SIGTERM"
[[ ! -e $TARGET_DIR/admin.sock ]] || die "the admin socket was left behind"
say "manage: passed in $SECONDS s, $round rounds"
