#!/bin/bash
# Compares kagamid with Debian's tgtd, or with the floor (the least that any target must do), side by
# side on this machine; see bench/README.md.
#
#   bench/rival/run.sh                        all workloads, 3 rounds of 4 s each way
#   bench/rival/run.sh -n 5 -t 5s 4k-read     five rounds of 5 s of one workload
#   bench/rival/run.sh --against floor        how much of what the machine allows is reached
#   bench/rival/run.sh --list                 the workloads and their commands
#
# Runs alternate (A B A B ...), the one that is not measured is stopped meanwhile, the table has
# medians and their ratio. Needs no configuration: builds what it measures, installs tgt if it is
# missing, uses 127.0.0.1 only, and cleans up after itself.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
rounds=3
seconds=4s
warmup=1s
target_core=0
load_core=1
idle=adaptive
low=
rival=tgtd
keep=
port_a=${KAGAMI_PORT:-13360}
port_b=${RIVAL_PORT:-13361}
control=${RIVAL_CONTROL:-360}
size=256MiB

# name | unit | what kagami-bench is told | multiple of tgtd to reach
workloads='
4k-read        | ram  | --block 4KiB --read 100 --connections 4 --depth 32   | 30
4k-write       | ram  | --block 4KiB --read 0 --connections 4 --depth 32     | 25
4k-70-30       | ram  | --block 4KiB --read 70 --connections 4 --depth 32    |
4k-read-null   | null | --block 4KiB --read 100 --connections 4 --depth 32   |
4k-write-null  | null | --block 4KiB --read 0 --connections 4 --depth 32     |
64k-read       | ram  | --block 64KiB --read 100 --connections 2 --depth 8   | 5
64k-write      | ram  | --block 64KiB --read 0 --connections 2 --depth 8     |
64k-read-null  | null | --block 64KiB --read 100 --connections 2 --depth 8   |
256k-read-null | null | --block 256KiB --read 100 --connections 2 --depth 8  |
256k-write-null| null | --block 256KiB --read 0 --connections 2 --depth 8    |
4k-digests     | ram  | --block 4KiB --read 100 --connections 4 --depth 32 --digests both |
4k-depth-1     | ram  | --block 4KiB --read 100 --connections 1 --depth 1    |
'

usage() {
    sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    cat <<END
Options:
  -n, --rounds N        runs of each (default $rounds)
  -t, --time TIME       measured time of a run (default $seconds)
  -w, --warmup TIME     before each (default $warmup)
      --target-core N   core of the target (default $target_core)
      --load-core N     core of the generator (default $load_core)
      --idle MODE       kagamid's idle policy: adaptive or spin (default $idle)
      --against NAME    tgtd, or floor: a server without a storage stack (default $rival)
      --out FILE        keep every run's JSON report, one a line
      --list            list the workloads
Ports and tgtd's control number: KAGAMI_PORT, RIVAL_PORT, RIVAL_CONTROL.
END
}

fail() { echo "run.sh: $*" >&2; exit "${code:-1}"; }

each_workload() { # calls $1 with name, unit, arguments, multiple
    local name unit arguments multiple
    while IFS='|' read -r name unit arguments multiple; do
        name=${name// /}
        [ -n "$name" ] || continue
        [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" $name "* ]] || continue
        "$1" "$name" "${unit// /}" "$(xargs <<<"$arguments")${low:+ --depth-low $low}" "${multiple// /}"
    done <<<"$workloads"
}

chosen=()
list=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        -n | --rounds) rounds=$2; shift 2 ;;
        -t | --time) seconds=$2; shift 2 ;;
        -w | --warmup) warmup=$2; shift 2 ;;
        --target-core) target_core=$2; shift 2 ;;
        --load-core) load_core=$2; shift 2 ;;
        --idle) idle=$2; shift 2 ;;
        --low) low=$2; shift 2 ;;
        --against)
            [[ $2 = tgtd || $2 = floor ]] || code=2 fail "--against tgtd or floor, not $2"
            rival=$2; shift 2 ;;
        --out) keep=$2; shift 2 ;;
        --list) list=1; shift ;;
        -*) code=2 fail "unknown option $1; see --help" ;;
        *) grep -q "^$1 *|" <<<"$workloads" || code=2 fail "unknown workload $1; see --list"
           chosen+=("$1"); shift ;;
    esac
done

show() { printf '%-16s %-5s kagami-bench load URL %s\n' "$1" "$2" "$3"; }
if [ -n "$list" ]; then each_workload show; exit 0; fi

