#!/usr/bin/env python3
"""What a command through a virtual volume costs array one, against one that it serves; and how fast it is when the far
device is the limit.

    bench/forward/run.py                    3 alternating rounds
    bench/forward/run.py --rounds 5 --rate 100000 0 --depth 32

Two arrays: array one on core 0, which spins; array two and the generator on core 1.

cpu: 4 KiB on RAM volumes, served by array one and, through it, by array two. A core that polls is always busy, so what
a round without work costs is measured first, without load; CPU time less idle rounds times that cost is what the work took.
device: 4 KiB random reads of a file of array two's without a cache, given to array two and, through array one, to the
same. Builds what it measures; uses 127.0.0.1 only; leaves nothing behind.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
IQN = "iqn.2026-11.io.kagami"
RAM, FILE, FAR_RAM, FAR_FILE = 0, 1, 30, 31
CONFIG = """
[array]
name = "{name}"
iqn = "{iqn}:{name}"
data = "{work}/data"
listen = ["127.0.0.1:{port}"]
cores = [{core}]
cache = "64MiB"
metrics = "127.0.0.1:{metrics}"
idle = "{idle}"

[[volume]]
lun = 0
name = "ram"
backend = "ram"
size = "64MiB"

[[peer]]
name = "{peer}"
portal = "127.0.0.1:{peer_port}"
iqn = "{iqn}:{peer}"
luns = [0, 1]
connections = {links}
"""
FILE_VOLUME = """
[[volume]]
lun = 1
name = "file"
path = "{work}/file"
size = "512MiB"
cache = "none"
"""
VIRTUAL = """
[[virtual]]
lun = {lun}
peer = "two"
mapped_lun = {mapped}
"""


class Array:
    """A kagamid."""

    def __init__(self, options, name):
        self.name, self.options = name, options
        near = name == "one"
        self.port, self.metrics = options.port + (0 if near else 2), options.port + (1 if near else 3)
        self.work = tempfile.mkdtemp(prefix="kagami-forward.", dir=options.folder)
        text = CONFIG.format(
            name=name, iqn=IQN, work=self.work, port=self.port, core=0 if near else 1, metrics=self.metrics,
            idle="spin" if near else "adaptive", peer="two" if near else "one", links=options.links,
            peer_port=options.port + (2 if near else 0),
        )
        if near:
            text += VIRTUAL.format(lun=FAR_RAM, mapped=RAM) + VIRTUAL.format(lun=FAR_FILE, mapped=FILE)
        else:
            text += FILE_VOLUME.format(work=self.work)
            with open(pathlib.Path(self.work, "file"), "wb") as file:
                for _ in range(512):
                    file.write(os.urandom(1 << 20))
                os.fsync(file.fileno())
        config = pathlib.Path(self.work, "kagami.toml")
        config.write_text(text)
        self.log = open(pathlib.Path(self.work, "log"), "w+")
        self.process = subprocess.Popen(
            [options.binaries / "kagamid", "--config", config], stdout=self.log, stderr=subprocess.STDOUT, cwd=self.work
        )

    def wait(self):
        for _ in range(300):
            time.sleep(0.1)
            text = pathlib.Path(self.work, "log").read_text()
            if "\nready" in text:
                return
            if self.process.poll() is not None:
                break
        raise SystemExit(f"run.py: array {self.name} did not start: {text.strip()}")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def cpu_ns(self):
        """CPU time of the reactor."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                if (task / "comm").read_text().startswith("core-"):
                    total += int((task / "schedstat").read_text().split()[0])
            except (ProcessLookupError, FileNotFoundError):
                pass  # one of the short-lived threads that answer requests for metrics
        return total

    def idle_rounds(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("kagami_reactor_idle_rounds_total"))

    def load(self, lun, *words):
        command = [self.options.binaries / "kagami-bench", "load", f"iscsi://127.0.0.1:{self.port}/{IQN}:{self.name}/{lun}"]
        command += ["--block", "4KiB", "--core", "1", "--poll", "sleep", "--json", "--time", self.options.time]
        done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"run.py: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def work_of(self, lun, words):
        """The report of a load, and microseconds of CPU time for each command, without idle rounds."""
        cpu, idle = self.cpu_ns(), self.idle_rounds()
        time.sleep(0.4)
        one_round = (self.cpu_ns() - cpu) / (self.idle_rounds() - idle)
        cpu, idle = self.cpu_ns(), self.idle_rounds()
        report = self.load(lun, *words, "--warmup", "0ms")
        spent = self.cpu_ns() - cpu - one_round * (self.idle_rounds() - idle)
        return report, spent / 1e3 / max(1, report["commands"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, nargs="+", default=[150_000, 0], help="IOPS; 0: as many as there are")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--depth", type=int, default=32, help="of each connection")
    parser.add_argument("--device-depth", type=int, nargs="+", default=[32], help="of the loads of the far file")
    parser.add_argument("--links", type=int, default=1, help="connections of a virtual volume")
    parser.add_argument("--time", default="1500ms")
    parser.add_argument("--only", choices=["cpu", "device"])
    parser.add_argument("--folder", help="where array two's file lies")
    parser.add_argument("--port", type=int, default=13941)
    parser.add_argument("--binaries", type=pathlib.Path, help="where kagamid and kagami-bench are; built otherwise")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("run.py: needs two cores")
    if options.binaries is None:
        subprocess.run(["cargo", "build", "--release", "-q", "-p", "kagamid", "-p", "kagami-bench"], cwd=ROOT, check=True)
        options.binaries = ROOT / "build" / "release"
    shape = ("--connections", options.connections, "--depth", options.depth)
    costs, speeds, arrays = {}, {}, []
    try:
        arrays = [Array(options, "two"), Array(options, "one")]
        two, one = arrays
        two.wait(), one.wait()
        for _ in range(options.rounds):
            for rate in options.rate if options.only != "device" else []:
                for kind, read in (("read", 100), ("write", 0)):
                    words = (*shape, "--read", read, *(("--rate", rate) if rate else ()))
                    for way, lun in (("served", RAM), ("through", FAR_RAM)):
                        report, cost = one.work_of(lun, words)
                        costs.setdefault((kind, rate, way), []).append((cost, report["iops"]))
            for depth in options.device_depth if options.only != "cpu" else ():
                words = ("--connections", 1, "--depth", depth, "--read", 100, "--warmup", "200ms")
                for way, array, lun in (("direct", two, FILE), ("through", one, FAR_FILE)):
                    speeds.setdefault((depth, way), []).append(array.load(lun, *words)["iops"])
    finally:
        for array in arrays:
            array.close()
    for kind, rate in sorted({key[:2] for key in costs}):
        served, through = (costs[kind, rate, way] for way in ("served", "through"))
        ratio = statistics.median(far[0] / near[0] for near, far in zip(served, through))
        shown = [" ".join(f"{cost:.2f} ({iops / 1000:.0f} k)" for cost, iops in runs) for runs in (served, through)]
        print(f"cpu, {kind}, {f'{rate:,} IOPS' if rate else 'full rate'}: us an I/O served {shown[0]}, through {shown[1]}: x {ratio:.2f}")
    for depth in sorted({key[0] for key in speeds}):
        direct, through = (speeds[depth, way] for way in ("direct", "through"))
        ratio = statistics.median(far / near for near, far in zip(direct, through))
        shown = [" ".join(f"{iops:,.0f}" for iops in runs) for runs in (direct, through)]
        print(f"device, depth {depth}: direct {shown[0]}, through {shown[1]} IOPS: {ratio:.0%}")


if __name__ == "__main__":
    main()
