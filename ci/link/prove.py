#!/usr/bin/env python3
"""Proves the remote link with real arrays on loopback.

    prove.py KAGAMID KAGAMI_BENCH [--time SECONDS] [--kills N] [--only PART...]

Verified load through a virtual volume while its link, of several connections, is cut, and while either array is killed
over and over; a link that is down and one that hangs; a chain of three
arrays with both links cut; a star, one of whose arms is dead for a while; two arrays that map each other; a far volume that grows; commands that are about more than
one host: reservations, mode pages, START STOP UNIT; CHAP both ways; digests; a far array that is no kagamid, where tgtd is installed.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "tools" / "python"))
import kagami_orders  # noqa: E402

IQN = "iqn.2026-11.io.kagami"


def free_port() -> int:
    """One that the kernel gives to nobody by itself, so that an array that is killed finds it free when it comes back."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Failed(Exception):
    pass


class Array:
    """One kagamid with its configuration."""

    def __init__(self, work: pathlib.Path, program: str, name: str, core: int) -> None:
        self.work, self.program, self.name, self.core = work, program, name, core
        self.port = free_port()
        self.tables: list[str] = []
        self.keys = ""
        self.process: subprocess.Popen | None = None

    @property
    def iqn(self) -> str:
        return f"{IQN}:{self.name}"

    def url(self, lun: int) -> str:
        return f"iscsi://127.0.0.1:{self.port}/{self.iqn}/{lun}"

    def volume(
        self, lun: int, size: str = "64MiB", backend: str = "ram", block_size: int = 512, cache: str = "writeback"
    ) -> None:
        place = 'backend = "ram"' if backend == "ram" else f'path = "{self.work}/{self.name}-{lun}.img"'
        self.tables.append(
            f'[[volume]]\nlun = {lun}\nname = "v{lun}"\n{place}\nsize = "{size}"\nblock_size = {block_size}\ncache = "{cache}"\n'
        )

    def peer(self, name: str, port: int, luns: list[int], timeout: str = "10s", extra: str = "") -> None:
        self.tables.append(
            f'[[peer]]\nname = "{name}"\nportal = "127.0.0.1:{port}"\niqn = "{IQN}:{name}"\n'
            f'io_timeout = "{timeout}"\nluns = {luns}\n{extra}'
        )

    def virtual(self, lun: int, peer: str, mapped: int) -> None:
        self.tables.append(f'[[virtual]]\nlun = {lun}\npeer = "{peer}"\nmapped_lun = {mapped}\n')

    def write(self) -> pathlib.Path:
        head = (
            f'[array]\nname = "{self.name}"\niqn = "{self.iqn}"\ndata = "{self.work}/{self.name}"\n'
            f'listen = ["127.0.0.1:{self.port}"]\ncores = [{self.core}]\ncache = "32MiB"\n{self.keys}'
        )
        path = self.work / f"{self.name}.toml"
        path.write_text(head + "\n".join(self.tables))
        return path

    def start(self) -> None:
        path = self.write()
        log = open(self.work / f"{self.name}.log", "ab")
        start = log.tell()
        self.process = subprocess.Popen([self.program, "--config", str(path)], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while b"\nready" not in (b"\n" + (self.work / f"{self.name}.log").read_bytes()[start:]):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.name} does not start; see {log.name}")
            time.sleep(0.02)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process:
            self.process.send_signal(how)
            code = self.process.wait(timeout=60)
            self.process = None
            if how == signal.SIGTERM and code != 0:
                raise Failed(f"{self.name} ended with {code}")


