# Discovery and plain login; the disks have the block sizes that were configured.
#
# The target reports the portal as it knows it, 127.0.0.1:PORT, which this guest reaches as 10.0.2.2:PORT. The records
# that discovery made for the former are therefore deleted, and every login uses a static record for the latter.

sendtargets() {
    iscsiadm -m discovery -t sendtargets -p "$PORTAL" >/tmp/targets || return 1
    cat /tmp/targets
    grep -q "^[0-9.]*:$port,[0-9]* $target_plain\$" /tmp/targets
}
check "discovery by SendTargets names the target and its portal" sendtargets
iscsiadm -m node -o delete >/dev/null 2>&1

check "record for the plain initiator" host plain "$iqn_plain" "$target_plain"
check "plain login" login plain "$target_plain"
check "512-byte LUN is a disk" wait_for 20 disk_there plain "$lun512"
check "4096-byte LUN is a disk" wait_for 20 disk_there plain "$lun4096"
small=/dev/$(disk plain "$lun512")
large=/dev/$(disk plain "$lun4096")

block_size_is() { [ "$(cat "/sys/block/${1#/dev/}/queue/logical_block_size")" = "$2" ]; }
size_is() { [ "$(cat "/sys/block/${1#/dev/}/size")" = $(($2 * 2048)) ]; }
check "block size 512" block_size_is "$small" 512
check "block size 4096" block_size_is "$large" 4096
check "size of the 512-byte LUN" size_is "$small" "$mib"
check "size of the 4096-byte LUN" size_is "$large" "$mib"
for device in "$small" "$large"; do
    queue=/sys/block/${device#/dev/}/queue
    echo "VM: $device: write cache $(cat "$queue/write_cache"), FUA $(cat "$queue/fua"), discard granularity" \
        "$(cat "$queue/discard_granularity"), discard max $(cat "$queue/discard_max_bytes"), write same max" \
        "$(cat "$queue/write_zeroes_max_bytes"), largest request $(cat "$queue/max_sectors_kb") KiB"
done

identity() { sg_inq "$1" && sg_vpd --page=di "$1" && sg_vpd --page=sn "$1" && sg_vpd --page=bl "$1" && sg_luns "$1"; }
check "INQUIRY, VPD pages and REPORT LUNS read well on 512" identity "$small"
check "INQUIRY, VPD pages and REPORT LUNS read well on 4096" identity "$large"

# Linux binds its ALUA handler to units that say they have target port groups; tgtd's do not.
access_state_is() { [ "$(cat "/sys/block/${1#/dev/}/device/access_state")" = "$2" ]; }
if [ "$kind" = kagamid ]; then
    check "ALUA: the path is active/optimized" access_state_is "$small" active/optimized
fi
