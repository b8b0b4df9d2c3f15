#!/usr/bin/env bash
# Makes what the virtual machine boots: Debian's own kernel and an initramfs with its iSCSI initiator.
#
#   ci/vm/image.sh            writes build/vm/vmlinuz and build/vm/initramfs.cpio; does nothing if they are current
#
# The kernel package is downloaded and unpacked, not installed, so this machine's own boot set-up is left alone.
# Inside: busybox, the kernel modules for iSCSI, disks, NVMe, dm-log-writes, the kernel's own target, file systems and the network card with all they depend
# on, open-iscsi's iscsid and iscsiadm, mkfs for ext4 and XFS, fio, sg3-utils, the shared libraries of all these,
# and ci/vm/guest/ as the first program and the tests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/../lib.sh"
# shellcheck source=vm/pack.sh
. "$here/pack.sh"

need cpio depmod modprobe busybox dash fio sqlite3 iscsid iscsiadm mkfs.ext4 mkfs.xfs sg_persist dmsetup dpkg-deb ldd

OUT=$BUILD/vm
MODULES=(crc32c_generic virtio_pci virtio_net virtio_blk iscsi_tcp sd_mod sg ext4 xfs scsi_dh_alua nvme dm-log-writes target_core_mod iscsi_target_mod)
PROGRAMS=(iscsid iscsiadm dash fio mkfs.ext4 e2fsck mkfs.xfs xfs_repair blkdiscard blockdev fstrim dmsetup sqlite3
    sg_persist sg_inq sg_vpd sg_unmap sg_readcap sg_sync sg_dd sg_raw sg_luns sg_opcodes sg_rtpg sg_logs sg_turs)
mkdir -p "$OUT"

# --- the kernel ------------------------------------------------------------------------------------------------

fetch_kernel() {
    local package file
    package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
    if [[ -z $package ]]; then
        apt-get -q update >&2
        package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    fi
    [[ -n $package ]] || die "Debian offers no linux-image-amd64"
    say "vm: downloading $package"
    rm -rf "$OUT/kernel.new"
    mkdir -p "$OUT/kernel.new/deb"
    # As root apt drops to its own user for downloads, which must be able to write there.
    chmod 777 "$OUT/kernel.new/deb"
    (
        cd "$OUT/kernel.new/deb"
        # The package lists may be older than the archive: once more with new ones.
        apt-get -q -o APT::Sandbox::User=root download "$package" ||
            { apt-get -q update && apt-get -q -o APT::Sandbox::User=root download "$package"; }
    )
    file=$(echo "$OUT/kernel.new/deb/$package"_*.deb)
    dpkg-deb -x "$file" "$OUT/kernel.new"
    rm -rf "$OUT/kernel.new/deb" "$OUT/kernel"
    mv "$OUT/kernel.new" "$OUT/kernel"
}

kernel_version() {
    local folder
    for folder in "$OUT"/kernel/lib/modules/*; do
        if [[ -d $folder ]]; then
            basename "$folder"
            return
        fi
    done
}

[[ -n $(kernel_version) ]] || fetch_kernel
version=$(kernel_version)
[[ -n $version ]] || die "the kernel package holds no modules"

# --- is the image current? -------------------------------------------------------------------------------------

stamp=$(
    {
        echo "$version"
        cat "$here/image.sh" "$here/pack.sh" "$here"/guest/*
        dpkg-query -W -f '${Package} ${Version}\n' open-iscsi fio sg3-utils e2fsprogs xfsprogs busybox-static dmsetup libc6
    } | sha256sum
)
if [[ -f $OUT/initramfs.cpio && -f $OUT/stamp && $(<"$OUT/stamp") == "$stamp" ]]; then
    say "vm: kernel $version and initramfs are current"
    exit 0
fi

# --- the initramfs ---------------------------------------------------------------------------------------------

tree=$OUT/tree
rm -rf "$tree"
mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,run/lock/iscsi,tmp,mnt,etc/iscsi,var/lib/iscsi,tests}
ln -s ../run "$tree/var/run"

add_program() {
    local path
    path=$(command -v "$1") || die "$1 is missing"
    pack_program "$tree" "$1" "$path"
}

for program in "${PROGRAMS[@]}"; do add_program "$program"; done
cp "$(command -v busybox)" "$tree/bin/busybox"
while read -r applet; do
    # Real programs, where there is one, come before busybox's.
    [[ -e $tree/usr/sbin/$applet || $applet == busybox || $applet == sh ]] || ln -sf busybox "$tree/bin/$applet"
done < <(busybox --list)
# Not busybox's shell: that one takes its own applets before the real programs.
ln -s /usr/sbin/dash "$tree/bin/sh"
# open-iscsi refuses to work without a user database.
echo 'root:x:0:0:root:/:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"

source_modules=$OUT/kernel/lib/modules/$version
target_modules=$tree/lib/modules/$version
mkdir -p "$target_modules"
cp "$source_modules"/modules.{order,builtin,builtin.modinfo} "$target_modules/"
depmod -b "$OUT/kernel" "$version"
for module in "${MODULES[@]}"; do
    modprobe -d "$OUT/kernel" -S "$version" --show-depends "$module" |
        awk '$1 == "insmod" { print $2 }'
done | sort -u | while read -r path; do
    relative=${path#"$source_modules"/}
    mkdir -p "$target_modules/$(dirname "$relative")"
    cp "$path" "$target_modules/$relative"
done
depmod -b "$tree" "$version"

cp "$here/guest/init" "$tree/init"
cp "$here"/guest/*.sh "$tree/tests/"
chmod 755 "$tree/init"

pack_archive "$tree" "$OUT/initramfs.cpio"
cp "$OUT/kernel/boot/vmlinuz-$version" "$OUT/vmlinuz"
rm -rf "$tree"
printf '%s\n' "$stamp" >"$OUT/stamp"
say "vm: kernel $version, initramfs $(du -h "$OUT/initramfs.cpio" | cut -f1)"
