#!/usr/bin/env bash
# Installs from Debian what the project's tests need and this machine does not have yet.
#
# Safe to run any number of times; asks the package registry only when something is missing. Needs root.
# The virtual machine's kernel is not installed (that would run boot-loader hooks): ci/vm/image.sh unpacks it.
set -euo pipefail

# package : a file that proves it is there
NEEDED=(
    "gcc:/usr/bin/gcc"
    "g++:/usr/bin/g++"
    "libc6-dev:/usr/include/stdio.h"
    "libiscsi-bin:/usr/bin/iscsi-test-cu"
    "tgt:/usr/sbin/tgtd"
    "open-iscsi:/usr/sbin/iscsiadm"
    "fio:/usr/bin/fio"
    "sg3-utils:/usr/bin/sg_persist"
    "qemu-system-x86:/usr/bin/qemu-system-x86_64"
    "busybox-static:/bin/busybox"
    "e2fsprogs:/sbin/mke2fs"
    "xfsprogs:/sbin/mkfs.xfs"
    "cpio:/usr/bin/cpio"
    "kmod:/sbin/depmod"
    "xz-utils:/usr/bin/xz"
    "zstd:/usr/bin/zstd"
    "util-linux:/sbin/losetup"
    "dmsetup:/sbin/dmsetup"
    "iproute2:/bin/ss"
    "nbdkit:/usr/bin/nbdkit"
    "libnbd-bin:/usr/bin/nbdfuse"
    "fuse3:/usr/bin/fusermount3"
    "python3:/usr/bin/python3"
    "shellcheck:/usr/bin/shellcheck"
    "sqlite3:/usr/bin/sqlite3"
)

missing=()
for entry in "${NEEDED[@]}"; do
    package=${entry%%:*} file=${entry#*:}
    # Debian 12 merged /bin into /usr/bin; either place will do.
    if [[ ! -e $file && ! -e /usr$file ]]; then
        missing+=("$package")
    fi
done

if ((${#missing[@]} == 0)); then
    echo "deps: all ${#NEEDED[@]} Debian packages are there"
    exit 0
fi
if ((EUID != 0)); then
    echo "deps: missing ${missing[*]}; run as root: apt-get install ${missing[*]}" >&2
    exit 1
fi

echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Nothing that these packages bring may start a service: the tests start what they need by themselves.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get -q -o Dpkg::Use-Pty=0 update
apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}"
for entry in "${NEEDED[@]}"; do
    file=${entry#*:}
    [[ -e $file || -e /usr$file ]] || {
        echo "deps: ${entry%%:*} is installed but $file is not there" >&2
        exit 1
    }
done
