# The target goes away under I/O, once by SIGTERM and once by SIGKILL, and comes back: nothing is lost, nothing fails.
#
# fio writes synchronously, since a write-back target may forget an acknowledged write that was not flushed when it is
# killed; the file system beside it flushes at every file.

mkfs.ext4 -q -F -b 4096 "$large" >"$LOG" 2>&1
mkdir -p /mnt/r
check "mount before the restarts" mount -t ext4 "$large" /mnt/r

fio_verify "$small" --rw=randwrite --bs=4k --iodepth=8 --size=20M --sync=1 --rate=500k --numjobs=1 \
    >/tmp/fio-restart.log 2>&1 &
fio_job=$!
(
    number=0
    while [ ! -e /tmp/stop-writing ]; do
        dd if=/dev/urandom of=/mnt/r/f$number bs=8k count=$((number % 16 + 1)) conv=fsync 2>/dev/null || exit 1
        (cd /mnt/r && sha256sum f$number) >>/tmp/restart-sums || exit 1
        number=$((number + 1))
        sleep 0.1
    done
) &
file_job=$!

sleep 3
for signal in TERM KILL; do
    before=$(connection_errors)
    echo "VM-DO: restart $signal"
    lost() { [ "$(connection_errors)" -gt "$before" ]; }
    check "SIG$signal: the connection breaks" wait_for 30 lost
    check "SIG$signal: the session comes back" wait_for 60 logged_in plain
    sleep 3
done
check "I/O was under way all the time" kill -0 $fio_job
touch /tmp/stop-writing
if wait $fio_job; then
    pass "fio over the restarts: every block as written"
else
    fail "fio over the restarts"
    tail -n 20 /tmp/fio-restart.log | sed 's/^/VM:   /'
fi
if wait $file_job; then pass "files were written over the restarts: $(wc -l </tmp/restart-sums)"; else fail "files over the restarts"; fi
files_kept() {
    umount /mnt/r || return 1
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 "$large" /mnt/r && (cd /mnt/r && sha256sum -c /tmp/restart-sums) && umount /mnt/r
}
check "the files are as written" files_kept
check "ext4 is whole after the restarts" e2fsck -fn "$large"
no_errors() { ! dmesg | grep -E "I/O error, dev (${small#/dev/}|${large#/dev/})|Aborting journal"; }
check "no I/O error reached a file or a disk" no_errors
