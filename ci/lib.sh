# Shared by the scripts in ci/: where things are, waiting, and clean ends. Sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# cargo's output folder (.cargo/config.toml says build/); everything the scripts make goes there too.
BUILD=${CARGO_TARGET_DIR:-$ROOT/build}
# The program under test and the load generator, built with the quick `ci` profile unless told otherwise.
KAGAMID=${KAGAMID:-$BUILD/ci/kagamid}
KAGAMI_BENCH=${KAGAMI_BENCH:-$BUILD/ci/kagami-bench}
KAGAMI=${KAGAMI:-$BUILD/ci/kagami}
export ROOT BUILD KAGAMID KAGAMI_BENCH KAGAMI

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is missing: run ci/deps.sh"
    done
}

# A TCP port on loopback that nothing uses just now, and that the kernel gives to nobody by itself: whoever listens there
# finds it free when it is started again.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        port_open "$port" || break
    done
    printf '%s\n' "$port"
}

# wait_until SECONDS COMMAND...: true as soon as the command is, false after so many seconds.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

alive() { kill -0 "$1" 2>/dev/null; }

# A work folder of this run, removed at the end unless KEEP=1 or the run failed.
work_folder() {
    mkdir -p "$BUILD/work"
    mktemp -d "$BUILD/work/$1.XXXXXX"
}
