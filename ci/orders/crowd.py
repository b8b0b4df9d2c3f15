#!/usr/bin/env python3
"""Many hosts at one command device at once, and records that should not be.

    ci/orders/crowd.py KAGAMID [--hosts N] [--slots N] [--orders N]

First every host gives orders as fast as it can, in few slots, so that they meet: each must get its own result, and only
its own. Then malformed, forged, replayed and oversized records, each of which must end with the result that says so, and
change nothing.
"""

import argparse
import random
import secrets
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import kill  # noqa: E402
from kill import IQN, Array, orders  # noqa: E402


def crowd(array, hosts, slots, count):
    """Every host gets every one of its results; how often they met."""
    failures, met = [], [0]

    def run(number):
        try:
            device = orders.open_device(f"iscsi://127.0.0.1:{array.port}/{IQN}/0")
            host = orders.Host(device, patience=120)
            host.slots = slots
            write = device.write

            def counted(offset, data):
                try:
                    return write(offset, data)
                except orders.SlotTaken:
                    met[0] += 1
                    raise

            device.write = counted
            for turn in range(count):
                order = random.choice(["arrays", "volumes", "luns", "tables", "stats"])
                request_id = secrets.token_bytes(16)
                result, data = host.give(order, request_id=request_id)
                if result.code or result.id != request_id or len(data) != result.total or not data.startswith(b"{"):
                    raise AssertionError(f"{order}: {result.word} {result.message} {len(data)}")
        except BaseException as error:  # noqa: BLE001
            failures.append(f"host {number}: {error!r}")

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        if thread.is_alive():
            failures.append("a host has no result after 300 s")
            break
    return failures, met[0]


def seal(record):
    return record[:-4] + struct.pack("<I", orders.crc32c(record[:-4]))


def patched(record, at, value):
    return seal(record[:at] + value + record[at + len(value):])


