#!/usr/bin/env bash
# Proves that bad input harms nobody: starts the target and runs badinput.py against it.
#
#   ci/badinput.sh [options of badinput.py]
#   TARGET=tgt ci/badinput.sh --lenient
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

need python3
work=$(work_folder badinput)
finish() {
    local code=$?
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "badinput: what was left is in $work"; fi
}
trap finish EXIT

target_init "$work/target"
target_lun 0 512 64
target_lun 1 512 64
target_start
# A sitting process with a full cache shows what the hosts' input adds.
python3 "$here/badinput.py" --port "$TARGET_PORT" --target "$(target_iqn any)" --pid "$TARGET_PID" \
    --witness-lun "$(target_wire_lun 0)" --lun "$(target_wire_lun 1)" "$@"
target_stop || die "the target did not end well on SIGTERM"
say "badinput: passed in $SECONDS s"
