#!/usr/bin/env python3
"""What hosts see while a device is full, returns errors or hangs, and that hosts of other volumes see nothing.

Called by fulldisk.sh and badisk.sh, which make the devices:

    diskfault.py full --port P --target IQN --lun 1 --witness-lun 0
    diskfault.py bad  --port P --target IQN --lun 1 --witness-lun 0 --trigger FILE --device-pid PID
    diskfault.py grow --port P --target IQN --lun 2 --witness-lun 0 --file FILE --loop DEVICE

`--trigger`: while this file exists the device answers every read and write with an error. `--device-pid`: the process
behind the device, stopped to make it hang. `--file`, `--loop`: a loop device and its file, made larger. Senses are SPC-5's and SBC-4's, as the project's rules name them.
"""

import argparse
import multiprocessing
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import sys
import time

import initiator as iscsi
from badinput import witness

HOST = "iqn.2026-11.io.kagami:disk"
MIB = 1 << 20


class Wrong(Exception):
    """The target did something that it must not do."""


def connect(arguments, **options):
    """A session whose unit answers."""
    return iscsi.Connection(arguments.port, **options).login(HOST, arguments.target).ready(arguments.lun)


def stamp(number, length):
    """Data that tells its place."""
    return (f"block {number} ".encode() * length)[:length]


def say(text):
    """A line at once."""
    print(f"  {text}", flush=True)


def full(arguments):
    """Writes past the end of the space: DATA PROTECT, SPACE ALLOCATION FAILED (07/27/07), nothing lost, and it heals."""
    host = connect(arguments)
    blocks, size = host.capacity(arguments.lun)
    step = MIB // size
    written, refused = [], None
    for number in range(blocks // step):
        status, sense, _ = host.scsi(arguments.lun, iscsi.write16(number * step, step, fua=True), write=stamp(number, MIB))
        if status == iscsi.GOOD:
            written.append(number)
            continue
        refused = (status, sense)
        break
    if refused is None:
        raise Wrong("the disk did not fill up: the test is wrong")
    if refused != (iscsi.CHECK_CONDITION, (7, 0x27, 7)):
        raise Wrong(f"a write without space got status {refused[0]:#x}, sense {refused[1]}")
    say(f"{len(written)} MiB fit, then DATA PROTECT, space allocation failed")

    def all_there(numbers):
        for number in numbers:
            status, sense, data = host.scsi(arguments.lun, iscsi.read16(number * step, step), read=MIB)
            if status != iscsi.GOOD or data != stamp(number, MIB):
                raise Wrong(f"MiB {number} after the refusal: status {status:#x} {sense}, {'wrong data' if status == 0 else ''}")

    all_there(written)
    # Rewriting what has its space still works.
    status, sense, _ = host.scsi(arguments.lun, iscsi.write16(0, step, fua=True), write=stamp(0, MIB))
    if status != iscsi.GOOD:
        raise Wrong(f"rewriting allocated blocks got {status:#x} {sense}")
    say("what was acknowledged is there; allocated blocks can be rewritten")

    # Give four MiB back; the next write then finds space.
    free, kept = written[-4:], written[:-4]
    for number in free:
        unmap = struct.pack(">HHI", 22, 16, 0) + struct.pack(">QII", number * step, step, 0)
        status, sense, _ = host.scsi(arguments.lun, struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(unmap), 0), write=unmap)
        if status != iscsi.GOOD:
            raise Wrong(f"UNMAP on a full disk got {status:#x} {sense}")
    beyond = written[-1] + 1
    status, sense, _ = host.scsi(arguments.lun, iscsi.write16(beyond * step, step, fua=True), write=stamp(beyond, MIB))
    if status != iscsi.GOOD:
        raise Wrong(f"after UNMAP a write still got {status:#x} {sense}")
    all_there(kept + [beyond])
    say("after UNMAP it takes writes again")


