# kagamid inside this machine: the oldest kernel that it promises to run on, a real block device under it (NVMe, read and
# written through poll queues) and a file with direct I/O, restarted under I/O by SIGTERM and by SIGKILL.
# The initiator beside it logs in over loopback.

one_processor
away=$PORTAL
PORTAL=127.0.0.1:3260
target_here=iqn.2026-11.io.kagami:inside
has_poll_queues() { [ "$(cat "/sys/block/${nvme#/dev/}n1/queue/io_poll")" = 1 ]; }
both_namespaces() { [ -b "${nvme}n1" ] && [ -b "${nvme}n2" ]; }
check "NVMe with a poll queue" modprobe nvme poll_queues=1
nvme=/dev/$(nvme_of kagami-vm)
check "its two namespaces" wait_for 20 both_namespaces
check "the driver can be polled" has_poll_queues
mkdir -p /mnt/inside
check "a file system for files" sh -c "mkfs.ext4 -q -F ${nvme}n2 && mount -t ext4 ${nvme}n2 /mnt/inside"
cat >/tmp/kagamid.toml <<CONF
[array]
name = "inside"
iqn = "$target_here"
data = "/mnt/inside/data"
listen = ["$PORTAL"]
cache = "64MiB"
max_sessions = 8
max_connections = 8
[[volume]]
lun = 0
name = "polled"
path = "${nvme}n1"
block_size = 512
[[volume]]
lun = 1
name = "file"
path = "/mnt/inside/file.img"
size = "48MiB"
block_size = 4096
[[initiator]]
iqn = "$iqn_second"
luns = [0, 1]
CONF
check "the configuration fits this machine" kagamid --config /tmp/kagamid.toml --check
check "kagamid starts on this kernel" start_daemon
sed 's/^/VM: kagamid: /' /tmp/kagamid.log
check "it reads and writes the device through its poll queues" grep -q '^LUN 0 .*poll queues' /tmp/kagamid.log
refuse "the file it uses directly" grep -q 'through the page cache' /tmp/kagamid.log

check "record for the daemon inside" host inside "$iqn_second" "$target_here"
check "login to it" login inside "$target_here"
check "the device's disk is there" wait_for 20 disk_there inside 0
check "the file's disk is there" wait_for 20 disk_there inside 1
polled=/dev/$(disk inside 0)
filed=/dev/$(disk inside 1)

last_block_is() { sg_readcap --16 "$1" | tee /dev/stderr | grep -q "Last LBA=$2 "; }
check "capacity of the device" last_block_is "$polled" $((nvme_mib * 2048 - 1))
check "capacity of the file" last_block_is "$filed" $((48 * 256 - 1))

# Completions of other queues interrupt; those of the poll queue do not. Flushes and discards go the ordinary way.
interrupts() { awk '/nvme0q/ { sum += $2 } END { print sum + 0 }' /proc/interrupts; }
without_interrupts() {
    before=$(interrupts)
    fio_verify "$polled" --rw=randrw --bs=4k --iodepth=16 --size=8M || return 1
    after=$(interrupts)
    cat /proc/interrupts
    echo "$((after - before)) interrupts for 2048 commands and their verification"
    [ $((after - before)) -lt 200 ]
}
check "fio: random 4 KiB, 16 in flight, polled for: the device interrupts nobody" without_interrupts
tail -n 1 "$LOG" | sed 's/^/VM:   /'
check "fio: odd sizes of 512-byte blocks on the device" \
    fio_verify "$polled" --rw=randwrite --bsrange=512-16k --blockalign=512 --iodepth=8 --offset=16M --size=2M
check "fio: sequential 1 MiB writes on the device" fio_verify "$polled" --rw=write --bs=1M --iodepth=4 --size=16M
check "fio: synchronous writes on the device" fio_verify "$polled" --rw=randwrite --bs=8k --iodepth=4 --size=2M --sync=1
check "fio: random 4 KiB on the file" fio_verify "$filed" --rw=randrw --bs=4k --iodepth=8 --size=4M
for device in "$polled" "$filed"; do
    check "flush of $device" sg_sync "$device"
    check "discard on $device" discard_range "$device"
    check "write zeroes on $device" discard_range "$device" -z
done

# Nothing is lost over restarts. A kept pattern on the file, flushed, and writes under way on the device.
random /tmp/pattern 4194304
check "a pattern on the file" dd if=/tmp/pattern of="$filed" bs=256k oflag=direct conv=fsync
fio_verify "$polled" --rw=randwrite --bs=4k --iodepth=8 --size=8M --sync=1 --rate=400k >/tmp/fio-inside.log 2>&1 &
fio_job=$!
sleep 2
for signal in TERM KILL; do
    before=$(connection_errors)
    lost() { [ "$(connection_errors)" -gt "$before" ]; }
    case $signal in
        TERM) check "SIGTERM under I/O: it ends with exit code 0" end_daemon TERM 0 ;;
        KILL) check "SIGKILL under I/O" end_daemon KILL 137 ;;
    esac
    check "SIG$signal: the connection broke" wait_for 30 lost
    check "SIG$signal: it starts again" start_daemon
    check "SIG$signal: the session comes back" wait_for 60 logged_in inside
    sleep 2
done
check "I/O was under way all the time" kill -0 $fio_job
if wait $fio_job; then
    pass "fio over the restarts: every block of the device as written"
else
    fail "fio over the restarts on the device"
    tail -n 20 /tmp/fio-inside.log | sed 's/^/VM:   /'
fi
same_pattern() { [ "$(read_mib "$filed" 0 4 | sha256sum)" = "$(sha256sum </tmp/pattern)" ]; }
check "the file is as written" same_pattern
rm -f /tmp/pattern
no_error_inside() { ! dmesg | grep -E "I/O error, dev (${polled#/dev/}|${filed#/dev/}|nvme)"; }
check "no I/O error reached a disk" no_error_inside

check "logout from it" logout inside "$target_here"
check "SIGTERM at rest: it ends with exit code 0" end_daemon TERM 0
# The kernel lets go of the files of a ring a little after its process is gone.
check "nobody holds its file system" wait_for 20 umount /mnt/inside
PORTAL=$away
all_processors
