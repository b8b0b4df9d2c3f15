#!/usr/bin/env bash
# Proves that a real Linux kernel with open-iscsi works against the target, whole: discovery, login plain, by CHAP both
# ways and with digests, ext4 and XFS, fio with verification, discard, persistent reservations, and a target that is
# restarted under I/O by SIGTERM and by SIGKILL.
#
# And that kagamid runs on the oldest kernel it promises to: a second one runs inside the machine, on Linux 6.1, and
# serves an emulated NVMe device with poll queues and a file to the initiator beside it (part `nvme`); a device that
# is pulled out under I/O and put back (part `pull`); and devices of dm-log-writes, whose logs are replayed here
# afterwards: at every flush, all that hosts had been promised must be on the device (part `power`).
#
# And two arrays of which the machine sees only the first: a file system on a volume of the second, and `kagami --via
# /dev/sdX` with orders for both (part `far`; this script kills the second array under I/O); and LIO, the kernel's own
# target, as the far array of the kagamid inside (part `lio`).
#
# And a pair of volumes on these two arrays with a database on whichever is the primary: two swaps, and a takeover after the
# first array was killed under load (part `pair`).
#
# And two arrays with a pair inside the machine, all of whose devices log what becomes stable (part `blackout`): hosts outside
# load them; afterwards both are started here, as they were when power was lost at some moment, and at flushes between.
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

need qemu-system-x86_64 python3 taskset cpio strip tar
"$here/image.sh"

