#!/usr/bin/env bash
# Runs every test of the project on this machine, and installs from Debian what that needs. Must be root.
#
#   ci/test.sh                  all stages
#   ci/test.sh unit vm          only these (see --list)
#
# Each stage prints its time; what it said is in build/ci/logs/STAGE.log. A tool that is missing is a failure, never a
# skip. The last line counts stages: `N passed, M failed`. The exit code is 0 only if none failed.
set -uo pipefail
# Every background job gets a process group, so that a stage can be stopped with all it started.
set -m
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
cd "$ROOT" || exit 1

LOGS=$BUILD/ci/logs
# Seconds that a stage may take.
LIMIT=${STAGE_LIMIT:-1500}
STAGES=(deps scripts format lint binaries unit docs loom fuzz badinput fulldisk badisk kill manage orders link world pairs moves suite vm default)

stage_deps() { "$here/deps.sh"; }

stage_scripts() {
    shellcheck -x -P "$here" "$here"/*.sh "$here"/vm/*.sh "$here"/manage/*.sh "$here"/orders/*.sh "$here"/link/*.sh "$here"/replicate/*.sh .ci/run &&
        shellcheck -s sh -x -P "$here/vm/guest" -e SC2154,SC2034 "$here"/vm/guest/*.sh "$here/vm/guest/init" &&
        python3 -m py_compile "$here"/*.py "$here"/orders/*.py "$here"/link/*.py "$here"/replicate/*.py "$here"/vm/blackout/*.py bench/*/*.py &&
        rm -rf "$here/__pycache__" "$here/orders/__pycache__" "$here/link/__pycache__" "$here/replicate/__pycache__" "$here/vm/blackout/__pycache__" bench/*/__pycache__
}

stage_format() { cargo fmt --all --check; }

stage_lint() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

# What the functional stages run: quick to build, optimised, the fat link left out.
stage_binaries() {
    cargo build --profile ci --locked -p kagamid -p kagami -p kagami-bench &&
        "$KAGAMID" --version && "$KAGAMI_BENCH" --version && "$BUILD/ci/kagami" --version
}

stage_unit() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --locked --no-fail-fast && cargo test --workspace --locked --doc &&
            cargo nextest run --locked -p kagamid --features faulty --test faulty
    else
        cargo test --workspace --locked --no-fail-fast && cargo test --locked -p kagamid --features faulty --test faulty
    fi
}

stage_docs() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --locked --no-deps; }

# Every interleaving of the lock-free parts. A build folder of its own: the flag changes every crate.
stage_loom() {
    RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-3} CARGO_TARGET_DIR="$BUILD/loom" \
        cargo test --locked --release -p kagami-queue -p kagami-memory
}

stage_fuzz() { "$here/fuzz.sh" "${FUZZ_SECONDS:-10}"; }
stage_badinput() { "$here/badinput.sh"; }
stage_fulldisk() { "$here/fulldisk.sh"; }
stage_badisk() { "$here/badisk.sh"; }
stage_kill() { "$here/kill.sh" "${KILL_SECONDS:-90}"; }
stage_manage() { "$here/manage/run.sh" "${MANAGE_SECONDS:-20}"; }
stage_orders() { "$here/orders/run.sh" "${ORDERS_SECONDS:-20}"; }
stage_link() { "$here/link/run.sh" "${LINK_SECONDS:-10}"; }
# Pairs of arrays in one thread, seed after seed, with crashes, cuts and orders: fails too where the seeds together have not
# shown what docs/replication.md has.
stage_world() {
    cargo build --profile ci --locked -p kagami-replica --example seeds &&
        "$BUILD/ci/examples/seeds" --seeds "0..${WORLD_SEEDS:-500}" --threads "$(nproc)" --covered
}
stage_pairs() { "$here/replicate/run.sh"; }
stage_moves() { "$here/moves.sh" "${MOVES_SECONDS:-5}"; }
stage_suite() { "$here/suite.sh"; }
stage_vm() { "$here/vm/run.sh"; }
stage_default() { "$here/default.sh"; }

if [[ ${1:-} == --list ]]; then
    printf '%s\n' "${STAGES[@]}"
    exit 0
fi
(($# == 0)) || STAGES=("$@")

mkdir -p "$LOGS"
passed=0 failed=() began=$SECONDS
for stage in "${STAGES[@]}"; do
    if ! declare -F "stage_$stage" >/dev/null; then
        say "no stage $stage; there are: $("$0" --list | tr '\n' ' ')"
        exit 2
    fi
    started=$SECONDS
    (
        set -euo pipefail
        "stage_$stage"
    ) >"$LOGS/$stage.log" 2>&1 </dev/null &
    job=$!
    # So that a failure can be told from a machine that stood still.
    "$here/stalls.py" "$LOGS" >"$LOGS/stalls" 2>/dev/null </dev/null &
    watch=$!
    # A stage that hangs is a failure too.
    (
        sleep "$LIMIT"
        echo "test: stopped after $LIMIT s" >>"$LOGS/$stage.log"
        kill -TERM -- "-$job"
        sleep 10
        kill -KILL -- "-$job"
    ) >/dev/null 2>&1 </dev/null &
    guard=$!
    wait "$job"
    code=$?
    kill -TERM "$watch" 2>/dev/null
    wait "$watch" 2>/dev/null
    if ((code == 0)); then
        passed=$((passed + 1))
        printf 'ok     %-10s %4d s\n' "$stage" $((SECONDS - started))
        # What the tests counted, for whoever reads only this.
        grep -hE '^ +Summary|^test result:|^suite [0-9]|^badinput: [0-9]|^[0-9]+ seeds, |^(vm|kill|manage|orders|link|moves|pairs|fuzz|fulldisk|badisk|default): passed' \
            "$LOGS/$stage.log" | tail -n 12 | sed 's/^ */         /'
    else
        failed+=("$stage")
        printf 'FAILED %-10s %4d s   %s\n' "$stage" $((SECONDS - started)) "$LOGS/$stage.log"
        # What went wrong first: whoever reads may see only so much of what follows.
        grep -hE 'VM-FAIL|^VM-RESULT: FAIL|^[a-z]+\.(sh|py): |^kagami[a-z-]*: |panicked at|^error|^ +FAIL |^not ok|^test .* FAILED|stopped after' \
            "$LOGS/$stage.log" | tail -n 12 | sed 's/^/       ! /'
        tail -q -n "${SHOW_LINES:-60}" "$LOGS/$stage.log" "$LOGS/stalls" | sed 's/^/         /'
    fi
    kill -TERM -- "-$guard" 2>/dev/null
    wait "$guard" 2>/dev/null
    # The other stages need nothing from one another but these.
    if [[ ${#failed[@]} -gt 0 && ${failed[-1]} == deps ]]; then break; fi
done

((${#failed[@]} == 0)) || say "failed: ${failed[*]}"
say "in $((SECONDS - began)) s"
say "$passed passed, ${#failed[@]} failed"
((${#failed[@]} == 0))
