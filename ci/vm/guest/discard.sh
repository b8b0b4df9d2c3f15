# Discard and write-zeroes: the range reads as zeros, its neighbours are as they were.

mib() { dd if="$1" bs=1M skip="$2" count="$3" iflag=direct 2>/dev/null; }

# discard_range DEVICE OPTION: of twelve written MiB the middle eight are discarded
discard_range() {
    device=$1
    shift
    head -c 12582912 /dev/urandom >/tmp/pattern
    dd if=/tmp/pattern of="$device" bs=1M oflag=direct 2>/dev/null || return 1
    blkdiscard "$@" -o 2M -l 8M "$device" || return 1
    [ "$(mib "$device" 2 8 | tr -d '\0' | wc -c)" -eq 0 ] || { echo "not zero"; return 1; }
    [ "$(mib "$device" 0 2 | sha256sum)" = "$(head -c 2097152 /tmp/pattern | sha256sum)" ] || { echo "before changed"; return 1; }
    [ "$(mib "$device" 10 2 | sha256sum)" = "$(tail -c 2097152 /tmp/pattern | sha256sum)" ] || { echo "after changed"; return 1; }
}

check "discard on 512" discard_range "$small"
check "discard on 4096" discard_range "$large"
check "write zeroes on 512" discard_range "$small" -z
check "write zeroes on 4096" discard_range "$large" -z
rm -f /tmp/pattern
