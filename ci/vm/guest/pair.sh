# A pair of volumes on two arrays, and a database on whichever of them is the primary: SQLite on ext4. Two swaps (unmount, swap,
# mount; writes until then), and a takeover after the first array is killed under load (VM-DO: near KILL); then the first
# array comes back, finds that it was taken over from, gets the difference, and is the primary again.

on_far() { (PORTAL=10.0.2.2:$far_port && "$@"); }
check "record for the first array" host near "$iqn_pair" "$target_plain"
check "record for the second array" on_far host away "$iqn_pair" "$target_far"
check "login to the first array" login near "$target_plain"
check "login to the second array" on_far login away "$target_far"
for lun in 40 10; do check "LUN $lun of the first array" wait_for 20 disk_there near $lun; done
check "LUN 1 of the second array" wait_for 20 disk_there away 1

# What the tool is told goes by the first array's command device, while that array is there.
(umask 077 && printf '%s\n' "$operator_key" >/tmp/ops.key)
by() { # by ROLE ORDER...: through that array's command device
    role=$1 orders=10
    shift
    [ "$role" = near ] || orders=1
    kagami --via "/dev/$(disk "$role" $orders)" "$@" --operator ops --key-file /tmp/ops.key
}
state_is() { # state_is ROLE STATE
    by "$1" pair status db --json >/tmp/status && grep -q "\"state\": *\"$2\"" /tmp/status
}
pair_up() {
    by near pair create --group db --primary ci:40 --secondary far:40 --journal ci:41 --secondary-journal far:41
}
check "a pair, from the first array to the second" pair_up
check "it is in PAIR" wait_for 60 state_is near PAIR

# A role that changes is seen after a rescan: Linux reads WP and WCE when it probes.
fresh() { # fresh ROLE: the disk of the pair at that array, as it is now
    name=$(disk "$1" 40) || return 1
    echo 1 >"/sys/block/$name/device/rescan"
    blockdev --rereadpt "/dev/$name" 2>/dev/null
    echo 3 >/proc/sys/vm/drop_caches
}
use() { # use ROLE: mounts the pair's volume at that array
    fresh "$1" && mkdir -p /mnt/db && mount -t ext4 "/dev/$(disk "$1" 40)" /mnt/db
}
sql() { sqlite3 -batch -cmd '.timeout 5000' /mnt/db/rows.db "$@"; }
begin_rows() { sql 'PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT);'; }
add_rows() { # add_rows COUNT: a transaction
    sql "PRAGMA synchronous=FULL; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
        INSERT INTO rows (text) SELECT hex(randomblob(100)) FROM n;" >/dev/null
}
count_rows() { sql 'SELECT count(*) FROM rows;'; }
sound() { # sound: the database's own check finds nothing
    answer=$(sql 'PRAGMA integrity_check;')
    [ "$answer" = ok ] || { echo "$answer"; return 1; }
}
whole() { # whole: every row that was ever added is there, and no other
    sound || return 1
    found=$(count_rows)
    [ "$found" = "$rows" ] || { echo "$found rows, not $rows"; return 1; }
}
rows=0
more() {
    batch=0
    while [ $batch -lt 6 ]; do
        add_rows 25 || return 1
        rows=$((rows + 25))
        batch=$((batch + 1))
    done
}

check "mkfs.ext4 on the primary" mkfs.ext4 -q -F -b 4096 "/dev/$(disk near 40)"
check "it is mounted" use near
check "a database on it" begin_rows
check "rows" more
check "umount" umount /mnt/db
refuse "the secondary takes no writes" dd if=/dev/zero "of=/dev/$(disk away 40)" bs=4k count=1 oflag=direct

# swapped ROLE: by that array, which is to be the primary
swapped() {
    by "$1" pair swap db
    code=$?
    [ $code -eq 10 ] || { echo "exit code $code"; return 1; }
}
check "swap, ordered at the first array" swapped near
check "the volume is mounted from the second array" use away
check "all rows are there" whole
check "more rows" more
check "umount again" umount /mnt/db
check "PAIR again" wait_for 60 state_is away PAIR
check "swap back, ordered at the second array" swapped away
check "the volume is mounted from the first array" use near
check "all rows are there again" whole
check "PAIR once more" wait_for 60 state_is near PAIR

# The first array dies under load. What was committed before the marker arrived must be on the second.
check "rows before the marker" more
check "a marker has arrived" by near marker db before --wait
kept=$rows
(while add_rows 5; do :; done) >/dev/null 2>&1 &
writer=$!
sleep 2
echo "VM-DO: near KILL"
sleep 3
taken_over() {
    by away pair takeover db
    code=$?
    [ $code -eq 11 ] || { echo "exit code $code"; return 1; }
}
check "what a takeover would lose" by away pair takeover db --dry-run
check "takeover at the second array" taken_over
kill $writer 2>/dev/null
# The dead array's disk keeps its mount busy: the other one is mounted beside it.
use_beside() { fresh away && mkdir -p /mnt/taken && mount -t ext4 "/dev/$(disk away 40)" /mnt/taken; }
check "the volume is mounted from the second array, its log replayed" use_beside
after() {
    answer=$(sqlite3 -batch /mnt/taken/rows.db 'PRAGMA integrity_check;')
    [ "$answer" = ok ] || { echo "$answer"; return 1; }
    found=$(sqlite3 -batch /mnt/taken/rows.db 'SELECT count(*) FROM rows;')
    echo "$found rows, $kept before the marker"
    # Five rows at a time came after it.
    [ "$found" -ge "$kept" ] && [ $(((found - kept) % 5)) -eq 0 ]
}
check "the database is sound and has all that the marker covered" after
tail -n 1 "$LOG" | sed 's/^/VM:   /'
after_rows=$(sqlite3 -batch /mnt/taken/rows.db "INSERT INTO rows (text) VALUES ('after'); SELECT count(*) FROM rows;")
check "umount of what was taken over" umount /mnt/taken

# The first array comes back. It has been taken over from: it takes no writes, gets the difference, and is the primary again.
umount -l /mnt/db
echo "VM-DO: near START"
check "the first array's disk answers again" wait_for 60 logged_in near
fenced() { by near pair status db --json >/tmp/status && grep -q '"overtaken": *true\|"fenced": *true' /tmp/status; }
check "it knows that it was taken over from" wait_for 30 fenced
refuse "it takes no writes" dd if=/dev/zero "of=/dev/$(disk near 40)" bs=4k count=1 oflag=direct
check "what it alone had is given up, the difference is copied" by away pair resync db --discard ci
check "PAIR, from the second array to the first" wait_for 60 state_is away PAIR
check "swap, so that the first array is the primary again" swapped away
check "the volume is mounted from it" use near
whole_again() {
    sound || return 1
    found=$(count_rows)
    echo "$found rows, $after_rows after the takeover"
    [ "$found" = "$after_rows" ]
}
check "all rows of the second array are there" whole_again
check "umount at the end" umount /mnt/db
check "logout from the first array" logout near "$target_plain"
check "logout from the second array" on_far logout away "$target_far"
rm -f /tmp/ops.key