# --- what is measured -------------------------------------------------------------------------

cd "$root"
if [ "$rival" = tgtd ] && ! { command -v tgtd && command -v tgtadm; } >/dev/null; then
    echo "installing tgt ..." >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends tgt >/dev/null ||
        fail "tgt is not installed and cannot be; apt-get install tgt"
fi
tgtd=$(command -v tgtd || true)
echo "building ..." >&2
cargo build --release -q -p kagami-bench -p kagamid --bin kagami-bench --bin kagamid
if [ "$rival" = floor ]; then cargo build --release -q -p kagami-bench --example floor; fi
binaries=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
bench=$binaries/kagami-bench

work=$(mktemp -d)
store=$(mktemp /dev/shm/kagami-rival.XXXXXX)
pid_a=
pid_b=
clean_up() {
    trap - EXIT INT TERM
    for pid in $pid_a $pid_b; do
        kill -CONT "$pid" 2>/dev/null || true
    done
    if [ -n "$pid_b" ] && [ "$rival" = tgtd ]; then
        tgtadm -C "$control" --lld iscsi --op delete --force --mode target --tid 1 >/dev/null 2>&1 || true
        tgtadm -C "$control" --op delete --mode system >/dev/null 2>&1 || true
    fi
    for pid in $pid_a $pid_b; do
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 30); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$work" "$store"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start_subject() {
    cat >"$work/kagami.toml" <<END
[array]
name   = "bench"
iqn    = "iqn.2026-11.io.kagami:bench"
data   = "$work/data"
listen = ["127.0.0.1:$port_a"]
cores  = [$target_core]
cache  = "256MiB"
admin  = "$work/admin.sock"
metrics = "127.0.0.1:0"
idle   = "$idle"

[[volume]]
lun  = 0
name = "ram"
backend = "ram"
size = "$size"

[[volume]]
lun  = 1
name = "null"
backend = "null"
size = "$size"
END
    mkdir -p "$work/data"
    command_a="kagamid --config kagami.toml"
    "$binaries/kagamid" --config "$work/kagami.toml" >"$work/a.log" 2>&1 &
    pid_a=$!
    disown
    for _ in $(seq 100); do
        grep -q '^ready' "$work/a.log" && break
        kill -0 "$pid_a" 2>/dev/null || fail "kagamid did not start: $(tail -1 "$work/a.log")"
        sleep 0.1
    done
    url_ram=iscsi://127.0.0.1:$port_a/iqn.2026-11.io.kagami:bench/0
    url_null=iscsi://127.0.0.1:$port_a/iqn.2026-11.io.kagami:bench/1
}

tgt() { tgtadm -C "$control" --lld iscsi "$@"; }

start_rival() {
    if [ "$rival" = floor ]; then
        command_b="taskset -c $target_core floor 127.0.0.1:$port_b ${size%MiB}"
        taskset -c "$target_core" "$binaries/examples/floor" "127.0.0.1:$port_b" "${size%MiB}" >"$work/b.log" 2>&1 &
        pid_b=$!
        disown
        rival_ram=iscsi://127.0.0.1:$port_b/iqn.2026-11.io.kagami:fake/0
        rival_null=iscsi://127.0.0.1:$port_b/iqn.2026-11.io.kagami:fake/1
        for _ in $(seq 50); do
            grep -q iscsi "$work/b.log" && return
            sleep 0.1
        done
        fail "the floor did not start: $(tail -1 "$work/b.log")"
    fi
    truncate -s "${size%iB}" "$store"
    command_b="taskset -c $target_core tgtd -f -C $control --iscsi portal=127.0.0.1:$port_b"
    taskset -c "$target_core" "$tgtd" -f -C "$control" --iscsi portal=127.0.0.1:"$port_b" >"$work/b.log" 2>&1 &
    pid_b=$!
    disown
    for _ in $(seq 50); do
        tgt --op show --mode system >/dev/null 2>&1 && break
        kill -0 "$pid_b" 2>/dev/null || fail "tgtd did not start: $(tail -1 "$work/b.log")"
        sleep 0.1
    done
    tgt --op new --mode target --tid 1 -T iqn.2026-11.io.kagami:rival
    tgt --op new --mode logicalunit --tid 1 --lun 1 -b "$store"
    # tgtd's own null device where it has one, else its file.
    null_lun=1
    if tgt --op new --mode logicalunit --tid 1 --lun 2 --bstype null -b "$store" 2>/dev/null; then null_lun=2; fi
    # Its best: as much unasked data, and as large segments, as kagamid takes.
    for pair in MaxRecvDataSegmentLength=262144 MaxXmitDataSegmentLength=262144 FirstBurstLength=262144 \
        MaxBurstLength=1048576 InitialR2T=No ImmediateData=Yes HeaderDigest=None,CRC32C DataDigest=None,CRC32C; do
        tgt --op update --mode target --tid 1 --name "${pair%%=*}" --value "${pair#*=}" || true
    done
    tgt --op bind --mode target --tid 1 -I ALL
    rival_ram=iscsi://127.0.0.1:$port_b/iqn.2026-11.io.kagami:rival/1
    rival_null=iscsi://127.0.0.1:$port_b/iqn.2026-11.io.kagami:rival/$null_lun
}

