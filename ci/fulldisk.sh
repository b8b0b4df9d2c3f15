#!/usr/bin/env bash
# Proves what happens when the file system under a sparse volume runs full: writes without space get DATA PROTECT,
# space allocation failed; what was acknowledged stays; other volumes do not notice; UNMAP heals it.
#
#   ci/fulldisk.sh               needs root, for a small ext4 on a loop device
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

need mkfs.ext4 losetup mount python3
work=$(work_folder fulldisk)
finish() {
    local code=$?
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if mountpoint -q "$work/small"; then umount -l "$work/small" || true; fi
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "fulldisk: what was left is in $work"; fi
}
trap finish EXIT

truncate -s 40M "$work/small.img"
# Nothing set aside for root, no journal to take space of its own.
mkfs.ext4 -q -F -m 0 -O ^has_journal "$work/small.img"
mkdir "$work/small"
mount -o loop "$work/small.img" "$work/small"

target_init "$work/target"
target_lun 0 512 64
target_lun 1 512 128 "$work/small/volume.img"
target_start
python3 "$here/diskfault.py" full --port "$TARGET_PORT" --target "$(target_iqn any)" \
    --witness-lun "$(target_wire_lun 0)" --lun "$(target_wire_lun 1)"
alive "$TARGET_PID" || die "the target is no longer running"
target_stop || die "the target did not end well on SIGTERM"
say "fulldisk: passed in $SECONDS s"
