# Packs programs and archives for the virtual machine. Sourced by image.sh and run.sh, never run.
# shellcheck shell=bash

# pack_program TREE NAME PATH: copies a program, and the shared libraries it needs to where the loader will look.
pack_program() {
    local tree=$1 name=$2 path libs library
    path=$(readlink -f "$3")
    mkdir -p "$tree/usr/sbin"
    cp -L "$path" "$tree/usr/sbin/$name"
    libs=$(ldd "$path" 2>/dev/null | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }') || true
    for library in $libs; do
        [[ -e $tree$library ]] && continue
        mkdir -p "$tree$(dirname "$library")"
        cp -L "$library" "$tree$library"
    done
}

# pack_archive TREE FILE: an archive as the kernel unpacks it; it takes several, one after the other in one file.
pack_archive() {
    (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --null --quiet -o -H newc -R 0:0) >"$2.new"
    mv "$2.new" "$2"
}