class Relay:
    """The link between two arrays."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "relay.py"), str(self.port), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process.stdout.readline()

    def order(self, word: str) -> int:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=10)


class Proof:
    def __init__(self, kagamid: str, bench: str, seconds: float, kills: int, work: pathlib.Path) -> None:
        self.kagamid, self.bench, self.seconds, self.least_kills, self.work = kagamid, bench, seconds, kills, work
        self.running: list[Array | Relay] = []
        self.cores = sorted(os.sched_getaffinity(0))[:2]

    def array(self, name: str) -> Array:
        core = self.cores[len(self.running) % len(self.cores)]
        array = Array(self.work, self.kagamid, name, core)
        self.running.append(array)
        return array

    def relay(self, target: int) -> Relay:
        relay = Relay(target)
        self.running.append(relay)
        return relay

    def clear(self) -> None:
        for one in self.running:
            one.end()
        self.running = []
        for left in self.work.iterdir():
            if left.suffix not in (".log", ".toml"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def verify(self, url: str, seconds: float, *options: str) -> subprocess.Popen:
        command = [self.bench, "verify", url, "--time", f"{int(seconds * 1000)}ms", "--span", "24MiB", "--poll", "sleep"]
        command += ["--no-stdin", "--connections", "2", "--largest", "128KiB", "--timeout", "40s", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def passed(self, what: str, load: subprocess.Popen) -> str:
        said, _ = load.communicate(timeout=180)
        if load.returncode != 0:
            raise Failed(f"{what}: {said.strip()}")
        return said.strip().splitlines()[0]

    def ready(self, array: Array, lun: int, wanted: str, seconds: float) -> float:
        """Until READ CAPACITY says that; how long it took."""
        begun = time.monotonic()
        while True:
            said = capacity(array.url(lun))
            if wanted in said:
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                raise Failed(f"{array.name}:{lun} does not say {wanted!r} in {seconds} s, but {said!r}")
            time.sleep(0.05)

    def two(self, timeout: str = "10s", connections: int = 1, **volume) -> tuple[Array, Array, Relay]:
        far, near = self.array("two"), self.array("one")
        far.volume(1, **volume)
        relay = self.relay(far.port)
        far.peer("one", near.port, [1])
        near.peer("two", relay.port, [], timeout, f"connections = {connections}\n")
        near.virtual(30, "two", 1)
        far.start()
        near.start()
        self.ready(near, 30, "total", 10)
        return near, far, relay

    def cuts(self) -> str:
        near, _, relay = self.two(block_size=4096, connections=3)
        load = self.verify(near.url(30), self.seconds)
        dice, cuts, most = random.Random(1), 0, 0
        # The checker looks at the unit before it can stand anything.
        time.sleep(1.5)
        end = time.monotonic() + self.seconds - 1.5
        while time.monotonic() < end and load.poll() is None:
            time.sleep(dice.uniform(0.05, 0.6))
            if dice.random() < 0.4:
                most = max(most, relay.order("down"))
                time.sleep(dice.uniform(0, 0.5))
                relay.order("up")
            else:
                most = max(most, relay.order("cut"))
            cuts += 1
        said = self.passed("under load while the link is cut", load)
        if most < 2:
            raise Failed(f"{most} connections at a time, although several were asked for")
        told = (self.work / "one.log").read_text()
        if "the link serves again" not in told and "and serves again" not in told:
            raise Failed("nothing was said of a link that was lost and came back")
        return f"{cuts} cuts of up to {most} connections: {said}"

    def kills(self) -> str:
        """What was acknowledged is stable (writethrough), so nothing may be lost, whoever is killed."""
        near, far, _ = self.two(backend="file", cache="writethrough", connections=2)
        seconds = max(self.seconds, self.least_kills * 1.5)
        load = self.verify(near.url(30), seconds * 4 + 60, "--reconnect", "60s")
        dice, counts = random.Random(3), {"one": 0, "two": 0}
        end = time.monotonic() + seconds
        while (time.monotonic() < end or sum(counts.values()) < self.least_kills) and load.poll() is None:
            time.sleep(dice.uniform(0.3, 1.2))
            victim = dice.choice([near, far])
            victim.end(signal.SIGKILL)
            counts[victim.name] += 1
            time.sleep(dice.uniform(0, 0.3))
            victim.start()
        # It reads all once more before it ends.
        load.terminate()
        said = self.passed("while either array is killed", load)
        if not all(counts.values()):
            raise Failed(f"not both were killed: {counts}")
        return f"{counts['one']} kills of the near array, {counts['two']} of the far one: {said}"

    def down(self) -> str:
        near, _, relay = self.two("1s")
        relay.order("down")
        begun = time.monotonic()
        said = capacity(near.url(30))
        took = time.monotonic() - begun
        if "2 0800" not in said or took > 3:
            raise Failed(f"a link that is down: {said!r} after {took:.1f} s")
        relay.order("up")
        healed = self.ready(near, 30, "total", 10)
        relay.order("hang")
        begun = time.monotonic()
        said = capacity(near.url(30))
        hung = time.monotonic() - begun
        if "2 0800" not in said or hung > 3:
            raise Failed(f"a link that hangs: {said!r} after {hung:.1f} s")
        relay.order("pass")
        again = self.ready(near, 30, "total", 10)
        return f"NOT READY after {took:.1f} s, hung {hung:.1f} s; healed after {healed:.1f} s and {again:.1f} s"

    def chain(self) -> str:
        third, second, first = self.array("three"), self.array("two"), self.array("one")
        third.volume(1)
        link23 = self.relay(third.port)
        link12 = self.relay(second.port)
        third.peer("two", second.port, [1])
        second.peer("three", link23.port, [])
        second.peer("one", first.port, [20])
        second.virtual(20, "three", 1)
        first.peer("two", link12.port, [])
        first.virtual(30, "two", 20)
        for array in (third, second, first):
            array.start()
        self.ready(first, 30, "total", 20)
        load = self.verify(first.url(30), self.seconds)
        dice, cuts = random.Random(2), 0
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and load.poll() is None:
            time.sleep(dice.uniform(0.2, 0.9))
            dice.choice([link12, link23]).order("cut")
            cuts += 1
        return f"{cuts} cuts: " + self.passed("a chain of three", load)

    def star(self) -> str:
        """Two far arrays at once: what happens to one is nothing to the other."""
        left, right, near = self.array("left"), self.array("right"), self.array("one")
        for far, lun in ((left, 30), (right, 31)):
            far.volume(1, backend="file", cache="writethrough")
            far.peer("one", near.port, [1])
            near.peer(far.name, far.port, [], "20s")
            near.virtual(lun, far.name, 1)
        for array in (left, right, near):
            array.start()
        for lun in (30, 31):
            self.ready(near, lun, "total", 10)
        steady = self.verify(near.url(31), self.seconds + 4)
        troubled = self.verify(near.url(30), self.seconds * 4 + 60, "--reconnect", "60s")
        time.sleep(self.seconds / 2)
        left.end(signal.SIGKILL)
        time.sleep(3)
        left.start()
        healed = self.ready(near, 30, "total", 10)
        calm = self.passed("the arm that nothing happened to", steady)
        if "0 connections lost" not in calm:
            raise Failed(f"the other arm was disturbed: {calm}")
        time.sleep(1)
        # It reads all once more before it ends.
        troubled.terminate()
        return f"healed after {healed:.1f} s: {self.passed('the arm that was dead', troubled)}; beside it {calm}"

    def loop(self) -> str:
        first, second = self.array("one"), self.array("two")
        for array, other, name in ((first, second, "two"), (second, first, "one")):
            array.peer(name, other.port, [30], "1s")
            array.virtual(30, name, 30)
            array.volume(0)
        for array in (first, second):
            array.start()
        time.sleep(2)
        said = [capacity(array.url(30)) for array in (first, second)]
        if any("total" in one for one in said) or not any("2 0403" in one or "2 0800" in one for one in said):
            raise Failed(f"two arrays that map each other: {said}")
        if any("total" not in capacity(array.url(0)) for array in (first, second)):
            raise Failed("the arrays of a loop do not serve their own volumes")
        return "refused: " + ", ".join(said)

    def growth(self) -> str:
        near, far, _ = self.two(backend="file")
        far.tables[0] = far.tables[0].replace("64MiB", "80MiB")
        far.write()
        far.process.send_signal(signal.SIGHUP)
        took = self.ready(near, 30, f"total {80 << 20}", 10)
        return f"seen after {took:.1f} s"

    def commands(self) -> str:
        near, far, _ = self.two("2s")

        def host(array: Array, lun: int, name: str) -> "kagami_orders.IscsiDevice":
            return kagami_orders.IscsiDevice("127.0.0.1", array.port, array.iqn, lun, f"iqn.1993-08.org.debian:01:{name}")

        def ends(device, cdb: list[int], wanted: str, **data) -> bytes:
            status, sense, read = device.command(bytes(cdb), **data)
            said = f"{status:x}" + (f" {sense[2] & 15:x}/{sense[12]:02x}{sense[13]:02x}" if status == 2 else "")
            if said != wanted:
                raise Failed(f"{bytes(cdb).hex()} ended with {said}, not with {wanted}")
            return read

        a, b, direct = host(near, 30, "a"), host(near, 30, "b"), host(far, 1, "direct")
        ready, write, read = [0] * 6, [0x2A] + [0] * 7 + [1, 0], [0x28] + [0] * 7 + [1, 0]
        sector = bytes(512)
        # Mode pages: WCE is the far unit's own, and everybody but who changed it is told.
        caching = [0x1A, 0x08, 0x08, 0, 255, 0]
        page = bytearray(ends(a, caching, "0", read=255))
        page = page[: page[0] + 1]
        was, page[0], page[2] = page[6] & 4, 0, 0
        page[6] ^= 4
        ends(a, [0x15, 0x10, 0, 0, len(page), 0], "0", write=bytes(page))
        ends(a, ready, "0")
        for other in (b, direct):
            ends(other, ready, "2 6/2a01")
            ends(other, ready, "0")
        for device in (a, b, direct):
            if ends(device, caching, "0", read=255)[6] & 4 == was:
                raise Failed("WCE did not change for everybody")
        # Reservations are not made through it, and hold against it.
        for cdb in ([0x16] + [0] * 5, [0x17] + [0] * 5, [0x5E] + [0] * 6 + [0, 8, 0], [0xA3, 0x0A] + [0] * 6 + [0, 8, 0, 0]):
            ends(a, cdb, "2 5/2000", read=8 if cdb[0] in (0x5E, 0xA3) else 0)
        ends(a, [0x5F] + [0] * 7 + [24, 0], "2 5/2000", write=bytes(24))
        ends(direct, [0x16] + [0] * 5, "0")
        for device in (a, b):
            ends(device, write, "18", write=sector)
            ends(device, read, "18", read=512)
        ends(direct, write, "0", write=sector)
        ends(direct, [0x17] + [0] * 5, "0")
        for device in (a, b):
            ends(device, write, "0", write=sector)
        # Stopped by one, stopped for all; the link serves it, also a new one, so that any of them can start it.
        ends(b, [0x1B] + [0] * 5, "0")
        for device in (a, b, direct):
            ends(device, read, "2 2/0402", read=512)
        near.end()
        near.start()
        deadline = time.monotonic() + 10
        while near_again := host(near, 30, "a"):
            status, sense, _ = near_again.command(bytes(read), read=512)
            if status == 2 and (sense[2], sense[12], sense[13]) == (2, 4, 2):
                break
            if time.monotonic() > deadline:
                raise Failed(f"a unit that was stopped, over a new link: {status:x} {sense.hex()}")
            time.sleep(0.1)
        ends(near_again, [0x1B, 0, 0, 0, 1, 0], "0")
        for device in (near_again, direct):
            ends(device, read, "0", read=512)
        return "mode pages told to all, reservations refused and heeded, stopped and started over a new link"

    def digests(self) -> str:
        """A far array that takes nobody without them."""
        far, near = self.array("two"), self.array("one")
        far.keys = 'header_digest = ["crc32c"]\ndata_digest = ["crc32c"]\n'
        far.volume(1)
        far.peer("one", near.port, [1])
        near.peer("two", far.port, [])
        near.virtual(30, "two", 1)
        far.start()
        near.start()
        self.ready(near, 30, "total", 10)
        if "total" in (said := capacity(far.url(1))):
            raise Failed(f"the far array lets in a host without digests: {said}")
        return self.passed("a link with digests", self.verify(near.url(30), self.seconds / 2))

    def secrets(self) -> str:
        far, near = self.array("two"), self.array("one")
        for name in ("near", "far"):
            secret = self.work / f"{name}.secret"
            secret.write_text(f"secret-of-{name}-array\n")
            secret.chmod(0o600)
        chap = 'chap = {{ user = "{0}", secret_file = "{2}/{0}.secret", mutual = {{ user = "{1}", secret_file = "{2}/{1}.secret" }} }}\n'
        far.volume(1)
        far.peer("one", near.port, [1], extra=chap.format("far", "near", self.work))
        near.peer("two", far.port, [], "1s", extra=chap.format("near", "far", self.work))
        near.virtual(30, "two", 1)
        far.start()
        near.start()
        self.ready(near, 30, "total", 10)
        near.end()
        (self.work / "far.secret").write_text("another-secret-than-before\n")
        near.start()
        time.sleep(1.5)
        said = capacity(near.url(30))
        if "total" in said:
            raise Failed("a far array with another secret was believed")
        return "both proved who they are, and one that did not was not believed"

    def others(self) -> str:
        if not shutil.which("tgtd") or not shutil.which("tgtadm"):
            return "tgtd is not here: left out"
        port, control = free_port(), random.Random(os.getpid()).randrange(20000, 30000)
        image = self.work / "tgt.img"
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        daemon = subprocess.Popen(
            ["tgtd", "-f", "-C", str(control), "--iscsi", f"portal=127.0.0.1:{port}"],
            stdout=open(self.work / "tgtd.log", "wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            admin = ["tgtadm", "-C", str(control), "--lld", "iscsi", "--op"]
            deadline = time.monotonic() + 10
            target = ["new", "--mode", "target", "--tid", "1", "-T", f"{IQN}:tgt"]
            while subprocess.run([*admin, *target], capture_output=True).returncode != 0:
                if time.monotonic() > deadline:
                    raise Failed("tgtd does not start")
                time.sleep(0.1)
            unit = ["new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", str(image)]
            subprocess.run([*admin, *unit], check=True, capture_output=True)
            bind = ["bind", "--mode", "target", "--tid", "1", "-I", "ALL"]
            subprocess.run([*admin, *bind], check=True, capture_output=True)
            near = self.array("one")
            near.peer("tgt", port, [])
            near.virtual(30, "tgt", 1)
            near.start()
            self.ready(near, 30, "total", 10)
            # One command at a time: of tgtd's file in the page cache a READ may see half of a WRITE that is under way.
            load = self.verify(near.url(30), self.seconds / 2, "--connections", "1", "--depth", "1")
            return self.passed("tgtd as the far array", load)
        finally:
            # It does not end on SIGTERM while it has targets.
            daemon.kill()
            daemon.wait(timeout=10)


def capacity(url: str) -> str:
    """READ CAPACITY(16), after what unit attentions there are: `total BYTES`, or key and code of the failure."""
    for _ in range(8):
        done = subprocess.run(["iscsi-readcapacity16", url], capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        if found := re.search(r"Total size:(\d+)", said):
            return f"total {found[1]}"
        found = re.search(r"\((\d+)\) ASCQ:.*\(0x([0-9a-f]{4})\)", said)
        if not found:
            return said.strip()
        if found[1] != "6":
            return f"{found[1]} {found[2]}"
    return "unit attentions without end"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kagamid")
    parser.add_argument("bench")
    parser.add_argument("--time", type=float, default=10)
    parser.add_argument("--kills", type=int, default=0, help="at least so many")
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kagami-link."))
    proof = Proof(arguments.kagamid, arguments.bench, arguments.time, arguments.kills, work)
    code = 0
    parts = (proof.cuts, proof.kills, proof.down, proof.chain, proof.star, proof.loop, proof.growth, proof.commands, proof.digests, proof.secrets, proof.others)
    for part in parts:
        if arguments.only and part.__name__ not in arguments.only:
            continue
        try:
            print(f"link: {part.__name__}: {part()}", flush=True)
        except (Failed, kagami_orders.Problem, subprocess.SubprocessError, OSError) as error:
            print(f"link: {part.__name__}: FAILED: {error}", flush=True)
            code = 1
        try:
            proof.clear()
        except (Failed, subprocess.SubprocessError, OSError) as error:
            print(f"link: {part.__name__}: not ended well: {error}", flush=True)
            code = 1
            for one in proof.running:
                if one.process:
                    one.process.kill()
            proof.running = []
    if code == 0:
        shutil.rmtree(work)
    else:
        print(f"link: what was left is in {work}")
    return code


if __name__ == "__main__":
    sys.exit(main())
