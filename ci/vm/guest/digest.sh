# Header and data digests: negotiated, and data goes through them.

digests_on() {
    connection=$(basename "$(session digest)" | sed 's/session/connection/'):0
    [ "$(cat "/sys/class/iscsi_connection/$connection/header_digest")" = 1 ] &&
        [ "$(cat "/sys/class/iscsi_connection/$connection/data_digest")" = 1 ]
}

check "record with digests" host digest "$iqn_second" "$target_plain" \
    'node.conn[0].iscsi.HeaderDigest' CRC32C 'node.conn[0].iscsi.DataDigest' CRC32C
check "login with header and data digest" login digest "$target_plain"
check "its disk is there" wait_for 20 disk_there digest "$lun4096"
check "both digests are on" digests_on
check "fio over digests" fio_verify "/dev/$(disk digest "$lun4096")" --rw=randrw --bsrange=4k-128k --iodepth=8 --size=8M
check "no digest error was seen" sh -c '! dmesg | grep -qi "digest.*\(error\|fail\|mismatch\)"'
check "logout with digests" logout digest "$target_plain"