# --- measuring --------------------------------------------------------------------------------

run() { # which target, URL, arguments: prints the report on one line
    local which=$1 url=$2 pid other status=0
    shift 2
    if [ "$which" = a ]; then pid=$pid_a other=$pid_b; else pid=$pid_b other=$pid_a; fi
    kill -STOP "$other"
    "$bench" load "$url" --core "$load_core" --time "$seconds" --warmup "$warmup" --target-pid "$pid" --json \
        "$@" >"$work/report" 2>"$work/error" || status=$?
    kill -CONT "$other"
    [ $status -eq 0 ] || { echo "run.sh: $(cat "$work/error")" >&2; return 1; }
    tr -d '\n' <"$work/report"
    echo
}

value() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }

median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2); else print "-" }'; }

of() { value "$2" <"$work/$1" | median; }

heading() {
    printf '%-16s %12s %12s %7s %6s  %9s %9s  %9s %9s  %7s\n' "" kagamid "$rival" ratio goal \
        "p50 us" "$rival" "us/IO" "$rival" "gen us"
}

compare() {
    local name=$1 unit=$2 arguments=$3 multiple=$4 url other
    if [ "$unit" = null ]; then url=$url_null other=$rival_null; else url=$url_ram other=$rival_ram; fi
    if [ "$rival" = floor ]; then
        # It computes no digests.
        [ "$name" != 4k-digests ] || return 0
        multiple=0.85
    fi
    : >"$work/$name.a"
    : >"$work/$name.b"
    for _ in $(seq "$rounds"); do
        # shellcheck disable=SC2086
        run a "$url" $arguments >>"$work/$name.a" || break
        # shellcheck disable=SC2086
        run b "$other" $arguments >>"$work/$name.b" || break
    done
    if [ -n "$keep" ]; then
        for which in a b; do sed "s|^{|{\"run\": \"$name\", \"target\": \"$which\", |" "$work/$name.$which" >>"$keep"; done
    fi
    local a b
    a=$(of "$name.a" iops)
    b=$(of "$name.b" iops)
    printf '%-16s %12s %12s %7s %6s  %9s %9s  %9s %9s  %7s\n' "$name" \
        "$(awk -v v="$a" 'BEGIN { if (v == "-") print v; else printf "%.0f", v }')" \
        "$(awk -v v="$b" 'BEGIN { if (v == "-") print v; else printf "%.0f", v }')" \
        "$(awk -v a="$a" -v b="$b" 'BEGIN { if (a + 0 && b + 0) printf "%.2f", a / b; else print "-" }')" \
        "${multiple:--}" \
        "$(of "$name.a" latency_p50_us)" "$(of "$name.b" latency_p50_us)" \
        "$(of "$name.a" target_cpu_us_per_io | awk '{ printf "%.2f", $1 }')" \
        "$(of "$name.b" target_cpu_us_per_io | awk '{ printf "%.2f", $1 }')" \
        "$(of "$name.a" generator_cpu_us_per_io | awk '{ printf "%.2f", $1 }')"
}

show_command() {
    echo "  $1: kagami-bench load URL $3 --core $load_core --time $seconds --warmup $warmup"
}

start_subject
start_rival
# Every page of the memory that is read later is there.
for url in "$url_ram" "$rival_ram"; do
    "$bench" load "$url" --block 256KiB --read 0 --pattern seq --connections 1 --depth 4 --warmup 0s --time 1500ms \
        >/dev/null || fail "cannot write to $url"
done

echo "$(uname -sr), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg); target on core $target_core, generator on core $load_core"
echo "$rounds alternating runs of $seconds each; medians"
echo
heading
each_workload compare
echo
echo "commands ($command_a; $command_b):"
each_workload show_command
