# Two arrays, of which this machine sees only the first: LUN 30 lies on the second one and is a disk with file systems
# like any other; LUN 31 is the second array's command device, LUN 10 the first one's own. Orders for the second array
# go by plain WRITEs to either. The host script kills the second array under I/O and starts it again (VM-DO: far KILL).

check "record for the host of two arrays" host far "$iqn_far" "$target_plain"
check "login to the first array" login far "$target_plain"
for lun in 30 31 10; do check "LUN $lun is a disk" wait_for 20 disk_there far $lun; done
far=/dev/$(disk far 30)
through=/dev/$(disk far 31)
own=/dev/$(disk far 10)

# What a virtual volume says of itself is what the far one says: here 4096-byte blocks and 96 MiB.
far_block_size() { [ "$(cat "/sys/block/${far#/dev/}/queue/logical_block_size")" = 4096 ]; }
far_size() { [ "$(cat "/sys/block/${far#/dev/}/size")" = $((96 * 2048)) ]; }
check "it has the far volume's blocks" far_block_size
check "and its size" far_size
identity_far() { sg_inq "$far" && sg_vpd --page=di "$far" && sg_vpd --page=bl "$far" && sg_vpd --page=lbpv "$far"; }
check "INQUIRY and VPD pages read well" identity_far

check "mkfs.ext4 on it" mkfs.ext4 -q -F -b 4096 -L kagami-far "$far"
check "ext4: files survive a remount" round_trip ext4 "$far"
check "ext4: fstrim takes only what was freed" trim "$far"
check "ext4: e2fsck finds nothing" e2fsck -fn "$far"
check "fio: random writes at the end of it" fio_verify "$far" --rw=randwrite --bs=4k --iodepth=8 --offset=80M --size=4M
check "fio: 256 KiB writes, in order" fio_verify "$far" --rw=write --bs=256k --iodepth=4 --offset=80M --size=8M

# Orders. The first array hands on what is for the second; whoever changes something signs it.
(umask 077 && printf '%s\n' "$operator_key" >/tmp/ops.key)
signed() { kagami "$@" --operator ops --key-file /tmp/ops.key; }
answers() { # answers WORD COMMAND...
    word=$1
    shift
    "$@" >/tmp/answer 2>&1 || { cat /tmp/answer; return 1; }
    cat /tmp/answer
    grep -q "$word" /tmp/answer
}
refused_with() { # refused_with CODE COMMAND...
    wanted=$1
    shift
    "$@"
    code=$?
    [ $code -eq "$wanted" ] || { echo "exit code $code"; return 1; }
}
check "the first array says who it is" answers '^ci\b\|ci ' kagami --via "$own" arrays
check "the second one's volumes, through its command device" answers far-volume signed --via "$through" volumes
check "the same, handed on by the first" answers far-volume signed --via "$own" --array far volumes
check "the command devices" answers far kagami --via "$own" tables
check "an unsigned change is refused" refused_with 3 \
    kagami --via "$own" --array far volume create unsigned --pool pool --size 8MiB
check "the second array makes a volume, ordered through the first" \
    signed --via "$own" --array far volume create made --pool pool --size 16MiB
check "it is there" answers made signed --via "$through" volumes
check "it grows" signed --via "$through" volume grow made --size 24MiB
check "it is removed" signed --via "$own" --array far volume remove made
gone() { ! answers made signed --via "$through" volumes; }
check "and is gone" gone

# The far array dies under I/O and comes back: commands wait, are given again by the same session, and nothing is lost.
fio_verify "$far" --rw=randwrite --bs=4k --iodepth=8 --offset=80M --size=8M --sync=1 --rate=300k >/tmp/fio-far.log 2>&1 &
fio_job=$!
sleep 2
echo "VM-DO: far KILL"
sleep 8
check "I/O was under way all the time" kill -0 $fio_job
if wait $fio_job; then
    pass "fio over the far array's death: every block as written"
else
    fail "fio over the far array's death"
    tail -n 20 /tmp/fio-far.log | sed 's/^/VM:   /'
fi
check "orders go on, too" answers far-volume signed --via "$own" --array far volumes
still_there() { mount -t ext4 "$far" /mnt/t && (cd /mnt/t && sha256sum -c /tmp/kept) && umount /mnt/t; }
check "ext4 is as it was" still_there
check "logout from the first array" logout far "$target_plain"
rm -f /tmp/ops.key
