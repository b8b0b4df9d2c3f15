#!/usr/bin/env bash
# Proves that the target passes somebody else's tests: all suites of libiscsi's iscsi-test-cu, data loss allowed, on a
# 512-byte and on a 4096-byte LUN, each over one path and over two portals (the multipath variant), and the suite for
# write protection on a read-only LUN.
#
#   ci/suite.sh                              starts the target under test by itself, runs all variants
#   ci/suite.sh 4096 512-multipath           only these
#   SUITE_512=URL SUITE_4096=URL ci/suite.sh against a target that runs already; SUITE_512_2, SUITE_4096_2: second portals
#
# Skips must be the ones in ci/suite-skips.txt, no more and no fewer. What the suites print is kept in build/ci/suite/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=target.sh
. "$here/target.sh"

need iscsi-test-cu python3
variants=("$@")
((${#variants[@]})) || variants=(512 4096 512-multipath 4096-multipath 512-read-only)

work=$(work_folder suite)
finish() {
    local code=$?
    [[ -z ${TARGET_PID:-} ]] || target_kill
    if ((code == 0)) && [[ -z ${KEEP:-} ]]; then rm -rf "$work"; else say "suite: what was left is in $work"; fi
}
trap finish EXIT

if [[ -z ${SUITE_512:-} ]]; then
    target_init "$work/target"
    # In memory, as its physical block is the logical one: GetLBAStatus.UnmapSingle expects an answer about
    # another block than it asked for where physical blocks are larger, as they are in files.
    target_lun 0 512 256 ram
    target_lun 1 4096 256
    target_lun 2 512 64 - read_only=true
    target_start
    first=iscsi://127.0.0.1:$TARGET_PORT/$(target_iqn any)
    second=iscsi://127.0.0.1:$TARGET_PORT_2/$(target_iqn any)
    SUITE_512=$first/$(target_wire_lun 0) SUITE_READ_ONLY=$first/$(target_wire_lun 2) SUITE_512_2=$second/$(target_wire_lun 0)
    SUITE_4096=$first/$(target_wire_lun 1) SUITE_4096_2=$second/$(target_wire_lun 1)
fi

rm -rf "$BUILD/ci/suite"
bad=0
run_variant() {
    local variant=$1 urls only='*'
    case $variant in
        512) urls=("$SUITE_512") ;;
        4096) urls=("$SUITE_4096") ;;
        512-multipath) urls=("$SUITE_512" "${SUITE_512_2:-$SUITE_512}") ;;
        4096-multipath) urls=("$SUITE_4096" "${SUITE_4096_2:-$SUITE_4096}") ;;
        512-read-only) urls=("${SUITE_READ_ONLY:-$SUITE_512}") only=ReadOnly ;;
        *) die "no variant $variant; there are 512, 4096, 512-multipath, 4096-multipath and 512-read-only" ;;
    esac
    python3 "$here/suite.py" --variant "$variant" --logs "$BUILD/ci/suite" --only "$only" "${urls[@]}"
}
for variant in "${variants[@]}"; do
    run_variant "$variant" || bad=1
done

if [[ -n ${TARGET_PID:-} ]]; then
    alive "$TARGET_PID" || die "the target is no longer running"
    target_stop || die "the target did not end well on SIGTERM"
fi
((bad == 0)) || die "not as expected; see above and $BUILD/ci/suite/"
say "suite: passed in $SECONDS s"