LIMIT=${VM_LIMIT:-600}
POWER_SECONDS=${POWER_SECONDS:-15}
BLACKOUT_SECONDS=${BLACKOUT_SECONDS:-15}
# At how many marks and flushes the arrays of `blackout` lose power.
BLACKOUT_MARKS=${BLACKOUT_MARKS:-10}
BLACKOUT_FLUSHES=${BLACKOUT_FLUSHES:-14}
MIB=320
NVME_MIB=96
parts=(login filesystem io discard reserve digest chap restart end)
[[ $TARGET != kagamid ]] || parts+=(far pair lio power blackout nvme pull)
PARTS=${VM_PARTS:-${parts[*]}}
work=$(work_folder vm)
qemu=
far_pid=
blackout_pid=
finish() {
    local code=$?
    [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
    [[ -z $far_pid ]] || kill -KILL "$far_pid" 2>/dev/null || true
    [[ -z $blackout_pid ]] || kill -KILL "$blackout_pid" 2>/dev/null || true
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

# The second array, which only the first one sees, and what the first one says of it.
far_port=$(free_port)
far_start() {
    "$KAGAMID" --config "$work/far/kagamid.toml" >>"$work/far/log" 2>&1 &
    far_pid=$!
    wait_until 30 port_open "$far_port" || { tail -n 20 "$work/far/log" >&2; die "the second array did not start"; }
}
operator_key=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
if [[ $TARGET == kagamid ]]; then
    mkdir -p "$work/far"
    (umask 077 && printf '%s\n' "$operator_key" >"$work/far/ops.key")
    cat >"$work/far/kagamid.toml" <<CONF
[array]
name = "far"
iqn = "iqn.2026-11.io.kagami:far"
data = "$work/far/data"
listen = ["127.0.0.1:$far_port"]
admin = "$work/far/admin.sock"
cache = "32MiB"
[[volume]]
lun = 0
name = "far-volume"
path = "$work/far/volume.img"
size = "96MiB"
block_size = 4096
[[volume]]
lun = 1
name = "orders"
role = "command"
[[volume]]
lun = 40
name = "pair"
path = "$work/far/pair.img"
size = "64MiB"
[[volume]]
lun = 41
name = "journal"
role = "journal"
path = "$work/far/journal.img"
size = "64MiB"
[[pool]]
name = "pool"
path = "$work/far/pool"
size = "256MiB"
[[operator]]
name = "ops"
key_file = "$work/far/ops.key"
rights = "admin"
[[peer]]
name = "ci"
iqn = "$(target_iqn any)"
portal = "127.0.0.1:$TARGET_PORT"
luns = [0]
[[initiator]]
iqn = "$iqn-pair"
luns = [1, 40]
rights = "read"
CONF
    TARGET_TABLES+=(
        $'[[volume]]\nlun = 10\nname = "orders"\nrole = "command"'
        "[[volume]]
lun = 40
name = \"pair\"
path = \"$work/pair.img\"
size = \"64MiB\""
        "[[volume]]
lun = 41
name = \"journal\"
role = \"journal\"
path = \"$work/journal.img\"
size = \"64MiB\""
        "[[operator]]
name = \"ops\"
key_file = \"$work/far/ops.key\"
rights = \"admin\""
        "[[initiator]]
iqn = \"$iqn-pair\"
luns = [10, 40]
rights = \"read\""
        "[[peer]]
name = \"far\"
iqn = \"iqn.2026-11.io.kagami:far\"
portal = \"127.0.0.1:$far_port\"
io_timeout = \"20s\""
        $'[[virtual]]\nlun = 30\npeer = "far"\nmapped_lun = 0'
        $'[[virtual]]\nlun = 31\npeer = "far"\nmapped_lun = 1\nrole = "command"'
        "[[initiator]]
iqn = \"$iqn-far\"
luns = [10, 30, 31]
rights = \"read\""
    )
    far_start
fi
target_start

# The machine's own kagamid comes in a second archive, so that another build of it does not mean another image.
cp "$BUILD/vm/initramfs.cpio" "$work/initrd"
if [[ $TARGET == kagamid ]]; then
    for program in "$KAGAMID" "$KAGAMI_BENCH" "$KAGAMI"; do
        [[ -x $program ]] || die "$program is not there: cargo build --profile ci"
        strip -o "$work/program" "$program"
        pack_program "$work/tree" "${program##*/}" "$work/program"
    done
    pack_archive "$work/tree" "$work/kagamid.cpio"
    cat "$work/kagamid.cpio" >>"$work/initrd"
fi
for disk in polled files; do truncate -s ${NVME_MIB}M "$work/$disk.img"; done
for disk in pull pull2 power0 power1; do truncate -s 32M "$work/$disk.img"; done
for disk in log0 log1 kept; do truncate -s 1G "$work/$disk.img"; done
for array in tokyo osaka; do
    truncate -s 32M "$work/$array.img"
    truncate -s 3G "$work/$array-logs.img"
done
# disk CONTROLLER NAME NUMBER: one namespace of an emulated NVMe controller
disks=()
disk() {
    disks+=(-drive "if=none,id=$2,format=raw,discard=unmap,cache=unsafe,file=$work/$2.img"
        -device "nvme-ns,bus=$1,drive=$2,nsid=$3")
}
disks+=(-device "nvme,id=nvme,serial=kagami-vm")
disk nvme polled 1
disk nvme files 2
disks+=(-device "nvme,id=pull,serial=kagami-pull")
disk pull pull 1
disk pull pull2 2
# Where it need not be NVMe.
for name in power0 log0 power1 log1 kept tokyo tokyo-logs osaka osaka-logs; do
    disks+=(-drive "if=none,id=$name,format=raw,discard=unmap,cache=unsafe,file=$work/$name.img"
        -device "virtio-blk-pci,drive=$name,serial=$name")
done

# Part `blackout`: where its questions are answered, and its arrays.
blackout_ports=("$(free_port)" "$(free_port)" "$(free_port)")
forward=
for number in 0 1 2; do forward+=",hostfwd=tcp:127.0.0.1:${blackout_ports[number]}-:$((3270 + number))"; done

# Words the kernel does not know, of the form name=value, become the first program's environment.
words=(
    "port=$TARGET_PORT" "mib=$MIB" "nvme_mib=$NVME_MIB" "power_seconds=$POWER_SECONDS" "blackout_seconds=$BLACKOUT_SECONDS" "kind=$TARGET" "parts=${PARTS// /,}"
    "lun512=$(target_wire_lun 0)" "lun4096=$(target_wire_lun 1)"
    "operator_key=$operator_key" "iqn_far=$iqn-far" "iqn_pair=$iqn-pair" "far_port=$far_port"
    "iqn_plain=$iqn-plain" "iqn_second=$iqn-second" "iqn_chap=$iqn-chap" "iqn_mutual=$iqn-mutual"
    "target_far=iqn.2026-11.io.kagami:far" "target_plain=$(target_iqn plain)" "target_chap=$(target_iqn chap)" "target_mutual=$(target_iqn mutual)"
    "chap_user=chapuser" "chap_secret=chap-secret-0001"
    "mutual_user=mutualuser" "mutual_secret=mutual-secret-02"
    "mutual_target_user=targetuser" "mutual_target_secret=target-secret-03"
)
# Where this machine stands still for a while, the one inside sees its only processor and its devices hang. What its
# kernel then says of itself is not about kagamid; what kagamid leaves hanging, it says after two minutes (hung_task).
# A device that does not answer is reset before kagamid gives it up (after 30 s).
still="nowatchdog rcupdate.rcu_cpu_stall_suppress=1 nvme_core.io_timeout=12"
mkfifo "$work/console"
timeout --kill-after=5 "$LIMIT" qemu-system-x86_64 -accel tcg -cpu max -m 1024 -nodefaults -no-user-config -no-reboot \
    -display none -kernel "$BUILD/vm/vmlinuz" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on $still ${words[*]}" \
    "${disks[@]}" \
    -netdev "user,id=net$forward" -device virtio-net-pci,netdev=net,romfile= -serial stdio \
    >"$work/console" 2>"$work/qemu.log" </dev/null &
qemu=$!

# processors LIST: where all of the emulator's threads run. Its NVMe controller has shadow doorbells, and no way to be without:
# it writes down how far it has seen a queue, and then looks whether there is more, with no memory barrier between the two.
# Beside a guest that runs on another processor it now and then misses what came in that moment, and the guest, which was
# told that the controller was looking, does not ring: the queue stands still until the driver resets the controller. Threads
# that take turns on one processor see each other's stores. So the parts that use NVMe ask for one, and the others, which
# would take several times as long there, for all.
all_processors=$(python3 -c 'import os; print(",".join(map(str, sorted(os.sched_getaffinity(0)))))')
processors() { pgrep -P "$qemu" | while read -r emulator; do taskset -a -c -p "$1" "$emulator" >/dev/null; done; }

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
        *"VM-DO: far KILL"*)
            kill -KILL "$far_pid"
            wait "$far_pid" || true
            sleep 2
            far_start
            ;;
        *"VM-DO: one processor"*) processors "${all_processors##*,}" ;;
        *"VM-DO: all processors"*) processors "$all_processors" ;;
        *"VM-DO: near KILL"*) target_kill ;;
        *"VM-DO: near START"*) target_start ;;
        *"VM-DO: blackout"*)
            python3 "$here/blackout/load.py" "${blackout_ports[@]}" "$work" "$BLACKOUT_SECONDS" </dev/null &
            blackout_pid=$!
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
if [[ -n $far_pid ]]; then
    kill -TERM "$far_pid"
    wait "$far_pid" || die "the second array did not end well on SIGTERM"
    far_pid=
    # What the machine wrote by way of the first array lies on the second one's file.
    [[ " $PARTS " != *" far "* ]] || [[ $(blkid -o value -s LABEL "$work/far/volume.img") == kagami-far ]] ||
        die "the second array's file does not hold the file system"
