#!/usr/bin/env python3
"""Loads the two arrays of a virtual machine whose devices are logged, and orders them about; see guest/blackout.sh.

    load.py ANSWER_PORT TOKYO_PORT OSAKA_PORT FOLDER SECONDS

Hosts write all the time, with flushes and FUA here and there: while the pair is in PAIR, while it is split and copied again, and
on the other side after a swap. Meanwhile all devices stand still now and then and are marked. What was written, answered and
marked when is kept in FOLDER, for check.py.
"""

import pathlib
import random
import re
import socket
import struct
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "replicate"))
from arrays import IQN, Array, Busy, Failed, IscsiDevice, Problem, SlotTaken, wait  # noqa: E402
from history import BLOCK, GROUP, HOSTS, LUNS, Flush, History, Write  # noqa: E402
from logs import ARRAYS, DEVICES, MIB  # noqa: E402

# Where the arrays of the machine have their files.
THERE = pathlib.Path("/tmp/blackout")
NAMES = ("--primary", "tokyo:0", "--secondary", "osaka:0", "--primary", "tokyo:1", "--secondary", "osaka:1")


class Guest:
    def __init__(self, port):
        self.port = port

    def ask(self, line, more=b""):
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            connection.sendall(line.encode() + b"\n" + more)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                return answer.read()

    def done(self, line, more=b""):
        answer = self.ask(line, more)
        if answer.strip() != b"done":
            raise Failed(f"the machine answers {answer!r} to {line}")

    def kagami(self, array, *words):
        """An order's exit code and what it said."""
        answer = self.ask(f"kagami {array} {' '.join(words)}").decode(errors="replace")
        found = re.search(r"exit (\d+)\s*$", answer)
        if not found:
            raise Failed(f"kagami {' '.join(words)} at {array}: {answer}")
        return int(found[1]), answer

    def state(self, array):
        found = re.search(r'"state": *"(\w+)"', self.kagami(array, "pair", "status", "erp", "--json")[1])
        return found and found[1]


class Site:
    """What arrays.Array wants to know of where it is."""
    work, kagamid, kagami = THERE, None, None


def inside(name, peer, paths, port, peer_port):
    """An array of the machine: only its configuration is ours."""
    sizes = {device: mib * MIB for device, (_, mib) in DEVICES.items()}
    array = Array(Site, name, 0, size=sizes["db"], journal=sizes["jnl"])
    for lun, (device, size, _) in array.volumes.items():
        array.volumes[lun] = (device, size, paths[f"{name}-{device}"])
    array.journals[20] = ("jnl", sizes["jnl"], paths[f"{name}-jnl"])
    array.address, array.port = "0.0.0.0", port
    array.peers[peer] = peer_port
    array.groups["erp"] = (peer, 'secondary_access = "read"')
    return array


