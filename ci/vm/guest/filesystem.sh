# ext4 and XFS: make, mount, write files, sync, unmount, mount again, compare, trim, check the structures.

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