fi
if [[ " $PARTS " == *" power "* ]]; then
    mkdir "$work/kept"
    tar -xf "$work/kept.img" -C "$work/kept"
    say "vm: $(find "$work/kept" -type f | wc -l) snapshots were kept"
    least=$((POWER_SECONDS / 2))
    for lun in 0 1; do
        replay=("$KAGAMI_BENCH" replay "$work/log$lun.img" --snapshots "$work/kept" --lun "$lun" --least "$least")
        "${replay[@]}" || die "LUN $lun: a flush did not keep its promise"
        # What the replay is worth: without one write in forty it must fail.
        if "${replay[@]}" --lose 40 >"$work/control.log" 2>&1; then die "LUN $lun: lost writes were not noticed"; fi
        grep -q 'data check failed: power lost' "$work/control.log" || die "the control failed: $(<"$work/control.log")"
    done
fi
if [[ -n $blackout_pid ]]; then
    wait "$blackout_pid" || die "the load on two arrays failed"
    blackout_pid=
    began=$SECONDS
    python3 "$here/blackout/check.py" "$KAGAMID" "$KAGAMI" "$work" --marks "$BLACKOUT_MARKS" --flushes "$BLACKOUT_FLUSHES" ||
        die "a pair did not survive the loss of power"
    say "vm: power was lost for $((SECONDS - began)) s"
fi
say "vm: passed in $SECONDS s"
