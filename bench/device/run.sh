#!/usr/bin/env bash
# Compares kagamid on a device or file with fio (io_uring, registered files and buffers, direct) on the same one, with as
# many operations in flight: what the way through iSCSI, device server, cache and disk controller costs where the device
# is the limit. Goals (docs): random read miss within 5 % of fio, sequential read at least 95 %.
#
#   bench/device/run.sh                             a file of 2 GiB, all workloads, cache = "none"
#   bench/device/run.sh --cache writeback,none      in these cache modes, one after the other
#   bench/device/run.sh --on /dev/nvme1n1           on a block device: WHAT IS ON IT IS OVERWRITTEN
#   bench/device/run.sh -n 5 -t 5 4k-randread       five rounds of 5 s of one workload
#   bench/device/run.sh --list                      the workloads and their commands
#
# Runs alternate (fio, kagamid, fio, kagamid ...), the one that is not measured is stopped meanwhile; the table has medians
# and their ratio. The file is written once before, so that nothing is measured on holes; the memory of the array is
# 96 MiB, so that random reads miss. Needs fio and python3; programs are built, or named by KAGAMID and KAGAMI_BENCH.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
rounds=3 seconds=4 caches=none on='' size_mib=2048 target_core=0 load_core=1
port=${KAGAMI_PORT:-13370}

# name | fio's part | kagami-bench's part | percent of fio to reach
workloads='
4k-randread  | --rw=randread --bs=4k --iodepth=128   | --block 4KiB --read 100 --connections 4 --depth 32 --poll sleep | 95
4k-randread-1| --rw=randread --bs=4k --iodepth=1     | --block 4KiB --read 100 --connections 1 --depth 1              |
4k-randwrite | --rw=randwrite --bs=4k --iodepth=128  | --block 4KiB --read 0 --connections 4 --depth 32               |
64k-read     | --rw=read --bs=64k --iodepth=32       | --block 64KiB --read 100 --pattern seq --connections 1 --depth 32 | 95
128k-read    | --rw=read --bs=128k --iodepth=16      | --block 128KiB --read 100 --pattern seq --connections 1 --depth 16 | 95
128k-read-1  | --rw=read --bs=128k --iodepth=1       | --block 128KiB --read 100 --pattern seq --connections 1 --depth 1 | 95
128k-read-4  | --rw=read --bs=128k --iodepth=4       | --block 128KiB --read 100 --pattern seq --connections 1 --depth 4 | 95
128k-read-32 | --rw=read --bs=128k --iodepth=32      | --block 128KiB --read 100 --pattern seq --connections 1 --depth 32 | 95
1m-read      | --rw=read --bs=1m --iodepth=4         | --block 1MiB --read 100 --pattern seq --connections 1 --depth 4 | 95
1m-read-1    | --rw=read --bs=1m --iodepth=1         | --block 1MiB --read 100 --pattern seq --connections 1 --depth 1 | 95
128k-write   | --rw=write --bs=128k --iodepth=16     | --block 128KiB --read 0 --pattern seq --connections 1 --depth 16 |
'

fail() { echo "run.sh: $*" >&2; exit "${code:-1}"; }

chosen=() list=
while (($#)); do
    case $1 in
        -h | --help) sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        -n | --rounds) rounds=$2; shift 2 ;;
        -t | --time) seconds=${2%s}; shift 2 ;;
        --cache) caches=$2; shift 2 ;;
        --on) on=$2; shift 2 ;;
        --size) size_mib=$2; shift 2 ;;
        --target-core) target_core=$2; shift 2 ;;
        --load-core) load_core=$2; shift 2 ;;
        --list) list=1; shift ;;
        -*) code=2 fail "unknown option $1; see --help" ;;
        *) grep -q "^$1 *|" <<<"$workloads" || code=2 fail "unknown workload $1; see --list"
           chosen+=("$1"); shift ;;
    esac
done

