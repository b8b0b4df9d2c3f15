#!/usr/bin/env python3
"""Gives orders through a command device while the array is killed, over and over, and checks that every change was
made once or not at all, as its result says.

    ci/orders/kill.py KAGAMID [--time SECONDS] [--kills N] [--hosts N] [--far] [--forget]

Each host makes a volume of a name that nobody else uses, makes it larger, and removes it, each by one record that it gives
again, the same bytes, until it has a result: in another slot, over another session, to the array that was started
again. So a change may have been made before the kill, with the result lost. What must hold:

- "done": the change is there. "stale", "refused" and the like: it is not, and never comes.
- The audit log has each change once (a line may be there twice after a crash, with the same generation).
- The array starts again every time and, at the end, has what the results say.

With --far there are two arrays, and the hosts reach only the first one: orders are for the second, written to the first
one's own command device, which passes them on, or to the virtual volume of the second one's. Either is killed.

With --forget the array loses, at each kill, what it remembers of orders: this must be found out, so then the exit
code 0 says that it was.
"""

import argparse
import atexit
import json
import os
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "tools" / "python"))
import kagami_orders as orders  # noqa: E402

IQN = "iqn.2026-11.io.kagami:orders"
FAR = "iqn.2026-11.io.kagami:far"
CONFIG = """
[array]
name = "{name}"
iqn = "{iqn}"
data = "{folder}/data"
listen = ["127.0.0.1:{port}"]
cache = "64MiB"
max_volumes = 256
[[volume]]
lun = 0
name = "orders"
role = "command"
[[initiator]]
iqn = "iqn.2026-11.io.kagami:host"
luns = {luns}
rights = "read"
[[operator]]
name = "ops"
key_file = "{folder}/ops.key"
rights = "admin"
[[pool]]
name = "pool"
path = "{folder}/pool"
size = "1GiB"
"""


PEER = """
[[peer]]
name = "{peer}"
iqn = "iqn.2026-11.io.kagami:{peer}"
portal = "127.0.0.1:{port}"
io_timeout = "2s"
"""
VIRTUAL = """
[[virtual]]
lun = 30
peer = "far"
mapped_lun = 0
role = "command"
"""


