#!/usr/bin/env bash
# Proves that the first command of the README works: kagamid without arguments serves its embedded default from an empty
# folder, says how to connect, serves again what was written, and ends well.
#
#   ci/default.sh                 needs 127.0.0.1:3260 free
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

need python3
[[ -x $KAGAMID ]] || die "$KAGAMID is not there: cargo build --profile ci"
if port_open 3260; then die "something else listens on 127.0.0.1:3260"; fi
work=$(work_folder default)
daemon=
finish() {
    local code=$?
    [[ -z $daemon ]] || kill -KILL "$daemon" 2>/dev/null || true
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "default: what was left is in $work"; fi
}
trap finish EXIT
cd "$work"

start() {
    "$KAGAMID" >"$1" 2>&1 &
    daemon=$!
    wait_until 30 grep -q ready "$1" || {
        cat "$1"
        die "no 'ready' in 30 s"
    }
}
stop() {
    kill -TERM "$daemon"
    wait "$daemon" || die "ended with $? on SIGTERM"
    daemon=
}
# talk CODE: runs Python with a session to LUN 0
talk() {
    PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 python3 - <<PY
import initiator as iscsi
host = iscsi.Connection(3260).login("iqn.2026-11.io.kagami:host", "iqn.2026-11.io.kagami:local").ready(0)
blocks, size = host.capacity(0)
assert blocks * size == 1 << 30, f"LUN 0 has {blocks} blocks of {size} bytes, not 1 GiB"
$1
PY
}

start first.log
for words in 127.0.0.1:3260 iqn.2026-11.io.kagami:local 'iscsiadm.*discovery' 'iscsiadm.*login'; do
    grep -q -- "$words" first.log || {
        cat first.log
        die "what it prints does not have: $words"
    }
done
[[ -d kagami-data ]] || die "no kagami-data"
talk 'assert host.scsi(0, iscsi.write16(7, 1), write=b"k" * size)[0] == iscsi.GOOD
assert host.scsi(0, iscsi.sync16())[0] == iscsi.GOOD'
# Sparse: a GiB of nothing takes no space.
(($(du -sm kagami-data | cut -f1) < 256)) || die "kagami-data takes $(du -sh kagami-data | cut -f1)"
stop
start second.log
talk 'assert host.scsi(0, iscsi.read16(7, 1), read=size)[2] == b"k" * size, "not what was written before the restart"'
stop

code=0
"$KAGAMID" --config /nowhere.toml >none.log 2>&1 || code=$?
((code == 1 || code == 2)) || die "a configuration that is not there ended with $code"
(($(wc -l <none.log) == 1)) || die "the error is not one line: $(cat none.log)"
"$KAGAMID" --version >/dev/null || die "--version failed"
"$KAGAMID" --help >help.log || die "--help failed"
grep -qi example help.log || die "--help has no examples"
say "default: passed in $SECONDS s"
