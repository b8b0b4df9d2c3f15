# ext4 and XFS: make, mount, write files, sync, unmount, mount again, compare, trim, check the structures.

fill() {
    folder=$1
    number=0
    mkdir -p "$folder/deep/er" || return 1
    while [ $number -lt 12 ]; do
        # Odd sizes, so that last blocks are partial.
        head -c $((number * number * 8192 + number * 777 + 13)) /dev/urandom >"$folder/deep/er/f$number" || return 1
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

check "mkfs.ext4 on 512" mkfs.ext4 -q -F "$small"
check "ext4 on 512: files survive a remount" round_trip ext4 "$small"
check "ext4 on 512: fstrim takes only what was freed" trim "$small"
check "ext4 on 512: e2fsck finds nothing" e2fsck -fn "$small"
check "mkfs.xfs on 4096" mkfs.xfs -q -f "$large"
check "XFS on 4096: files survive a remount" round_trip xfs "$large"
check "XFS on 4096: fstrim takes only what was freed" trim "$large"
check "XFS on 4096: xfs_repair finds nothing" xfs_repair -n "$large"
check "mkfs.xfs on 512" mkfs.xfs -q -f "$small"
check "XFS on 512: files survive a remount" round_trip xfs "$small"
umount /mnt/t 2>/dev/null
check "mkfs.ext4 on 4096" mkfs.ext4 -q -F -b 4096 "$large"
check "ext4 on 4096: files survive a remount" round_trip ext4 "$large"
umount /mnt/t 2>/dev/null
