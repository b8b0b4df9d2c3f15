#!/usr/bin/env bash
# Proves what happens when a block device returns errors, hangs or grows: the right sense on that volume, nothing on the
# others, nothing lost, and it heals when the device does. (A device that is pulled out: ci/vm, part `pull`.)
#
#   ci/badisk.sh                 needs root
#
# The device is a loop device over a file that nbdfuse shows and nbdkit serves from memory: nbdkit's error filter makes
# every read and write fail while a trigger file exists, and stopping the process makes the device hang. (The kernels here
# have no device-mapper.)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

need nbdkit nbdfuse losetup python3
work=$(work_folder badisk)
server='' bridge='' loop='' small=''
finish() {
    local code=$?
    [[ -z $server ]] || kill -CONT "$server" 2>/dev/null || true
    [[ -z ${TARGET_PID:-} ]] || target_kill
    [[ -z $loop ]] || losetup -d "$loop" || true
    [[ -z $small ]] || losetup -d "$small" || true
    if [[ -n $bridge ]]; then
        umount -l "$work/disk" 2>/dev/null || true
        kill "$bridge" 2>/dev/null || true
    fi
    [[ -z $server ]] || kill "$server" 2>/dev/null || true
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "badisk: what was left is in $work"; fi
}
trap finish EXIT

mkdir "$work/disk"
nbdkit --foreground --exit-with-parent -U "$work/nbd" --filter=error memory 64M \
    error-rate=100% "error-file=$work/trigger" >"$work/nbdkit.log" 2>&1 &
server=$!
wait_until 10 test -S "$work/nbd" || die "nbdkit did not start: $(tail -n 1 "$work/nbdkit.log")"
nbdfuse "$work/disk/image" --unix "$work/nbd" >"$work/nbdfuse.log" 2>&1 &
bridge=$!
wait_until 10 test -s "$work/disk/image" || die "nbdfuse did not start: $(tail -n 1 "$work/nbdfuse.log")"
loop=$(losetup --find --show --direct-io=on "$work/disk/image")

truncate -s 32M "$work/small"
small=$(losetup --find --show "$work/small")

target_init "$work/target"
target_lun 0 512 64
target_lun 1 512 64 "$loop"
target_lun 2 512 32 "$small"
target_start
python3 "$here/diskfault.py" bad --port "$TARGET_PORT" --target "$(target_iqn any)" \
    --witness-lun "$(target_wire_lun 0)" --lun "$(target_wire_lun 1)" --trigger "$work/trigger" --device-pid "$server"
python3 "$here/diskfault.py" grow --port "$TARGET_PORT" --target "$(target_iqn any)" \
    --witness-lun "$(target_wire_lun 0)" --lun "$(target_wire_lun 2)" --file "$work/small" --loop "$small"
alive "$TARGET_PID" || die "the target is no longer running"
target_stop || die "the target did not end well on SIGTERM"
say "badisk: passed in $SECONDS s"
