# Helpers of the tests inside the virtual machine. Sourced by main.sh; POSIX sh.
#
# Every check is one line on the console, VM-OK or VM-FAIL; a failed check shows what its command printed.

PORTAL=10.0.2.2:$port
LOG=/tmp/check.log
passed=0
failed=0

pass() {
    passed=$((passed + 1))
    echo "VM-OK: $* ($(uptime_s) s)"
}

fail() {
    failed=$((failed + 1))
    echo "VM-FAIL: $* ($(uptime_s) s)"
}

uptime_s() { cut -d' ' -f1 /proc/uptime; }

# What is being checked, and since when, for the watcher; written in one piece.
NOW=/tmp/now
begin() { echo "$(uptime_s) $*" >$NOW; }

# where PID...: where the threads of these processes stand in the kernel
where() {
    for process in "$@"; do
        for thread in /proc/"$process"/task/*; do
            echo "$process $(cat "$thread/comm") $(awk '/^State/ { print $2 }' "$thread/status"): $(tr '\n' ' ' <"$thread/stack")"
        done
    done 2>/dev/null
}

# how_it_stands: what a check that failed, or takes too long, may have waited for
how_it_stands() {
    echo "load $(cat /proc/loadavg)"
    # Processes that wait for a device or the kernel itself.
    for status in /proc/[0-9]*/status; do
        if grep -q '^State:[[:space:]]*D' "$status" 2>/dev/null; then
            process=${status#/proc/}
            where "${process%/status}"
        fi
    done | head -n 20
    for process in $(pidof kagamid); do where "$process" | head -n 12; done
    [ ! -e /tmp/kagamid.log ] || tail -n 8 /tmp/kagamid.log | sed 's/^/kagamid: /'
    dmesg | tail -n 12 | sed 's/^/kernel: /'
}

# watch: says how things stand when a check has taken a minute, and again every minute; runs beside the tests
watch() {
    told=
    while sleep 5; do
        read -r since what <$NOW || continue
        minutes=$(awk "BEGIN { print int(($(uptime_s) - $since) / 60) }")
        if [ "$minutes" -gt 0 ] && [ "$told" != "$since $minutes" ]; then
            told="$since $minutes"
            echo "VM: '$what' has taken $minutes min:"
            how_it_stands 2>&1 | sed 's/^/VM:   /'
        fi
    done
}

# check NAME COMMAND...: the command must succeed
check() {
    name=$1
    shift
    begin "$name"
    if "$@" >$LOG 2>&1; then
        pass "$name"
    else
        fail "$name"
        echo "VM:   command: $*"
        tail -n 15 $LOG | sed 's/^/VM:   /'
        how_it_stands 2>&1 | sed 's/^/VM:   /'
        return 1
    fi
}

# refuse NAME COMMAND...: the command must fail
refuse() {
    name=$1
    shift
    begin "$name"
    if "$@" >$LOG 2>&1; then
        fail "$name: it was allowed"
        return 1
    else
        pass "$name"
    fi
}

# wait_for SECONDS COMMAND...
wait_for() {
    left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}

# host ROLE IQN [NAME VALUE]...: an interface record whose sessions carry this initiator name,
# and a node record to the target through it with the given settings
host() {
    role=$1 initiator=$2 target=$3
    shift 3
    iscsiadm -m iface -I "$role" -o new &&
        iscsiadm -m iface -I "$role" -o update -n iface.initiatorname -v "$initiator" &&
        iscsiadm -m node -o new -T "$target" -p "$PORTAL" -I "$role" || return 1
    while [ $# -gt 0 ]; do
        setting "$role" "$target" "$1" "$2" || return 1
        shift 2
    done
}

setting() { iscsiadm -m node -T "$2" -p "$PORTAL" -I "$1" -o update -n "$3" -v "$4"; }

login() { iscsiadm -m node -T "$2" -p "$PORTAL" -I "$1" --login; }

logout() { iscsiadm -m node -T "$2" -p "$PORTAL" -I "$1" --logout; }

# session ROLE: the kernel's session folder of this role
session() {
    for folder in /sys/class/iscsi_session/session*; do
        if [ -e "$folder/ifacename" ] && [ "$(cat "$folder/ifacename")" = "$1" ]; then
            echo "$folder"
            return 0
        fi
    done
    return 1
}

logged_in() { [ "$(cat "$(session "$1")/state" 2>/dev/null)" = LOGGED_IN ]; }

# disk ROLE LUN: the block device (without /dev/) of a logical unit seen through a role's session
disk() {
    folder=$(session "$1") || return 1
    for device in "$folder"/device/target*/*:*:*:"$2"/block/*; do
        [ -e "$device" ] || return 1
        basename "$device"
        return 0
    done
}

disk_there() { [ -b "/dev/$(disk "$1" "$2")" ]; }

# generic ROLE LUN: the sg node of the same
generic() {
    folder=$(session "$1") || return 1
    basename "$folder"/device/target*/*:*:*:"$2"/scsi_generic/*
}

# fio_verify DEVICE OPTION...: writes, and reads back what was written
fio_verify() {
    device=$1
    shift
    fio --name=verify --filename="$device" --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 \
        --do_verify=1 --group_reporting --randrepeat=0 "$@"
}

# read_mib DEVICE SKIP COUNT
read_mib() { dd if="$1" bs=1M skip="$2" count="$3" iflag=direct 2>/dev/null; }

# random FILE BYTES: a file of random data. In one piece: busybox's head takes a byte at a time, which costs minutes here.
random() { dd if=/dev/urandom of="$1" bs="$2" count=1 iflag=fullblock 2>/dev/null; }

# sum_mib FILE SKIP COUNT: the sum of so many MiB of a file
sum_mib() { dd if="$1" bs=1M skip="$2" count="$3" 2>/dev/null | sha256sum; }

# discard_range DEVICE OPTION: of twelve written MiB the middle eight are discarded
discard_range() {
    device=$1
    shift
    random /tmp/pattern 12582912
    dd if=/tmp/pattern of="$device" bs=1M oflag=direct 2>/dev/null || return 1
    blkdiscard "$@" -o 2M -l 8M "$device" || return 1
    [ "$(read_mib "$device" 2 8 | sha256sum)" = "$(sum_mib /dev/zero 0 8)" ] || { echo "not zero"; return 1; }
    [ "$(read_mib "$device" 0 2 | sha256sum)" = "$(sum_mib /tmp/pattern 0 2)" ] || { echo "before changed"; return 1; }
    [ "$(read_mib "$device" 10 2 | sha256sum)" = "$(sum_mib /tmp/pattern 10 2)" ] || { echo "after changed"; return 1; }
}

# number of connection errors the kernel has reported
connection_errors() { dmesg | grep -c 'detected conn error'; }

# Before the first command to the emulator's NVMe controllers, and after the last: see run.sh.
one_processor() { echo "VM-DO: one processor"; sleep 1; }
all_processors() { echo "VM-DO: all processors"; }

# virtual SERIAL: the virtio disk with it; waits for it
virtual() {
    left=100
    while [ $left -gt 0 ]; do
        for folder in /sys/block/vd*; do
            if [ "$(cat "$folder/serial" 2>/dev/null)" = "$1" ]; then
                echo "/dev/$(basename "$folder")"
                return 0
            fi
        done
        left=$((left - 1))
        sleep 0.2
    done
    return 1
}

# nvme_of SERIAL: the controller's name; waits for it
nvme_of() {
    left=100
    while [ $left -gt 0 ]; do
        for folder in /sys/class/nvme/nvme*; do
            if [ "$(tr -d ' ' 2>/dev/null <"$folder/serial")" = "$1" ]; then
                basename "$folder"
                return 0
            fi
        done
        left=$((left - 1))
        sleep 0.2
    done
    return 1
}

# The kagamid in this machine, with the configuration /tmp/kagamid.toml.
daemon=0
start_daemon() {
    : >/tmp/kagamid.log
    kagamid --config /tmp/kagamid.toml >/tmp/kagamid.log 2>&1 &
    daemon=$!
    # The predecessor's I/O may still be under way: its device is waited for.
    wait_for 40 grep -q '^ready$' /tmp/kagamid.log || { cat /tmp/kagamid.log; return 1; }
}
ended() { [ ! -d "/proc/$daemon" ] || grep -q '^State:[[:space:]]*Z' "/proc/$daemon/status"; }
# end_daemon SIGNAL CODE: it ends with this exit code
end_daemon() {
    kill "-$1" "$daemon"
    if ! wait_for 40 ended; then
        echo "it still runs"
        for thread in /proc/"$daemon"/task/*; do cat "$thread/comm" "$thread/wchan" "$thread/stack"; done
        kill -KILL "$daemon"
        return 1
    fi
    wait "$daemon"
    code=$?
    [ $code -eq "$2" ] || { echo "exit code $code"; cat /tmp/kagamid.log; return 1; }
}

# File systems: write files, sync, unmount, mount again, compare, trim.
fill() {
    folder=$1
    number=0
    mkdir -p "$folder/deep/er" || return 1
    while [ $number -lt 12 ]; do
        # Odd sizes, so that last blocks are partial.
        random "$folder/deep/er/f$number" $((number * number * 8192 + number * 777 + 13)) || return 1
        number=$((number + 1))
    done
    (cd "$folder" && find . -type f -exec sha256sum {} +) >/tmp/sums
}

round_trip() {
    type=$1 device=$2
    mkdir -p /mnt/t
    mount -t "$type" "$device" /mnt/t && fill /mnt/t && sync && umount /mnt/t || return 1
    # Nothing may come from memory.
    echo 3 >/proc/sys/vm/drop_caches
    mount -t "$type" "$device" /mnt/t || return 1
    (cd /mnt/t && sha256sum -c /tmp/sums)
}

trim() {
    rm -r /mnt/t/deep/er/f1* && sync && fstrim -v /mnt/t && grep -v '/f1' /tmp/sums >/tmp/kept || return 1
    umount /mnt/t
    echo 3 >/proc/sys/vm/drop_caches
    mount "$1" /mnt/t && (cd /mnt/t && sha256sum -c /tmp/kept) && umount /mnt/t
}