def bad(arguments):
    """Errors become MEDIUM or HARDWARE ERROR on that unit only; a hang holds up nobody else; both heal."""
    host = connect(arguments, timeout=60)
    size = host.capacity(arguments.lun)[1]
    step = 64 * 1024 // size

    def write(number, content=None):
        return host.scsi(arguments.lun, iscsi.write16(number * step, step, fua=True), write=stamp(number if content is None else content, 65536))

    def read(number):
        return host.scsi(arguments.lun, iscsi.read16(number * step, step), read=65536)

    for number in range(16):
        if write(number)[0] != iscsi.GOOD:
            raise Wrong("a write to the healthy device failed")

    arguments.trigger.touch()
    for what, answer in (("read", read(100)), ("write", write(3, 99)), ("read", read(101))):
        status, sense, _ = answer
        if status != iscsi.CHECK_CONDITION or sense is None or sense[0] not in (3, 4):
            raise Wrong(f"a {what} of a failing device got status {status:#x}, sense {sense}")
        say(f"failing device: {what} got sense {sense[0]:x}/{sense[1]:02x}/{sense[2]:02x}")
    with iscsi.Connection(arguments.port).login(HOST + "-other", arguments.target).ready(arguments.witness_lun):
        pass
    arguments.trigger.unlink()
    deadline = time.monotonic() + 10
    while write(3)[0] != iscsi.GOOD:
        if time.monotonic() > deadline:
            raise Wrong("the device is well again, the unit is not")
    for number in range(16):
        status, sense, data = read(number)
        if status != iscsi.GOOD or data != stamp(number, 65536):
            raise Wrong(f"after the errors block {number}: status {status:#x} {sense}")
    say("healed: data as written")

    # The device hangs, and four hosts throw at it all they have.
    os.kill(arguments.device_pid, signal.SIGSTOP)
    try:
        hung = []
        for number in range(4):
            other = iscsi.Connection(arguments.port, timeout=3).login(f"{HOST}-hung{number}", arguments.target)
            try:
                for command in range(64):
                    other.send_raw(other.command_header(arguments.lun, iscsi.write16((200 + command) * step, step), write=65536))
                    other.send_raw(other.command_header(arguments.lun, iscsi.read16((300 + command) * step, step), read=65536))
            except (iscsi.Closed, TimeoutError, socket.timeout):
                pass
            hung.append(other)
        tail = host.command_header(arguments.lun, iscsi.read16(5 * step, step), read=65536)
        host.send(tail)
        for _ in range(8):
            time.sleep(0.5)
            with iscsi.Connection(arguments.port, timeout=10).login(HOST + "-other", arguments.target) as third:
                third.ready(arguments.witness_lun)
                if third.scsi(arguments.witness_lun, iscsi.read16(0, 8), read=8 * third.capacity(arguments.witness_lun)[1])[0]:
                    raise Wrong("a host of another volume got an error while one device hangs")
        say("hanging device: other hosts come and read")
    finally:
        os.kill(arguments.device_pid, signal.SIGCONT)
    host.socket.settimeout(60)
    status, sense, data = host.finish(tail, read=65536)
    if status == iscsi.GOOD and data != stamp(5, 65536):
        raise Wrong("the read that hung came back with wrong data")
    if status not in (iscsi.GOOD, iscsi.CHECK_CONDITION):
        raise Wrong(f"the read that hung got status {status:#x} {sense}")
    for other in hung:
        other.reset()
    for number in range(16):
        status, sense, data = read(number)
        if status != iscsi.GOOD or data != stamp(number, 65536):
            raise Wrong(f"after the hang block {number}: status {status:#x} {sense}")
        if write(number)[0] != iscsi.GOOD:
            raise Wrong("after the hang a write failed")
    say("after the hang: data as written, writes work")


def grow(arguments):
    """A device that grows under its volume: hosts get CAPACITY DATA HAS CHANGED (06/2a/09) and the new size."""
    host = connect(arguments)
    blocks, size = host.capacity(arguments.lun)
    step = MIB // size
    last = stamp(1, MIB)
    if host.scsi(arguments.lun, iscsi.write16(blocks - step, step, fua=True), write=last)[0] != iscsi.GOOD:
        raise Wrong("a write to the old end failed")
    if host.scsi(arguments.lun, iscsi.read16(blocks, step), read=MIB)[0] == iscsi.GOOD:
        raise Wrong("blocks beyond the end can be read")
    os.truncate(arguments.file, 2 * blocks * size)
    subprocess.run(["losetup", "--set-capacity", arguments.loop], check=True)
    deadline = time.monotonic() + 10
    attention = None
    while attention is None:
        if time.monotonic() > deadline:
            raise Wrong("nobody noticed that the device has grown")
        time.sleep(0.1)
        status, sense, _ = host.scsi(arguments.lun, bytes(6))
        attention = sense if status == iscsi.CHECK_CONDITION else None
    if attention != (6, 0x2A, 9):
        raise Wrong(f"the device has grown, and the host got sense {attention}")
    if host.capacity(arguments.lun) != (2 * blocks, size):
        raise Wrong(f"the capacity is now {host.capacity(arguments.lun)}")
    for number, lba in ((2, blocks), (3, 2 * blocks - step)):
        if host.scsi(arguments.lun, iscsi.write16(lba, step, fua=True), write=stamp(number, MIB))[0] != iscsi.GOOD:
            raise Wrong("a write to the new blocks failed")
    for number, lba in ((1, blocks - step), (2, blocks), (3, 2 * blocks - step)):
        if host.scsi(arguments.lun, iscsi.read16(lba, step), read=MIB)[2] != stamp(number, MIB):
            raise Wrong(f"wrong data at {lba} after the growth")
    say(f"device grew from {blocks * size // MIB} to {2 * blocks * size // MIB} MiB: unit attention 06/2a/09, new blocks work")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("full", "bad", "grow"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--lun", type=int, required=True)
    parser.add_argument("--witness-lun", type=int, required=True)
    parser.add_argument("--trigger", type=pathlib.Path)
    parser.add_argument("--device-pid", type=int)
    parser.add_argument("--file")
    parser.add_argument("--loop")
    parser.add_argument("--stall-limit", type=float, default=4.0, help="seconds the witness may wait")
    arguments = parser.parse_args()

    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=witness, daemon=True, args=(
        arguments.port, arguments.target, arguments.witness_lun, "iqn.2026-11.io.kagami:witness", False, stop, results))
    process.start()
    time.sleep(0.5)
    failure = None
    try:
        {"full": full, "bad": bad, "grow": grow}[arguments.what](arguments)
    except (Wrong, iscsi.ProtocolError, iscsi.Closed, iscsi.Refused, OSError) as error:
        failure = f"{type(error).__name__}: {error}"
    stop.set()
    try:
        _, operations, slowest, error = results.get(timeout=60)
        say(f"witness on the other volume: {operations} writes and reads, slowest {slowest * 1000:.0f} ms, {error or 'no error'}")
        if error or operations < 10:
            failure = failure or f"the witness: {error or 'too few operations'}"
        if slowest > arguments.stall_limit:
            failure = failure or f"the witness waited {slowest:.1f} s"
    except queue.Empty:
        failure = failure or "the witness hangs"
    if failure:
        print(f"diskfault: FAILED: {failure}")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
