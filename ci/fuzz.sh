#!/usr/bin/env bash
# Proves that no input makes the parsers panic, hang or eat memory: runs each fuzz target of tools/fuzz under libFuzzer,
# first over the seeds of all targets, then on from its own for some seconds.
#
#   ci/fuzz.sh [SECONDS [TARGET...]]       FUZZ_SECONDS or 10 seconds each, all targets
#
# Does what `cargo fuzz` would, without needing it or a nightly compiler: the coverage counters are plain code generation
# options. Seeds are in tools/fuzz/corpus/TARGET; what is found beyond them is kept in build/fuzz/corpus, crashes in
# build/fuzz/artifacts, where a later run with the file as argument repeats them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

seconds=${1:-${FUZZ_SECONDS:-10}}
(($# == 0)) || shift
manifest=$ROOT/tools/fuzz/Cargo.toml
[[ -f $manifest ]] || die "$manifest is not there"
triple=$(rustc -vV | sed -n 's/^host: //p')
output=$BUILD/fuzz

flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
# --target keeps the flags away from build scripts and procedural macros.
RUSTFLAGS=$flags cargo build --release --manifest-path "$manifest" --target "$triple" --target-dir "$output"

targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(
    cargo metadata --manifest-path "$manifest" --no-deps --format-version 1 |
        python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if "bin" in target["kind"]:
            print(target["name"])'
)
((${#targets[@]})) || die "tools/fuzz has no targets"

mkdir -p "$output/artifacts"
for target in "${targets[@]}"; do
    seeds=$ROOT/tools/fuzz/corpus/$target found=$output/corpus/$target
    [[ -n $(find "$seeds" -type f -print -quit 2>/dev/null) ]] || die "$target has no seed corpus in $seeds"
    mkdir -p "$found"
    say "fuzz: $target, $(find "$seeds" -type f | wc -l) seeds"
    # Each takes far less than a millisecond; the time-out leaves room for a machine that is busy with something else.
    options=(-timeout=25 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$output/artifacts/$target-")
    words=$ROOT/tools/fuzz/dict/$target.dict
    [[ ! -f $words ]] || options+=(-dict="$words")
    # A seed that is given by name is run once, as it is; so are those of the other targets, which are nonsense here.
    failed=
    find "$ROOT/tools/fuzz/corpus" -type f -print0 |
        xargs -0 -n 4096 "$output/$triple/release/$target" "${options[@]}" >"$output/$target.log" 2>&1 || failed=1
    [[ -n $failed ]] || "$output/$triple/release/$target" "${options[@]}" -max_total_time="$seconds" "$found" "$seeds" \
        >"$output/$target.log" 2>&1 || failed=1
    [[ -z $failed ]] || {
        tail -n 30 "$output/$target.log"
        die "$target failed; the input is in $output/artifacts or named above"
    }
    grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "$output/$target.log" | sed 's/^/  /'
done
say "fuzz: passed, ${#targets[@]} targets of $seconds s each"
