#!/usr/bin/env python3
"""Proves that bad input from outside harms nobody: each case gets the right status or a closed connection, a
well-behaved host beside it sees no error and loses no data, the target's memory stays bounded, and it still runs.

    ci/badinput.py --port 3260 --target iqn... --witness-lun 0 --lun 1 --pid PID

Destroys what is on both LUNs. The cases are in badcases.py. `--lenient` is for other targets: what each case got is
printed but not judged; the witness, the memory and the process still are. The random cases print their seed.
"""

import argparse
import multiprocessing
import os
import pathlib
import queue
import random
import resource
import sys
import time
import traceback

import badcases
import initiator as iscsi


def witness(port, target, lun, name, digests, stop, results):
    """A host that behaves: writes stamped blocks, reads them back, and must never see an error."""
    try:
        operations, slowest = 0, 0.0
        choose = random.Random(name)
        host = iscsi.Connection(port, timeout=30).login(name, target, digests=digests).ready(lun)
        blocks, size = host.capacity(lun)
        # Each witness has half of the unit.
        base, span = (blocks // 2, blocks // 2) if digests else (0, blocks // 2)
        written = {}

        def stamp(lba, generation):
            return (f"{name} {lba} {generation} ".encode() * size)[:size]

        def check(lba, count):
            status, sense, data = host.scsi(lun, iscsi.read16(lba, count), read=count * size)
            if status != iscsi.GOOD:
                raise iscsi.ProtocolError(f"read of {lba}+{count}: status {status:#x} {sense}")
            for block in range(count):
                if lba + block in written and data[block * size:(block + 1) * size] != stamp(lba + block, written[lba + block]):
                    raise iscsi.ProtocolError(f"block {lba + block} is not what was written")

        while not stop.is_set():
            started = time.monotonic()
            # With digests blocks are few: the checksum is slow in this language.
            count = choose.choice((1, 1, 2) if digests else (1, 2, 8, 33, 128, 512))
            lba = base + choose.randrange(span - count)
            status, sense, _ = host.scsi(lun, iscsi.write16(lba, count),
                                         write=b"".join(stamp(lba + block, operations) for block in range(count)))
            if status != iscsi.GOOD:
                raise iscsi.ProtocolError(f"write of {lba}+{count}: status {status:#x} {sense}")
            written.update((lba + block, operations) for block in range(count))
            check(lba, count)
            if operations % 50 == 0 and host.scsi(lun, iscsi.sync16())[0] != iscsi.GOOD:
                raise iscsi.ProtocolError("SYNCHRONIZE CACHE failed")
            operations += 1
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.002)
        for lba in sorted(written):
            check(lba, 1)
        results.put((name, operations, slowest, None))
    except Exception as error:  # whatever it is, the judge must hear of it
        results.put((name, operations, slowest, f"{type(error).__name__}: {error} | {traceback.format_exc(limit=-2)}"))


def process_value(pid, key):
    """A line of /proc/PID/status in KiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise SystemExit(f"badinput: /proc/{pid}/status has no {key}")


def running(pid):
    """False when it ended, also when nobody has waited for it yet."""
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def descriptors(pid):
    """How many files the target has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True, help="target name")
    parser.add_argument("--witness-lun", type=int, default=0)
    parser.add_argument("--lun", type=int, default=1, help="what the bad hosts use")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--grow-limit", type=int, default=96, help="MiB the target may grow over the whole run")
    parser.add_argument("--stall-limit", type=float, default=5.0, help="seconds the witness may wait for one write and read")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--lenient", action="store_true")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    print(f"badinput: seed {arguments.seed}")

    stop, results = multiprocessing.Event(), multiprocessing.Queue()

    def start_witness(name):
        multiprocessing.Process(target=witness, daemon=True, args=(
            arguments.port, arguments.target, arguments.witness_lun, name, "digests" in name, stop, results)).start()

    witnesses = ("iqn.2026-11.io.kagami:witness", "iqn.2026-11.io.kagami:witness-digests")
    for name in witnesses:
        start_witness(name)
    time.sleep(1.0)
    memory_before, files_before = process_value(arguments.pid, "VmRSS"), descriptors(arguments.pid)

    world = badcases.World(arguments.port, arguments.target, arguments.lun, random.Random(arguments.seed))
    failures, passed = [], 0
    for name, case in badcases.CASES:
        if arguments.only not in name:
            continue
        started = time.monotonic()
        try:
            what = case(world) or ""
            passed += 1
            verdict = "ok"
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if not isinstance(error, badcases.Wrong):
                what += " | " + traceback.format_exc(limit=-2).replace("\n", " ")
            verdict = "not judged" if arguments.lenient else "FAILED"
            if not arguments.lenient:
                failures.append(name)
        print(f"  {verdict:<10} {name} ({time.monotonic() - started:.1f} s) {what}", flush=True)
        if not running(arguments.pid):
            print(f"badinput: FAILED: the target ended in or after '{name}'\nbadinput: {passed} passed, 1 failed")
            return 1
        while not results.empty():
            # A new one takes its place, so that the other cases are still judged.
            fallen, _, _, why = results.get()
            print(f"  FAILED     {fallen} ended in or after '{name}': {why}", flush=True)
            failures.append(f"{fallen} in '{name}'")
            start_witness(fallen)
    world.close()

    stop.set()
    for _ in witnesses:
        try:
            name, operations, slowest, error = results.get(timeout=60)
        except queue.Empty:
            failures.append("a witness hangs")
            continue
        print(f"  {name}: {operations} writes and reads, slowest {slowest * 1000:.0f} ms, {error or 'no error'}")
        if error or operations < 10:
            failures.append(name)
        if slowest > arguments.stall_limit:
            failures.append(f"{name} waited {slowest:.1f} s")

    # Descriptors of connections that are gone must come back; a few may linger while the last ones close.
    deadline = time.monotonic() + 20
    while descriptors(arguments.pid) > files_before + 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    files_after = descriptors(arguments.pid)
    memory_after, memory_peak = process_value(arguments.pid, "VmRSS"), process_value(arguments.pid, "VmHWM")
    print(f"  memory: {memory_before // 1024} MiB before, {memory_peak // 1024} at most, {memory_after // 1024} after; "
          f"descriptors: {files_before} before, {files_after} after")
    if memory_peak - memory_before > arguments.grow_limit * 1024:
        failures.append(f"memory grew by {(memory_peak - memory_before) // 1024} MiB")
    if files_after > files_before + 4:
        failures.append(f"{files_after - files_before} descriptors leaked")

    for failure in failures:
        print(f"badinput: FAILED: {failure}")
    print(f"badinput: {passed} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