def free_port():
    """One that the kernel gives to nobody by itself, so that an array that is killed finds it free when it comes back."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Array:
    """The array under test, which is killed."""

    def __init__(self, program, folder, name="orders", peer=None):
        self.program, self.folder, self.name, self.port = program, folder, name, free_port()
        folder.mkdir(exist_ok=True)
        self.key = peer.key if peer else secrets.token_hex(16).encode()
        (folder / "ops.key").write_bytes(self.key + b"\n")
        (folder / "ops.key").chmod(0o600)
        self.config = folder / "orders.toml"
        self.write(peer)
        if peer:
            peer.write(self)
        self.process = None
        # Whatever goes wrong, nothing is left running.
        atexit.register(self.end)

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()

    def write(self, peer):
        luns = [0, 30] if peer and self.name == "orders" else [0]
        text = CONFIG.format(iqn=f"iqn.2026-11.io.kagami:{self.name}", folder=self.folder, port=self.port,
                             name=self.name, luns=luns)
        if peer:
            text += PEER.format(peer=peer.name, port=peer.port)
            text += VIRTUAL if self.name == "orders" else ""
        self.config.write_text(text)

    def start(self):
        log = open(self.folder / "kagamid.log", "ab")
        self.process = subprocess.Popen([self.program, "--config", self.config], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"kill: the array does not start; see {self.folder}/kagamid.log")
                time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=60):
            raise SystemExit(f"kill: the array ended with {self.process.returncode}")


def forget(log):
    """Takes the results of orders out of a log of tables: their records become of a kind that nobody knows, with the flag
    that has an array keep such a record and go on (docs/formats.md, tables)."""
    data = bytearray(log.read_bytes())
    at, forgotten = 64, 0
    while data[at:at + 4] == b"KTXN":
        length, = struct.unpack_from("<I", data, at + 4)
        body, record = at + 32, at + 32
        while record < body + length:
            kind, _, flags = struct.unpack_from("<HHB", data, record)
            if kind == 6 and flags & 2:
                struct.pack_into("<H", data, record, 0x7006)
                forgotten += 1
            record += 5
            for _ in ("key", "payload"):
                record += 4 + struct.unpack_from("<I", data, record)[0]
        struct.pack_into("<I", data, at + 24, orders.crc32c(data[body:body + length]))
        struct.pack_into("<I", data, at + 28, orders.crc32c(data[at:at + 28]))
        at = (body + length + 7) & ~7
    log.write_bytes(data)
    return forgotten


class Giver:
    """A host that does not lose heart: it gives a record again until it has a result."""

    def __init__(self, array, number, counts, far=None):
        self.array, self.number, self.counts, self.far = array, number, counts, far
        self.target = orders.NIL
        self.host = None
        self.id = secrets.token_bytes(16)

    def record(self, record, request_id, until):
        """The result of one record, given as often as it takes."""
        tries = 0
        while time.monotonic() < until:
            tries += 1
            try:
                if self.host is None:
                    lun = random.choice([0, 30]) if self.far else 0
                    via = f"iscsi://127.0.0.1:{self.array.port}/{IQN}/{lun}"
                    self.host = orders.Host(orders.open_device(via, timeout=5))
                device = self.host.device
                padded = record + bytes(-len(record) % device.block)
                slot = orders.FIRST_SLOT + orders.SLOT * random.randrange(self.host.slots)
                device.write(slot, padded)
                result = self.host.wait(slot, request_id, time.monotonic() + (15 if self.far else 5))
                if result.word in ("timed-out", "unreachable", "busy"):
                    # Whether it was done is not known.
                    self.counts[result.word] += 1
                    self.host = None
                    continue
                # Most free the slot; some leave that to time.
                if random.random() < 0.9:
                    device.write(slot, bytes(device.block))
                self.counts["again" if tries > 1 else "at once"] += 1
                self.counts["replayed"] += result.flags & orders.REPLAYED != 0
                return result
            except (orders.SlotTaken, orders.Busy):
                self.counts["slots taken"] += 1
            except (orders.Problem, OSError, EOFError):
                self.host = None
                time.sleep(0.02)
        raise TimeoutError(f"host {self.number} has no result after {tries} times")

    def look(self, order, until):
        request_id = secrets.token_bytes(16)
        return self.record(orders.encode(orders.ORDERS[order], request_id, self.id, target=self.target), request_id, until)

    def change(self, order, parameters, until):
        """Gives a change, with new generations until one fits; gives its result."""
        while True:
            now = self.look("arrays", until)
            request_id = secrets.token_bytes(16)
            expires = int(time.time() * 1000) + 600_000
            record = orders.encode(orders.ORDERS[order], request_id, self.id, parameters, target=self.target,
                                   generation=now.generation, operator="ops", key=self.array.key, executing=now.array, expires=expires)
            result = self.record(record, request_id, until)
            self.counts[result.word] += 1
            if result.code == 0 and not result.is_signed_with(self.array.key):
                raise AssertionError("a result is not signed")
            if result.word != "stale":
                return result
            # It says that nothing was done; then nothing was.

    def live(self, stop, made, until):
        number = 0
        self.target = self.far or orders.NIL
        while not stop.is_set():
            number += 1
            name = f"v{self.number}-{number}"
            # Several times, should another host have been faster: with a new name each time, so that a change which
            # was made although its result was "stale" shows.
            result = self.change("volume-create", [("name", name), ("size_bytes", 1 << 20)], until)
            if result.code:
                raise AssertionError(f"create {name}: {result.word}: {result.message}")
            made[name] = 1 << 20
            result = self.change("volume-resize", [("volume", name), ("size_bytes", 2 << 20)], until)
            if result.code:
                raise AssertionError(f"resize {name}: {result.word}: {result.message}")
            made[name] = 2 << 20
            if random.random() < 0.8:
                result = self.change("volume-delete", [("volume", name)], until)
                if result.code:
                    raise AssertionError(f"delete {name}: {result.word}: {result.message}")
                del made[name]


def audit(folder):
    """The changes of the audit log: what, and at which generations."""
    changes = {}
    for path in sorted(folder.glob("data/audit.log*")):
        for line in path.read_text().splitlines():
            _, generation, who, what = line.split(" ", 3)
            if who.startswith("who=order:") and generation != "gen=-" and not what.startswith("mark "):
                changes.setdefault(what, set()).add(generation)
    return changes


def main():
    parser = argparse.ArgumentParser(description="orders under SIGKILL")
    parser.add_argument("kagamid")
    parser.add_argument("--time", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=0, help="at least so many")
    parser.add_argument("--hosts", type=int, default=6)
    parser.add_argument("--far", action="store_true", help="orders for a second array, by the first one only")
    parser.add_argument("--forget", action="store_true", help="an array that forgets must be found out")
    arguments = parser.parse_args()
    work = tempfile.TemporaryDirectory(prefix="kagami-orders-", dir=os.environ.get("BUILD_WORK"))
    folder = Path(work.name)
    array = Array(arguments.kagamid, folder)
    # Who is ordered, and who can be killed.
    ordered, arrays, far = array, [array], None
    if arguments.far:
        folder = folder / "far"
        ordered = Array(arguments.kagamid, folder, "far", array)
        arrays.append(ordered)
        ordered.start()
        far = orders.Host(orders.open_device(f"iscsi://127.0.0.1:{ordered.port}/{FAR}/0")).give("arrays")[0].array
    array.start()
    counts = {key: 0 for key in ("at once", "again", "replayed", "slots taken")}
    for word, _ in orders.CODES.values():
        counts[word] = 0
    stop, failures, made = threading.Event(), [], [{} for _ in range(arguments.hosts)]
    until = time.monotonic() + arguments.time * 3 + 300

    def run(number):
        try:
            Giver(array, number, counts, far).live(stop, made[number], until)
        except BaseException as error:  # noqa: BLE001
            failures.append(f"host {number}: {error!r}")
            stop.set()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(arguments.hosts)]
    for thread in threads:
        thread.start()
    kills, began = 0, time.monotonic()
    while not failures and (time.monotonic() - began < arguments.time or kills < arguments.kills):
        time.sleep(random.uniform(0.1, 1.2))
        victim = random.choice(arrays)
        victim.kill()
        kills += 1
        if arguments.forget:
            forget(victim.folder / "data" / "tables.log")
        victim.start()
    stop.set()
    for thread in threads:
        thread.join(120)
    if any(thread.is_alive() for thread in threads):
        failures.append("a host did not come to an end")
    if not failures:
        # What is there is what the results said.
        device = orders.open_device(f"iscsi://127.0.0.1:{ordered.port}/{FAR if far else IQN}/0")
        _, data = orders.Host(device).give("volumes")
        there = {volume["name"]: volume["size_bytes"] for volume in json.loads(data)["volumes"]}
        del there["orders"]
        told = {name: size for one in made for name, size in one.items()}
        if there != told:
            failures.append(f"there are {sorted(there.items() - told.items())}, missing {sorted(told.items() - there.items())}")
    for one in arrays:
        # Whoever failed may have ended right after a start, before signals are heard.
        one.end() if failures else one.stop()
    for what, generations in audit(folder).items():
        if len(generations) > 1:
            failures.append(f"made twice: {what} at {sorted(generations)}")
    said = ", ".join(f"{value} {key}" for key, value in counts.items() if value)
    if arguments.forget:
        work.cleanup()
        if not failures:
            print("an array that forgets what came of orders was not found out", file=sys.stderr)
            return 1
        print(f"an array that forgets is found out after {kills} kills: {failures[0]}")
        return 0
    print(f"orders under SIGKILL: {kills} kills of {len(arrays)}, {arguments.hosts} hosts; {said}")
    if failures:
        print("\n".join(failures), file=sys.stderr)
        print((folder / "kagamid.log").read_text()[-4000:], file=sys.stderr)
        return 1
    if not counts["done"] or (kills > 20 and not counts["replayed"]):
        print("nothing was proved: no order was done, or none came again after it was done", file=sys.stderr)
        return 1
    work.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
