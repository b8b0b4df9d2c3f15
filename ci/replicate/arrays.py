"""Real arrays on loopback, the links between them, and hosts that know what they wrote. Imported by the proofs beside it."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools" / "python"))
sys.path.insert(0, str(HERE.parent / "link"))
from kagami_orders import Busy, IscsiDevice, Problem, SlotTaken  # noqa: E402
from prove import Relay, free_port  # noqa: E402

IQN = "iqn.2026-11.io.kagami"
HOST = f"{IQN}:host"
BLOCK = 4096
MIB = 1 << 20


class Failed(Exception):
    pass


def wait(what, seconds, probe):
    """Until the probe gives something that is true; what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Array:
    """One kagamid. What it serves can be changed until `config` or `write` is called."""

    def __init__(self, site, name, core, size=16 * MIB, journal=16 * MIB):
        self.site, self.work, self.name, self.core = site, site.work, name, core
        self.port = free_port()
        self.process = None
        self.log = self.work / f"{name}.log"
        self.socket = self.work / f"{name}.sock"
        # LUN: name, bytes, path where it is not the usual one.
        self.volumes = {0: ("db", size, None), 1: ("log", size, None)}
        self.journals = {20: ("jnl", journal, None)}
        # Name: port of the relay that leads there.
        self.peers = {}
        # Name of the group: its peer, and options.
        self.groups = {}
        # Where it listens, and what else its program is told.
        self.address, self.options = "127.0.0.1", ()

    def path(self, lun):
        name, _, path = {**self.volumes, **self.journals}[lun]
        return pathlib.Path(path or self.work / f"{self.name}-{name}.img")

    def config(self):
        text = f"""[array]
name = "{self.name}"
iqn = "{IQN}:{self.name}"
data = "{self.work}/{self.name}"
listen = ["{self.address}:{self.port}"]
admin = "{self.socket}"
cores = [{self.core}]
cache = "32MiB"
io_timeout = "5s"
max_volumes = 16
max_connections = 64
[[volume]]
lun = 10
name = "orders"
role = "command"
"""
        for lun, (name, size, path) in {**self.volumes, **self.journals}.items():
            role = 'role = "journal"\n' if lun in self.journals else ""
            # A block device has its size.
            known = "" if path and str(path).startswith("/dev/") else f'size = "{size >> 20}MiB"\n'
            text += f'[[volume]]\nlun = {lun}\nname = "{name}"\n{role}path = "{self.path(lun)}"\n{known}'
        for number, (peer, port) in enumerate(self.peers.items()):
            text += f"""[[peer]]
name = "{peer}"
iqn = "{IQN}:{peer}"
portal = "127.0.0.1:{port}"
orders = "forward"
io_timeout = "3s"
[[virtual]]
lun = {30 + number}
peer = "{peer}"
mapped_lun = 10
role = "command"
"""
        for group, (peer, options) in self.groups.items():
            text += f'[[group]]\nname = "{group}"\npeer = "{peer}"\nrestart_wait = "3s"\nswap_hold = "5s"\n{options}\n'
        return text

    def write(self):
        (self.work / f"{self.name}.toml").write_text(self.config())

    def start(self):
        out = open(self.log, "ab")
        begin = out.tell()
        self.process = subprocess.Popen([self.site.kagamid, "--config", str(self.work / f"{self.name}.toml"),
                                         *self.options], stdout=out, stderr=out)

        def ready():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} does not start: {self.log.read_bytes()[begin:][-600:].decode()}")
            return b"\nready" in b"\n" + self.log.read_bytes()[begin:]
        wait(f"{self.name} starts", 60, ready)

    def end(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            code = self.process.wait(timeout=60)
            self.process = None
            if how == signal.SIGTERM and code != 0:
                raise Failed(f"{self.name} ended with {code}")

    def command(self, *words):
        return [self.site.kagami, "--via", f"unix:{self.socket}", *words]

    def kagami(self, *words, codes=(0,)):
        """An order; `codes` are the exit codes that are right."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=150)
        if codes and done.returncode not in codes:
            raise Failed(f"kagami {' '.join(words)} at {self.name}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def status(self, group="erp"):
        return json.loads(self.kagami("pair", "status", group, "--json").stdout)["groups"][0]

    def knows(self, group="erp"):
        """Whether it has the group."""
        rows = json.loads(self.kagami("pair", "status", "--json").stdout)["groups"]
        return any(row["group"] == group for row in rows)

    def state(self, *states, seconds=30, group="erp", **also):
        """Until its group is in one of these states, and all else is as said."""
        last = {}

        def probe():
            last.update(self.status(group))
            return last["state"] in states and all(last[key] == value for key, value in also.items()) and last
        try:
            return wait(f"{self.name} in {states} {also}", seconds, probe)
        except Failed as failed:
            raise Failed(f"{failed}; it says {json.dumps(last)}") from None

    def device(self, lun, timeout=30.0):
        """The volume, as a host sees it."""
        return IscsiDevice("127.0.0.1", self.port, f"{IQN}:{self.name}", lun, HOST, None, None, timeout)

    def image(self, lun):
        """What a volume's file holds; the array must have ended, or have flushed it."""
        return self.path(lun).read_bytes()

    def read(self, lun):
        """What hosts read."""
        device, step = self.device(lun), 128 << 10
        return b"".join(device.read(at, step) for at in range(0, device.size, step))


class Site:
    """A folder, the arrays in it, and the links between them."""

    def __init__(self, kagamid, kagami, name):
        self.kagamid, self.kagami = kagamid, kagami
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"kagami-{name}-"))
        self.arrays, self.relays = [], {}
        self.cores = sorted(os.sched_getaffinity(0))
        self.begun = time.monotonic()

    def array(self, name, **sizes):
        array = Array(self, name, self.cores[len(self.arrays) % len(self.cores)], **sizes)
        self.arrays.append(array)
        return array

    def link(self, one, other):
        """Each becomes a peer of the other, by a relay of its own."""
        for here, there in ((one, other), (other, one)):
            relay = Relay(there.port)
            self.relays[(here.name, there.name)] = relay
            here.peers[there.name] = relay.port

    def cut(self, word="cut", *between):
        """An order to the relays (see ci/link/relay.py); to those between two arrays, where they are named."""
        for ends, relay in self.relays.items():
            if not between or set(ends) == {array.name for array in between}:
                relay.order(word)

    def meet(self):
        """Until all arrays know their peers."""
        for array in self.arrays:
            wait("the arrays meet", 20, lambda: all(
                row["uuid"] for row in json.loads(array.kagami("arrays", "--json").stdout)["arrays"]))

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", flush=True)

    def end(self):
        for array in self.arrays:
            if array.process:
                array.end(signal.SIGKILL)
        for relay in self.relays.values():
            relay.end()

    def remove(self):
        shutil.rmtree(self.work)


