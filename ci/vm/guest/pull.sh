# Two devices that are pulled out under I/O and put back: their volumes say so to their hosts, no other volume notices, and
# when the devices are there again the volumes go on with them, without a restart of the daemon. What hosts had written to
# the cache of one, and had not flushed, is on it in the end.

one_processor
away=$PORTAL
PORTAL=127.0.0.1:3262
target_pull=iqn.2026-11.io.kagami:pull

modprobe nvme poll_queues=1
controller=$(nvme_of kagami-pull)
subsystem=$(dirname /sys/class/nvme-subsystem/*/"$controller")
mkdir -p /tmp/pull
cat >/tmp/kagamid.toml <<CONF
[array]
name = "pull"
iqn = "$target_pull"
data = "/tmp/pull/data"
listen = ["$PORTAL"]
cache = "64MiB"
max_sessions = 8
max_connections = 8
[[volume]]
lun = 0
name = "pulled"
path = "/dev/${controller}n1"
block_size = 512
cache = "none"
[[volume]]
lun = 1
name = "other"
backend = "ram"
size = "8MiB"
block_size = 512
[[volume]]
lun = 2
name = "cached"
path = "/dev/${controller}n2"
block_size = 512
cache = "writeback"
[[initiator]]
iqn = "$iqn_second"
luns = [0, 1, 2]
CONF
check "the device that will go" wait_for 20 test -b "/dev/${controller}n1"
check "the other one that will go" wait_for 20 test -b "/dev/${controller}n2"
check "their subsystem" test -e "$subsystem"
check "kagamid on it" start_daemon
check "it polls the device" grep -q '^LUN 0 .*poll queues' /tmp/kagamid.log
check "record for it" host pulled "$iqn_second" "$target_pull"
check "login" login pulled "$target_pull"
check "the disk on the device is there" wait_for 20 disk_there pulled 0
check "the other disk is there" wait_for 20 disk_there pulled 1
check "the disk that is cached is there" wait_for 20 disk_there pulled 2
pulled=/dev/$(disk pulled 0)
cached=/dev/$(disk pulled 2)
other=/dev/$(disk pulled 1)

random /tmp/pull/pattern 4194304
write_pattern() { dd if=/tmp/pull/pattern of="$1" bs=64k oflag=direct conv=fsync; }
same_as_pattern() { [ "$(read_mib "$1" 0 4 | sha256sum)" = "$(sha256sum </tmp/pull/pattern)" ]; }
read_once() { dd if="$1" of=/dev/null bs=4k count=1 skip=3 iflag=direct; }
check "a pattern, flushed" write_pattern "$pulled"
check "a pattern on the other disk" write_pattern "$other"
# Reads under way while it goes, some of them polled for.
for job in 1 2 3 4; do
    (while [ ! -e /tmp/pull/stop ]; do dd if="$pulled" of=/dev/null bs=4k count=256 skip=$((job * 512)) iflag=direct; done) \
        >/dev/null 2>&1 &
done
sleep 1
check "a pattern in the cache, not flushed" dd if=/tmp/pull/pattern of="$cached" bs=64k oflag=direct

pull_out() { echo 1 >"/sys/class/nvme/$controller/device/remove"; }
check "it is pulled out under I/O" pull_out
check "the daemon says so" wait_for 20 grep -q 'volume pulled: its device is gone' /tmp/kagamid.log
refuse "TEST UNIT READY says so" sg_turs "$pulled"
refuse "reads of it fail" read_once "$pulled"
refuse "writes to it fail" dd if=/tmp/pull/pattern of="$pulled" bs=4k count=1 oflag=direct
check "the other device is gone, too" wait_for 20 grep -q 'volume cached: its device is gone' /tmp/kagamid.log
check "the other disk goes on" same_as_pattern "$other"
touch /tmp/pull/stop
# The kernel gives the name to it again once nobody has the old one open; then its subsystem is gone, too.
check "nobody has it open" wait_for 20 test ! -e "$subsystem"
echo 1 >/sys/bus/pci/rescan
check "it is put back, by its old name" wait_for 20 test -b "/dev/${controller}n1"
check "the volume goes on with it" wait_for 20 grep -q 'volume pulled: its device is back' /tmp/kagamid.log
check "so does the one that is cached" wait_for 20 grep -q 'volume cached: its device is back' /tmp/kagamid.log
check "it is ready again" wait_for 20 sg_turs "$pulled"
check "a flush of what was not flushed" wait_for 20 sg_sync "$cached"
check "the hosts' data is there" wait_for 20 same_as_pattern "$pulled"
check "it takes writes" fio_verify "$pulled" --rw=randwrite --bs=4k --iodepth=8 --size=2M
check "a flush of it" sg_sync "$pulled"

check "logout" logout pulled "$target_pull"
check "SIGTERM: it ends with exit code 0" end_daemon TERM 0
check "what was in the cache is on the device" same_as_pattern "/dev/${controller}n2"
grep volume /tmp/kagamid.log | sed 's/^/VM: /'
rm -rf /tmp/pull
PORTAL=$away
all_processors