def bad(array):
    """Records that should not be, and what must come of them."""
    device = orders.open_device(f"iscsi://127.0.0.1:{array.port}/{IQN}/0")
    host = orders.Host(device)
    now, _ = host.give("arrays")
    generation, uuid, me = now.generation, now.array, host.id
    soon = int(time.time() * 1000) + 60_000
    failures = []

    def give(record, request_id):
        slot = orders.FIRST_SLOT + orders.SLOT * random.randrange(host.slots)
        device.write(slot, record + bytes(-len(record) % device.block))
        return host.wait(slot, request_id, time.monotonic() + 30)

    def expect(what, word, change=lambda record: record, order=2, parameters=(), at=orders.ANY_GENERATION, key=None,
               operator="ops", expires=soon, executing=uuid):
        request_id = secrets.token_bytes(16)
        record = orders.encode(order, request_id, me, parameters, generation=at, key=key,
                               operator=operator if key else None, executing=executing, expires=expires)
        result = give(change(record), request_id)
        if result.word != word or result.id != request_id:
            failures.append(f"{what}: {result.word} ({result.message}) instead of {word}")
        return record, request_id

    key, create = array.key, [("name", "bad"), ("size_bytes", 1 << 20)]
    expect("good", "done")
    expect("version 2", "unsupported", lambda r: patched(r, 8, b"\2"))
    expect("an incompatible feature", "unsupported", lambda r: patched(r, 32, b"\1"))
    expect("a read-only-compatible feature, and it looks", "done", lambda r: patched(r, 24, b"\1"))
    expect("a compatible feature", "done", lambda r: patched(r, 16, b"\1"))
    expect("an unknown flag", "malformed", lambda r: patched(r, 42, b"\x81"))
    expect("a reserved byte", "malformed", lambda r: patched(r, 230, b"\1"))
    expect("no host id", "malformed", lambda r: patched(r, 80, bytes(16)))
    expect("an unknown order", "unknown-order", order=999)
    expect("a group that is not there", "refused", order=36, at=generation, key=key)
    expect("a parameter too many", "bad-parameter", parameters=[("name", "x")])
    expect("a parameter too few", "bad-parameter", order=6)
    expect("a cut parameter", "malformed", lambda r: patched(r, 258, b"\xff"), parameters=[("name", "xxxx")])
    expect("another array", "unknown-array", lambda r: patched(r, 48, b"\7" * 16))
    expect("too many hops", "too-many-hops", lambda r: patched(r, 44, b"\x09"))
    expect("a hop, and no signature", "signature-needed", lambda r: patched(r, 44, b"\1"))
    expect("no right", "unauthorised", order=16, parameters=create, at=generation)
    expect("another's key", "bad-signature", key=secrets.token_bytes(32))
    expect("another operator", "bad-signature", key=key, operator="nobody")
    expect("for another array", "bad-signature", key=key, executing=b"\7" * 16)
    expect("changed after it was signed", "bad-signature", lambda r: patched(r, 96, b"\1"), key=key)
    expect("expired", "expired", key=key, expires=soon - 120_000)
    expect("valid for too long", "expired", key=key, expires=soon + 7_200_000)
    expect("no generation", "generation-needed", order=16, parameters=create, key=key)
    expect("an old generation", "stale", order=16, parameters=create, at=generation - 1, key=key)
    expect("more than the pool", "refused", order=16, parameters=[("name", "bad"), ("size_bytes", 1 << 40)],
           at=generation, key=key)
    expect("a result that is not kept", "no-such-result", order=6, parameters=[("request", b"\5" * 16), ("offset", 0)])

    # A refused change that comes again stays refused, though it could be made now.
    resize = [("volume", "bad"), ("size_bytes", 2 << 20)]
    refused, refused_id = expect("no such volume", "bad-parameter", order=17, parameters=resize, at=generation, key=key)
    made, made_id = expect("a change", "done", order=16, parameters=create, at=generation, key=key)
    again = give(made, made_id)
    if again.word != "done" or not again.flags & orders.REPLAYED or again.generation < generation:
        failures.append(f"a replay: {again.word}, flags {again.flags}")
    if give(refused, refused_id).word != "bad-parameter":
        failures.append("a refused change came again and was made")
    other = orders.encode(16, made_id, me, [("name", "other"), ("size_bytes", 1 << 20)], generation=again.generation,
                          key=key, operator="ops", executing=uuid, expires=soon)
    if give(other, made_id).word != "id-reused":
        failures.append("a request id was used for two records")

    # WRITEs that are refused as such.
    whole = orders.encode(2, secrets.token_bytes(16), me)
    for what, offset, data in (
            ("a result half", orders.FIRST_SLOT + orders.HALF, whole + bytes(-len(whole) % device.block)),
            ("two slots", orders.FIRST_SLOT, bytes(orders.SLOT)),
            ("across the boundary", orders.FIRST_SLOT - device.block, bytes(2 * device.block))):
        try:
            device.write(offset, data)
            failures.append(f"a WRITE to {what} was taken")
        except orders.Problem:
            pass
    # The ordinary storage is storage, and a READ over its end shows both.
    label = secrets.token_bytes(device.block)
    device.write(orders.FIRST_SLOT - device.block, label)
    slot_id = secrets.token_bytes(16)
    record = orders.encode(2, slot_id, me)
    device.write(orders.FIRST_SLOT, record + bytes(-len(record) % device.block))
    both = device.read(orders.FIRST_SLOT - device.block, 2 * device.block)
    if both[:device.block] != label or both[device.block + 64:device.block + 80] != slot_id:
        failures.append("a READ over the end of the ordinary storage is not what was written")
    # Incomplete: ten seconds later it is malformed.
    half_id = secrets.token_bytes(16)
    record = orders.encode(16, half_id, me, [("name", "x" * 250), ("initiator", "y" * 250), ("initiator", "z" * 250)])
    device.write(orders.FIRST_SLOT + 9 * orders.SLOT, record[:device.block])
    result = host.wait(orders.FIRST_SLOT + 9 * orders.SLOT, half_id, time.monotonic() + 30)
    if result.word != "malformed":
        failures.append(f"an incomplete record: {result.word}")
    names = {volume["name"] for volume in kill.json.loads(host.give("volumes")[1])["volumes"]}
    if names != {"orders", "bad"}:
        failures.append(f"what was refused has changed something: {names}")
    return failures


def main():
    parser = argparse.ArgumentParser(description="many hosts, and bad records")
    parser.add_argument("kagamid")
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--slots", type=int, default=40)
    parser.add_argument("--orders", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kagami-orders-") as name:
        array = Array(arguments.kagamid, Path(name))
        array.start()
        began = time.monotonic()
        failures, met = crowd(array, arguments.hosts, arguments.slots, arguments.orders)
        took = time.monotonic() - began
        failures += bad(array)
        array.stop()
        print(f"{arguments.hosts} hosts gave {arguments.hosts * arguments.orders} orders in {arguments.slots} slots in "
              f"{took:.1f} s and were refused a held slot {met} times; bad records ended as they should")
        if failures:
            print("\n".join(failures), file=sys.stderr)
            print((Path(name) / "kagamid.log").read_text()[-4000:], file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
