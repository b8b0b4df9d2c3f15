# The kernel's own target, LIO, as the far array: kagamid in this machine maps one of its LUNs, and the initiator beside
# it uses that as its disk. LIO knows nothing of Kagami; what is served of it is what any standard target gives.

away=$PORTAL
config=/sys/kernel/config
target_lio=iqn.2003-01.org.linux-iscsi.vm:far
target_lio_here=iqn.2026-11.io.kagami:before-lio
lio_volume() {
    modprobe configfs
    [ -d $config/target ] || mount -t configfs none $config 2>/dev/null
    modprobe target_core_mod && modprobe iscsi_target_mod || return 1
    mkdir -p $config/target/core/rd_mcp_0/far || return 1
    # Pages of 4 KiB.
    echo "rd_pages=8192" >$config/target/core/rd_mcp_0/far/control &&
        echo 1 >$config/target/core/rd_mcp_0/far/enable
}
lio_target() {
    group=$config/target/iscsi/$target_lio/tpgt_1
    mkdir -p $config/target/iscsi && mkdir -p "$group/np/127.0.0.1:3264" "$group/lun/lun_0" || return 1
    ln -s $config/target/core/rd_mcp_0/far "$group/lun/lun_0/far" || return 1
    echo 0 >"$group/attrib/authentication" && echo 0 >"$group/attrib/demo_mode_write_protect" &&
        echo 1 >"$group/attrib/generate_node_acls" && echo 1 >"$group/attrib/cache_dynamic_acls" &&
        echo 1 >"$group/enable"
}
check "LIO has a volume" lio_volume
check "LIO serves it" lio_target
PORTAL=127.0.0.1:3260
mkdir -p /tmp/lio
cat >/tmp/kagamid.toml <<CONF
[array]
name = "before-lio"
iqn = "$target_lio_here"
data = "/tmp/lio/data"
admin = "/tmp/lio/admin.sock"
listen = ["$PORTAL"]
cache = "32MiB"
max_sessions = 8
max_connections = 8
[[peer]]
name = "lio"
portal = "127.0.0.1:3264"
iqn = "$target_lio"
[[virtual]]
lun = 5
peer = "lio"
mapped_lun = 0
[[initiator]]
iqn = "$iqn_second"
luns = [5]
CONF
check "kagamid before LIO starts" start_daemon
check "record for it" host lio "$iqn_second" "$target_lio_here"
check "login to it" login lio "$target_lio_here"
check "LIO's volume is a disk" wait_for 20 disk_there lio 5
sed 's/^/VM: kagamid: /' /tmp/kagamid.log
lio=/dev/$(disk lio 5)
lio_size() { [ "$(cat "/sys/block/${lio#/dev/}/size")" = $((8192 * 8)) ]; }
check "of LIO's size" lio_size
check "fio: random 4 KiB through kagamid to LIO" fio_verify "$lio" --rw=randrw --bs=4k --iodepth=16 --size=8M
check "fio: 1 MiB writes, R2Ts both ways" fio_verify "$lio" --rw=write --bs=1M --iodepth=4 --size=16M
check "mkfs.ext4 on it" mkfs.ext4 -q -F "$lio"
check "ext4: files survive a remount" round_trip ext4 "$lio"
umount /mnt/t 2>/dev/null
check "flush" sg_sync "$lio"
check "logout from it" logout lio "$target_lio_here"
check "kagamid before LIO ends with exit code 0" end_daemon TERM 0
PORTAL=$away
