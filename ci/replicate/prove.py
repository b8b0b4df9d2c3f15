#!/usr/bin/env python3
"""Proves pairs of volumes with real arrays on loopback.

    prove.py KAGAMID KAGAMI [--keep]

Two arrays, the link between them through relays that cut it. A group is made and filled while it is copied; split, written
on, resynchronised; each side is killed under load; the link is cut; the sides are exchanged and exchanged back; the primary
is killed and its secondary taken over, and the old primary comes back. After each step both images are compared with what
was written.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "tools" / "python"))
sys.path.insert(0, str(HERE.parent / "link"))
from kagami_orders import IscsiDevice, Problem  # noqa: E402
from prove import Relay, free_port  # noqa: E402

IQN = "iqn.2026-11.io.kagami"
BLOCK = 4096
SIZE = 16 << 20
JOURNAL = 16 << 20


class Failed(Exception):
    pass


def wait(what, seconds, probe):
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Array:
    def __init__(self, work, program, tool, name, core):
        self.work, self.program, self.tool, self.name, self.core = work, program, tool, name, core
        self.port = free_port()
        self.process = None
        self.log = work / f"{name}.log"
        self.socket = work / f"{name}.sock"

    def write(self, peer, peer_port):
        (self.work / f"{self.name}.toml").write_text(f"""[array]
name = "{self.name}"
iqn = "{IQN}:{self.name}"
data = "{self.work}/{self.name}"
listen = ["127.0.0.1:{self.port}"]
admin = "{self.socket}"
cores = [{self.core}]
cache = "32MiB"
max_volumes = 16
max_connections = 64
[[volume]]
lun = 0
name = "db"
path = "{self.work}/{self.name}-db.img"
size = "{SIZE >> 20}MiB"
[[volume]]
lun = 1
name = "log"
path = "{self.work}/{self.name}-log.img"
size = "{SIZE >> 20}MiB"
[[volume]]
lun = 10
name = "orders"
role = "command"
[[volume]]
lun = 20
name = "jnl"
role = "journal"
path = "{self.work}/{self.name}-jnl.img"
size = "{JOURNAL >> 20}MiB"
[[peer]]
name = "{peer}"
iqn = "{IQN}:{peer}"
portal = "127.0.0.1:{peer_port}"
orders = "forward"
io_timeout = "3s"
[[virtual]]
lun = 30
peer = "{peer}"
mapped_lun = 10
role = "command"
[[group]]
name = "erp"
peer = "{peer}"
restart_wait = "3s"
swap_hold = "5s"
""")

    def start(self):
        out = open(self.log, "ab")
        begin = out.tell()
        self.process = subprocess.Popen([self.program, "--config", str(self.work / f"{self.name}.toml")],
                                        stdout=out, stderr=out)

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

    def kagami(self, *words, codes=(0,)):
        done = subprocess.run([self.tool, "--via", f"unix:{self.socket}", *words], capture_output=True, text=True,
                              timeout=150)
        if done.returncode not in codes:
            raise Failed(f"kagami {' '.join(words)} at {self.name}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def status(self):
        groups = json.loads(self.kagami("pair", "status", "erp", "--json").stdout)["groups"]
        return groups[0]

    def state(self, *states, seconds=30, **also):
        last = {}

        def probe():
            last.update(self.status())
            return last["state"] in states and all(last[key] == value for key, value in also.items()) and last
        try:
            return wait(f"{self.name} in {states} {also}", seconds, probe)
        except Failed as failed:
            raise Failed(f"{failed}; it says {json.dumps(last)}") from None


class Host:
    """Writes stamped blocks, and knows what must be there."""

    def __init__(self, array, lun):
        self.array, self.lun = array, lun
        self.content = {}
        self.stamp = 0

    def device(self):
        return IscsiDevice("127.0.0.1", self.array.port, f"{IQN}:{self.array.name}", self.lun,
                           "iqn.2026-11.io.kagami:host", None, None, 30.0)

    def block(self, at):
        self.stamp += 1
        return f"{self.lun}:{at}:{self.stamp};".encode().ljust(64, b".") * (BLOCK // 64)

    def write(self, device, at):
        data = self.block(at)
        # In doubt until it is answered: one or the other.
        old = self.content.get(at, {bytes(BLOCK)})
        self.content[at] = old | {data}
        device.write(at * BLOCK, data)
        self.content[at] = {data}


class Load(threading.Thread):
    """Writes here and there until told to stop, or the array is gone."""

    def __init__(self, host, seed):
        super().__init__(daemon=True)
        self.host, self.seed, self.running, self.count, self.trouble = host, seed, True, 0, None
        self.start()

    def run(self):
        blocks, at = SIZE // BLOCK, self.seed
        try:
            device = self.host.device()
            while self.running:
                at = (at * 1103515245 + 12345) % (1 << 31)
                self.host.write(device, (at >> 8) % blocks)
                self.count += 1
        except (Problem, OSError) as trouble:
            self.trouble = trouble

    def stop(self):
        self.running = False
        self.join(60)


def image(array, lun):
    """What a volume's file holds; the array must have ended, or have flushed it."""
    return (array.work / f"{array.name}-{'db' if lun == 0 else 'log'}.img").read_bytes()