each_workload() { # calls $1 with name, fio's part, kagami-bench's part, goal
    local name ours theirs goal
    while IFS='|' read -r name theirs ours goal; do
        name=${name// /}
        [[ -n $name ]] || continue
        ((${#chosen[@]} == 0)) || [[ " ${chosen[*]} " == *" $name "* ]] || continue
        "$1" "$name" "$(xargs <<<"$theirs")" "$(xargs <<<"$ours")" "${goal// /}"
    done <<<"$workloads"
}
show() { printf '%-14s fio %s\n%-14s kagami-bench load URL %s\n' "$1" "$2" '' "$3"; }
if [[ -n $list ]]; then each_workload show; exit 0; fi

command -v fio >/dev/null || fail "fio is not installed"
cd "$root"
if [[ -z ${KAGAMID:-} || -z ${KAGAMI_BENCH:-} ]]; then
    echo "building ..." >&2
    cargo build --release -q -p kagami-bench -p kagamid --bin kagami-bench --bin kagamid
    binaries=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
    KAGAMID=$binaries/kagamid KAGAMI_BENCH=$binaries/kagami-bench
fi

work=$(mktemp -d)
made=''
pid=''
clean_up() {
    trap - EXIT INT TERM
    if [[ -n $pid ]]; then
        kill -CONT "$pid" 2>/dev/null || true
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -rf "$work" ${made:+"$made"}
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [[ -z $on ]]; then
    mkdir -p "$root/build"
    made=$(mktemp "$root/build/device.XXXXXX")
    on=$made
    fio --name=fill --filename="$on" --rw=write --bs=1m --iodepth=8 --ioengine=io_uring --direct=1 --size="${size_mib}m" \
        --end_fsync=1 >"$work/fill.log" || fail "the file cannot be written: $(tail -n 1 "$work/fill.log")"
elif [[ -b $on ]]; then
    size_mib=$(($(blockdev --getsize64 "$on") >> 20))
fi

start() { # which cache mode
    mkdir -p "$work/data"
    cat >"$work/kagami.toml" <<END
[array]
name   = "bench"
iqn    = "iqn.2026-11.io.kagami:bench"
data   = "$work/data"
listen = ["127.0.0.1:$port"]
cores  = [$target_core]
cache  = "96MiB"
admin  = "$work/admin.sock"

[[volume]]
lun  = 0
name = "device"
path = "$on"
cache = "$1"
$([[ -b $on ]] || echo "size = \"${size_mib}MiB\"")
END
    # An earlier run, or another array, may have marked it.
    "$KAGAMID" --config "$work/kagami.toml" --adopt device >"$work/kagamid.log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        if grep -q '^ready' "$work/kagamid.log"; then return; fi
        kill -0 "$pid" 2>/dev/null || fail "kagamid did not start: $(tail -n 1 "$work/kagamid.log")"
        sleep 0.1
    done
    fail "kagamid is not ready"
}
stop() {
    kill -CONT "$pid" && kill -TERM "$pid"
    wait "$pid" || fail "kagamid did not end well: $(tail -n 1 "$work/kagamid.log")"
    pid=
}

# The number at that path of keys of a JSON document on standard input.
number() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda at, key: at[int(key) if key.isdigit() else key], sys.argv[1:], json.load(sys.stdin)))' "$@"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }

measure() { # a workload in the present mode
    local name=$1 theirs=$2 ours=$3 goal=$4 round what report
    : >"$work/fio" && : >"$work/kagami" && : >"$work/cpu"
    what=$([[ $theirs == *write* ]] && echo write || echo read)
    for ((round = 0; round < rounds; round++)); do
        kill -STOP "$pid"
        # shellcheck disable=SC2086  # options are words
        taskset -c "$target_core" fio --name=beside --filename="$on" --size="${size_mib}m" --ioengine=io_uring --direct=1 \
            --registerfiles=1 --fixedbufs=1 --norandommap --time_based --runtime="$seconds" --ramp_time=1 \
            --output-format=json --eta=never $theirs >"$work/report" || fail "fio failed"
        number jobs 0 "$what" iops <"$work/report" >>"$work/fio"
        kill -CONT "$pid"
        # shellcheck disable=SC2086
        report=$("$KAGAMI_BENCH" load "iscsi://127.0.0.1:$port/iqn.2026-11.io.kagami:bench/0" --core "$load_core" \
            --time "${seconds}s" --warmup 1s --target-pid "$pid" --json $ours) || fail "kagami-bench failed"
        number iops <<<"$report" >>"$work/kagami"
        number target_cpu_us_per_io <<<"$report" >>"$work/cpu"
    done
    awk -v name="$name" -v mode="$mode" -v goal="${goal:+$goal %}" -v fio="$(median <"$work/fio")" \
        -v ours="$(median <"$work/kagami")" -v cpu="$(median <"$work/cpu")" \
        'BEGIN { printf "%-14s %-13s %9.0f %9.0f %7.1f %% %6s %8.2f\n", name, mode, fio, ours, 100 * ours / fio, goal, cpu }'
}

echo "$on, $size_mib MiB; $rounds alternating runs of $seconds s each, medians; load $(cut -d' ' -f1-3 /proc/loadavg)"
printf '%-14s %-13s %9s %9s %9s %6s %8s\n' workload cache 'fio IOPS' kagamid ratio goal 'CPU us'
for mode in ${caches//,/ }; do
    start "$mode"
    each_workload measure
    stop
done