class Writer(threading.Thread):
    """A host: one command after another."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.number, self.draw = load, number, random.Random(load.draw.random())
        self.running, self.trouble = True, None
        self.start()

    def run(self):
        try:
            devices = [IscsiDevice("127.0.0.1", self.load.ports[self.load.primary], f"{IQN}:{self.load.primary}",
                                   lun, f"{IQN}:host{self.number}", None, None, 60.0) for lun in LUNS]
            while self.running:
                self.write(devices, self.draw.choice(LUNS))
                if self.draw.random() < 0.06:
                    self.flush(devices, self.draw.choice(LUNS))
            for lun in LUNS:
                self.flush(devices, lun)
        except (Problem, Busy, SlotTaken, OSError) as trouble:
            self.trouble = trouble

    def write(self, devices, lun):
        device, writes = devices[lun], self.load.history.writes[self.number]
        groups = device.size // BLOCK // GROUP // HOSTS
        # Most writes go to few blocks, so that there are many versions of these.
        group = self.draw.randrange(groups if self.draw.random() < 0.3 else 6) * HOSTS + self.number
        count = self.draw.choice((1, 1, 1, 2, 3, GROUP))
        at = group * GROUP + self.draw.randrange(GROUP - count + 1)
        write = Write(self.number, len(writes) + 1, lun, at, count, self.draw.random() < 0.1, time.monotonic())
        writes.append(write)
        scale = BLOCK // device.block
        device.good(struct.pack(">BBQIxx", 0x8A, 0x08 if write.fua else 0, at * scale, count * scale), write=write.data())
        write.answered = time.monotonic()

    def flush(self, devices, lun):
        begun = time.monotonic()
        devices[lun].good(struct.pack(">BBQIxx", 0x91, 0, 0, 0))
        self.load.history.flushes.append(Flush(lun, begun, time.monotonic()))

    def stop(self):
        self.running = False
        self.join(90)
        if self.trouble or self.is_alive():
            raise Failed(f"host {self.number} at {self.load.primary}: {self.trouble or 'a command is not answered'}")


class Load:
    def __init__(self, guest, ports, folder, seconds):
        self.guest, self.ports, self.folder, self.seconds = guest, ports, folder, seconds
        self.history, self.draw = History(), random.Random()
        self.primary, self.secondary = ARRAYS
        self.writers, self.marking = [], True
        self.begun = time.monotonic()

    def say(self, text):
        print(f"blackout: {time.monotonic() - self.begun:5.1f} s  {text}", flush=True)

    def start(self):
        paths = dict(line.split() for line in self.guest.ask("devices").decode().splitlines())
        for name, peer, port, other in (("tokyo", "osaka", 3271, 3272), ("osaka", "tokyo", 3272, 3271)):
            # The machine is reached from this one only.
            config = inside(name, peer, paths, port, other).config().replace("[array]", '[array]\nauth = "none"')
            for number in range(HOSTS):
                config += f'[[initiator]]\niqn = "{IQN}:host{number}"\nluns = {list(LUNS)}\n'
            self.guest.done(f"config {name}.toml", config.encode())
        self.guest.done("config ready")
        wait("both arrays", 60, lambda: self.guest.ask("up").strip() == b"done")

    def mark(self):
        draw = random.Random(self.draw.random())
        while self.marking:
            time.sleep(draw.random() * 0.5)
            name, begun = f"m{len(self.history.marks)}", time.monotonic()
            self.guest.done(f"mark {name}")
            self.history.marks[name] = (begun, time.monotonic())

    def hosts(self):
        self.writers = [Writer(self, number) for number in range(HOSTS)]

    def stop(self):
        for writer in self.writers:
            writer.stop()

    def order(self, code, *words):
        """It ends well; then the secondary has all that was answered before it."""
        for _ in range(5):
            begun = time.monotonic()
            found, answer = self.guest.kagami(self.primary, *words)
            if found == code:
                self.history.arrived.append((time.monotonic(), begun))
                return
            # Where this machine stood still for long, the pair is suspended: not what is looked for here.
            self.say(f"{' '.join(words)}: {' '.join(answer.split())}")
            self.resync()
        raise Failed(f"{' '.join(words)}: {answer}")

    def resync(self):
        def paired():
            if [self.guest.state(array) for array in ARRAYS] == ["PAIR", "PAIR"]:
                return True
            self.guest.kagami(self.primary, "pair", "resync", "erp")
            return False
        wait("PAIR", 120, paired)

    def paired(self):
        for array in ARRAYS:
            wait(f"{array} in PAIR", 60, lambda: self.guest.state(array) == "PAIR")

    def rest(self, seconds):
        """So long in PAIR, with markers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.order(0, "marker", "erp", f"k{time.monotonic_ns()}", "--wait")
            time.sleep(self.draw.random() * 0.6)

    def apart(self, seconds):
        self.order(0, "pair", "split", "erp")
        self.say(f"split: {self.primary} is written alone")
        time.sleep(seconds)
        self.resync()
        self.say("PAIR again")

    def swap(self):
        self.stop()
        self.order(10, "pair", "swap", "erp")
        self.primary, self.secondary = self.secondary, self.primary
        self.hosts()
        self.resync()
        self.say(f"{self.primary} is the primary")

    def run(self):
        self.start()
        self.hosts()
        wait("a pair", 60, lambda: self.guest.kagami("tokyo", "pair", "create", "--group", "erp", *NAMES, "--journal",
                                                     "tokyo:20", "--secondary-journal", "osaka:20")[0] in (0, 12))
        self.paired()
        self.say("PAIR")
        time.sleep(2)
        (self.folder / "tables.tar").write_bytes(self.guest.ask("tables"))
        marker = threading.Thread(target=self.mark, daemon=True)
        marker.start()
        self.rest(self.seconds * 0.3)
        self.apart(self.seconds * 0.1)
        self.rest(self.seconds * 0.1)
        self.swap()
        self.rest(self.seconds * 0.2)
        self.apart(self.seconds * 0.1)
        self.swap()
        self.rest(self.seconds * 0.1)
        self.stop()
        self.marking = False
        marker.join(60)
        (self.folder / "tables-end.tar").write_bytes(self.guest.ask("tables"))
        self.guest.done("end")
        self.history.save(self.folder / "history")
        self.say(f"{sum(map(len, self.history.writes))} writes, {len(self.history.flushes)} flushes, "
                 f"{len(self.history.arrived)} markers and orders, {len(self.history.marks)} marks")


def main():
    answer, tokyo, osaka = map(int, sys.argv[1:4])
    load = Load(Guest(answer), {"tokyo": tokyo, "osaka": osaka}, pathlib.Path(sys.argv[4]), float(sys.argv[5]))
    try:
        load.run()
    except (Failed, OSError) as failed:
        for array in ARRAYS:
            print(load.guest.kagami(array, "pair", "status", "erp", "--json")[1], file=sys.stderr)
        print(f"blackout: {failed}", file=sys.stderr)
        load.marking = False
        time.sleep(3)
        load.guest.ask("end")
        sys.exit(1)


if __name__ == "__main__":
    main()