def check(what, array, hosts):
    for host in hosts:
        data = image(array, host.lun)
        for at, may in host.content.items():
            found = data[at * BLOCK:(at + 1) * BLOCK]
            if found not in may:
                raise Failed(f"{what}: LUN {host.lun} block {at} of {array.name} holds {found[:24]!r}, "
                             f"wanted {[one[:24] for one in may]}")


def same(what, one, other, luns=(0, 1)):
    for lun in luns:
        a, b = image(one, lun), image(other, lun)
        if a != b:
            at = next(at for at in range(0, SIZE, BLOCK) if a[at:at + BLOCK] != b[at:at + BLOCK]) // BLOCK
            raise Failed(f"{what}: LUN {lun} differs at block {at}: {one.name} "
                         f"{a[at * BLOCK:at * BLOCK + 24]!r}, {other.name} {b[at * BLOCK:at * BLOCK + 24]!r}")


class Proof:
    def __init__(self, kagamid, tool, work):
        cores = sorted(os.sched_getaffinity(0))
        self.tokyo = Array(work, kagamid, tool, "tokyo", cores[0])
        self.osaka = Array(work, kagamid, tool, "osaka", cores[-1])
        self.there, self.back = Relay(self.osaka.port), Relay(self.tokyo.port)
        self.tokyo.write("osaka", self.there.port)
        self.osaka.write("tokyo", self.back.port)
        self.primary, self.secondary = self.tokyo, self.osaka
        self.hosts = []

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", flush=True)

    def load(self, seconds=1.0):
        loads = [Load(host, 7 + n) for n, host in enumerate(self.hosts)]
        time.sleep(seconds)
        for load in loads:
            load.stop()
            if load.trouble:
                raise Failed(f"a host was refused: {load.trouble}")
        return sum(load.count for load in loads)

    def settle(self):
        """Until the secondary has all: then both images are equal and hold what was written."""
        try:
            self.primary.kagami("marker", "erp", f"m{time.monotonic_ns()}", "--wait")
        except Failed as failed:
            both = "\n".join(json.dumps(array.status()) for array in (self.primary, self.secondary))
            raise Failed(f"{failed}\n{both}") from None

    def flushed(self, what):
        """Both arrays end and come back, so that their files hold everything; the files are compared."""
        self.settle()
        for array in (self.primary, self.secondary):
            array.end()
        same(what, self.primary, self.secondary)
        check(what, self.secondary, self.hosts)
        self.secondary.start()
        self.primary.start()
        self.primary.state("PAIR", role="primary", recovering=False)
        self.secondary.state("PAIR", role="secondary", recovering=False)

    def exchange(self):
        self.primary, self.secondary = self.secondary, self.primary
        for host in self.hosts:
            host.array = self.primary

    def cut(self, word="cut"):
        self.there.order(word)
        self.back.order(word)

    def run(self):
        self.begun = time.monotonic()
        for array in (self.tokyo, self.osaka):
            array.start()
        self.hosts = [Host(self.tokyo, 0), Host(self.tokyo, 1)]
        self.load(0.5)
        wait("the arrays meet", 20, lambda: all(
            row["uuid"] for row in json.loads(self.tokyo.kagami("arrays", "--json").stdout)["arrays"]))
        create = ["pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0",
                  "--primary", "tokyo:1", "--secondary", "osaka:1"]
        self.tokyo.kagami(*create)
        self.tokyo.kagami(*create, codes=(12,))
        self.load(1.0)
        self.tokyo.state("PAIR")
        self.osaka.state("PAIR", role="secondary")
        self.say("made and copied under load")
        count = self.load()
        self.say(f"{count} writes while paired")
        self.flushed("after the copy")
        self.say("both restarted, equal")

        self.tokyo.kagami("pair", "split", "erp")
        self.tokyo.state("PSUS")
        self.load(0.5)
        self.tokyo.kagami("pair", "resync", "erp")
        self.tokyo.state("PAIR")
        self.say("split, written, resynchronised")
        self.flushed("after the resync")

        for victim in (self.secondary, self.primary):
            loads = [Load(host, 31 + n) for n, host in enumerate(self.hosts)]
            time.sleep(0.5)
            victim.end(signal.SIGKILL)
            time.sleep(0.3)
            victim.start()
            for load in loads:
                load.stop()
                if load.trouble and victim is self.secondary:
                    raise Failed(f"a host of the primary was refused: {load.trouble}")
            self.primary.state("PAIR", "PSUE", recovering=False)
            self.say(f"{victim.name} killed under load and back")
        self.flushed("after the kills")

        loads = [Load(host, 57 + n) for n, host in enumerate(self.hosts)]
        for _ in range(3):
            time.sleep(0.3)
            self.cut()
        for load in loads:
            load.stop()
            if load.trouble:
                raise Failed(f"a host of the primary was refused: {load.trouble}")
        self.flushed("after the cuts")
        self.say("links cut, equal")

        for _ in range(2):
            self.primary.kagami("pair", "swap", "erp", "--dry-run")
            self.primary.kagami("pair", "swap", "erp", codes=(10,))
            self.exchange()
            self.primary.state("PAIR", role="primary")
            self.secondary.state("PAIR", role="secondary")
            self.load(0.5)
            self.say(f"swapped: {self.primary.name} is primary")
        self.flushed("after the swaps")

        self.load(0.3)
        self.settle()
        self.primary.end(signal.SIGKILL)
        self.secondary.kagami("pair", "takeover", "erp", "--dry-run")
        self.secondary.kagami("pair", "takeover", "erp", codes=(11,))
        self.exchange()
        self.load(0.5)
        self.say(f"taken over by {self.primary.name}")
        self.secondary.start()
        self.secondary.state("PSUE", "PSUS", "SSWS", "PAIR", seconds=30, overtaken=True)
        self.primary.kagami("pair", "resync", "erp", "--discard", self.secondary.name)
        self.primary.state("PAIR", role="primary", seconds=60)
        self.secondary.state("PAIR", role="secondary")
        self.flushed("after the failback")
        self.say("the old primary follows")
        self.primary.kagami("pair", "delete", "erp")
        if json.loads(self.secondary.kagami("pair", "status", "--json").stdout)["groups"]:
            raise Failed("the group is still there")
        self.load(0.2)
        self.say("ended")

    def clear(self):
        for array in (self.tokyo, self.osaka):
            if array.process:
                array.end(signal.SIGKILL)
        self.there.end()
        self.back.end()


def main():
    kagamid, tool = sys.argv[1:3]
    work = pathlib.Path(tempfile.mkdtemp(prefix="kagami-pairs-"))
    proof = Proof(kagamid, tool, work)
    # Whoever stops us gets its arrays ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        proof.run()
    except SystemExit:
        proof.clear()
        raise
    except (Failed, Problem, subprocess.TimeoutExpired) as failed:
        print(f"replicate: {failed}\nlogs in {work}", file=sys.stderr)
        proof.clear()
        sys.exit(1)
    proof.clear()
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
