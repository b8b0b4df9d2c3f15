#!/usr/bin/env bash
# Proves that a real Linux kernel with open-iscsi works against the target, whole: discovery, login plain, by CHAP both
# ways and with digests, ext4 and XFS, fio with verification, discard, persistent reservations, and a target that is
# restarted under I/O by SIGTERM and by SIGKILL.
#
# And that kagamid runs on the oldest kernel it promises to: a second one runs inside the machine, on Linux 6.1, and
# serves an emulated NVMe device with poll queues and a file to the initiator beside it.
#
#   ci/vm/run.sh                      against kagamid (build/ci/kagamid)
#   TARGET=tgt ci/vm/run.sh           against Debian's tgtd, to tell a fault of the tests from one of ours
#   VM_PARTS="nvme" ci/vm/run.sh      only these parts (guest/main.sh has them all; most need `login` before them)
#
# The machine is emulated (qemu, -accel tcg) and has user networking: the host's loopback is 10.0.2.2 to it. Its serial
# console is our log; a line `VM-DO: restart SIGNAL` asks this script for a restart of the target, `VM-RESULT:` ends.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/../lib.sh"
# shellcheck source=target.sh
. "$here/../target.sh"
# shellcheck source=vm/pack.sh
. "$here/pack.sh"

need qemu-system-x86_64 python3 cpio strip
"$here/image.sh"

LIMIT=${VM_LIMIT:-400}
MIB=320
NVME_MIB=96
parts=(login filesystem io discard reserve digest chap restart end)
[[ $TARGET != kagamid ]] || parts+=(nvme)
PARTS=${VM_PARTS:-${parts[*]}}
work=$(work_folder vm)
qemu=
finish() {
    local code=$?
    [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "vm: what was left is in $work"; fi
}
trap finish EXIT

target_init "$work/target"
target_lun 0 512 $MIB
target_lun 1 4096 $MIB
iqn=iqn.2026-11.io.kagami:vm
target_host plain $iqn-plain
target_host second $iqn-second
target_host chap $iqn-chap chapuser chap-secret-0001
target_host mutual $iqn-mutual mutualuser mutual-secret-02 targetuser target-secret-03
target_start

# The machine's own kagamid comes in a second archive, so that another build of it does not mean another image.
cp "$BUILD/vm/initramfs.cpio" "$work/initrd"
if [[ $TARGET == kagamid ]]; then
    strip -o "$work/kagamid" "$KAGAMID"
    pack_program "$work/tree" kagamid "$work/kagamid"
    pack_archive "$work/tree" "$work/kagamid.cpio"
    cat "$work/kagamid.cpio" >>"$work/initrd"
fi
for disk in polled files; do truncate -s ${NVME_MIB}M "$work/$disk.img"; done

# Words the kernel does not know, of the form name=value, become the first program's environment.
words=(
    "port=$TARGET_PORT" "mib=$MIB" "nvme_mib=$NVME_MIB" "kind=$TARGET" "parts=${PARTS// /,}"
    "lun512=$(target_wire_lun 0)" "lun4096=$(target_wire_lun 1)"
    "iqn_plain=$iqn-plain" "iqn_second=$iqn-second" "iqn_chap=$iqn-chap" "iqn_mutual=$iqn-mutual"
    "target_plain=$(target_iqn plain)" "target_chap=$(target_iqn chap)" "target_mutual=$(target_iqn mutual)"
    "chap_user=chapuser" "chap_secret=chap-secret-0001"
    "mutual_user=mutualuser" "mutual_secret=mutual-secret-02"
    "mutual_target_user=targetuser" "mutual_target_secret=target-secret-03"
)
mkfifo "$work/console"
timeout --kill-after=5 "$LIMIT" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -nodefaults -no-user-config -no-reboot \
    -display none -kernel "$BUILD/vm/vmlinuz" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on ${words[*]}" \
    -drive "if=none,id=polled,format=raw,discard=unmap,file=$work/polled.img" \
    -drive "if=none,id=files,format=raw,discard=unmap,file=$work/files.img" \
    -device nvme,id=nvme,serial=kagami-vm -device nvme-ns,bus=nvme,drive=polled,nsid=1 \
    -device nvme-ns,bus=nvme,drive=files,nsid=2 \
    -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -serial stdio \
    >"$work/console" 2>"$work/qemu.log" </dev/null &
qemu=$!

result='' restarts=0 trouble=0
while IFS= read -r line; do
    line=${line%$'\r'}
    printf '%s\n' "$line"
    case $line in
        *"VM-DO: restart TERM"*)
            target_stop || { say "VM-FAIL: the target did not end well on SIGTERM"; trouble=1; }
            sleep 2
            target_start
            restarts=$((restarts + 1))
            ;;
        *"VM-DO: restart KILL"*)
            target_kill
            sleep 2
            target_start
            restarts=$((restarts + 1))
            ;;
        *"VM-FAIL:"*) trouble=1 ;;
        *"VM-RESULT: "*) result=${line##*VM-RESULT: } ;;
    esac
done < <(cat "$work/console")
wait "$qemu" || say "vm: the emulator ended with $?"
qemu=

alive "$TARGET_PID" || die "the target is no longer running"
target_stop || die "the target did not end well on SIGTERM"
[[ $PARTS != *restart* ]] || ((restarts == 2)) || die "the target was restarted $restarts times instead of twice"
[[ $result == PASS && $trouble == 0 ]] || die "failed (result: ${result:-none in $LIMIT s})"
say "vm: passed in $SECONDS s"
