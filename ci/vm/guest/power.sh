# kagamid on devices that log every write as it becomes stable (dm-log-writes), one volume in each cache mode, under
# checked load. The logs and what the checker had been promised are replayed outside (run.sh), at every flush.
# SIGKILL cannot show this: it leaves to the kernel what the daemon has submitted.

modprobe virtio_blk
modprobe dm-log-writes
# logged NAME DEVICE LOG
logged() {
    size=$(($(cat "/sys/block/${2#/dev/}/size")))
    dmsetup create "$1" --noudevrules --noudevsync -u "KAGAMI-$1" --table "0 $size log-writes $2 $3"
}
check "a device that logs its writes" logged power0 "$(virtual power0)" "$(virtual log0)"
check "another" logged power1 "$(virtual power1)" "$(virtual log1)"
# The kernel's own name of a device of device-mapper.
mapped() { for folder in /sys/block/dm-*; do [ "$(cat "$folder/dm/name")" != "$1" ] || echo "/dev/$(basename "$folder")"; done; }
mkdir -p /tmp/power/kept
cat >/tmp/kagamid.toml <<CONF
[array]
name = "power"
data = "/tmp/power/data"
listen = ["127.0.0.1:3263"]
cache = "64MiB"
max_sessions = 8
max_connections = 8
[[volume]]
lun = 0
name = "back"
path = "$(mapped power0)"
block_size = 512
cache = "writeback"
[[volume]]
lun = 1
name = "through"
path = "$(mapped power1)"
block_size = 512
cache = "writethrough"
CONF
check "kagamid on them" start_daemon
checked_load() {
    kagami-bench verify "iscsi://127.0.0.1:3263/iqn.2026-11.io.kagami:power/0" --lun 0,1 --span 6MiB --connections 2 \
        --depth 8 --largest 64KiB --read 30 --fua 5 --flush-every 40 --rate 250 --time "${power_seconds}s" \
        --snapshots /tmp/power/kept --snapshot-every 400ms --snapshots-least "$power_seconds" \
        --mark "sh /tests/mark.sh" --timeout 60s --no-stdin --poll sleep
}
check "checked load, snapshots of what was promised" checked_load
tail -n 1 "$LOG" | sed 's/^/VM:   /'
check "SIGKILL" end_daemon KILL 137
check "the first log ends" dmsetup remove --noudevrules --noudevsync --retry power0
check "the second log ends" dmsetup remove --noudevrules --noudevsync --retry power1
# Read back past the kernel's memory: outside, a device that took nothing would look like an archive of nothing.
keep() {
    place=$(virtual kept) && tar -cf /tmp/power/kept.tar -C /tmp/power/kept . || return 1
    dd if=/tmp/power/kept.tar of="$place" bs=64k conv=fsync || return 1
    echo 3 >/proc/sys/vm/drop_caches
    # busybox's tar writes whole blocks of 512 bytes.
    blocks=$(($(stat -c %s /tmp/power/kept.tar) / 512))
    [ "$(dd if="$place" bs=512 count=$blocks 2>/dev/null | sha256sum)" = "$(sha256sum </tmp/power/kept.tar)" ]
}
check "the snapshots for the replay" keep
rm -rf /tmp/power