class Host:
    """Writes stamped blocks, and knows what must be there."""

    def __init__(self, array, lun):
        self.array, self.lun = array, lun
        # Where the array may die, what is answered has to be stable: FUA.
        self.fua = False
        self.content = {}
        self.stamp = 0

    def device(self):
        return self.array.device(self.lun)

    def block(self, at):
        self.stamp += 1
        return f"{self.lun}:{at}:{self.stamp};".encode().ljust(64, b".") * (BLOCK // 64)

    def write(self, device, at):
        data = self.block(at)
        # In doubt until it is answered: one or the other.
        old = self.content.get(at, {bytes(BLOCK)})
        self.content[at] = old | {data}
        blocks = BLOCK // device.block
        device.good(struct.pack(">BBQIxx", 0x8A, 0x08 if self.fua else 0, at * blocks, blocks), write=data)
        self.content[at] = {data}

    def check(self, what, array, data):
        for at, may in self.content.items():
            found = data[at * BLOCK:(at + 1) * BLOCK]
            if found not in may:
                raise Failed(f"{what}: LUN {self.lun} block {at} of {array.name} holds {found[:24]!r}, "
                             f"wanted {[one[:24] for one in may]}")


class Load(threading.Thread):
    """Writes here and there until told to stop, or the array is gone."""

    def __init__(self, host, seed, pause=0.0):
        super().__init__(daemon=True)
        self.host, self.seed, self.pause, self.running, self.count, self.trouble = host, seed, pause, True, 0, None
        # The longest that a write took, in seconds.
        self.longest = 0.0
        self.start()

    def run(self):
        at = self.seed
        try:
            device = self.host.device()
            while self.running:
                at = (at * 1103515245 + 12345) % (1 << 31)
                begun = time.monotonic()
                self.host.write(device, (at >> 8) % (device.size // BLOCK))
                self.longest = max(self.longest, time.monotonic() - begun)
                self.count += 1
                if self.pause:
                    time.sleep(self.pause)
        except (Problem, Busy, SlotTaken, OSError) as trouble:
            self.trouble = trouble

    def stop(self):
        self.running = False
        self.join(60)
        return self

    def good(self):
        """Stops it; no write may have failed."""
        self.stop()
        if self.trouble:
            raise Failed(f"a host of {self.host.array.name} was refused: {self.trouble}")
        return self.count


def same(what, one, other, luns, read=Array.image):
    """The volumes hold the same at both arrays, by their files or as hosts read them."""
    for lun in luns:
        a, b = read(one, lun), read(other, lun)
        if a != b:
            at = next(at for at in range(0, len(a), BLOCK) if a[at:at + BLOCK] != b[at:at + BLOCK])
            raise Failed(f"{what}: LUN {lun} differs at block {at // BLOCK}: {one.name} {a[at:at + 24]!r}, "
                         f"{other.name} {b[at:at + 24]!r}")


def prove(name, run):
    """Runs a proof with a site of its own: `run(site)`. What was left stays only after a failure."""
    site = Site(sys.argv[1], sys.argv[2], name)
    # Whoever stops us gets its arrays ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(site)
    except SystemExit:
        site.end()
        raise
    except (Failed, Problem, OSError, subprocess.TimeoutExpired) as failed:
        print(f"{name}: {failed}\nlogs in {site.work}", file=sys.stderr)
        site.end()
        sys.exit(1)
    site.end()
    site.remove()
