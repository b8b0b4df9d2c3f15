#!/usr/bin/env python3
"""CPU time per I/O on two cores against one, at a limited rate.

    bench/cores/run.py                      3 alternating rounds at 60,000 and 120,000 IOPS
    bench/cores/run.py --rounds 5 --rate 30000

A core that polls is always busy, so its CPU time alone says nothing. Both arrays spin; what a round without work costs
is measured first, without load; then CPU time less idle rounds times that cost is what the work took. CPU time, not
time by the clock: on a machine with two cores the generator shares one with the array. Builds what it measures; uses
127.0.0.1 only; leaves nothing behind.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

CONFIG = """
[array]
name = "cores"
iqn = "iqn.2026-11.io.kagami:cores"
data = "{work}/data"
listen = ["127.0.0.1:{port}"]
cores = {cores}
cache = "256MiB"
admin = "{work}/admin.sock"
metrics = "127.0.0.1:{metrics}"
idle = "spin"

[[volume]]
lun = 0
name = "ram"
backend = "ram"
size = "256MiB"
"""


class Array:
    """A kagamid on the given cores."""

    def __init__(self, binaries, cores, port):
        self.port, self.metrics = port, port + 1
        self.work = tempfile.mkdtemp(prefix="kagami-cores.")
        config = pathlib.Path(self.work, "kagami.toml")
        config.write_text(CONFIG.format(work=self.work, port=port, metrics=port + 1, cores=list(cores)))
        log = open(pathlib.Path(self.work, "log"), "w+")
        self.process = subprocess.Popen(
            [binaries / "kagamid", "--config", config], stdout=log, stderr=subprocess.STDOUT, cwd=self.work
        )
        for _ in range(300):
            time.sleep(0.1)
            text = pathlib.Path(self.work, "log").read_text()
            if "\nready" in text:
                return
            if self.process.poll() is not None:
                break
        self.close()
        raise SystemExit(f"run.py: kagamid did not start: {text.strip()}")

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.work, ignore_errors=True)

    def cpu_ns(self):
        """CPU time of the reactors."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                if (task / "comm").read_text().startswith("core-"):
                    total += int((task / "schedstat").read_text().split()[0])
            except (ProcessLookupError, FileNotFoundError):
                pass  # one of the short-lived threads that answer requests for metrics
        return total

    def counters(self):
        """The metrics by name, summed over their labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        sums = {}
        for line in lines:
            if line and not line.startswith("#"):
                name = line.split("{")[0].split(" ")[0]
                sums[name] = sums.get(name, 0.0) + float(line.split()[-1])
        return sums

    def spent(self, seconds):
        """CPU time and counters of the next seconds."""
        before, cpu = self.counters(), self.cpu_ns()
        time.sleep(seconds)
        after, cpu = self.counters(), self.cpu_ns() - cpu
        return cpu, {name: value - before.get(name, 0.0) for name, value in after.items()}


def measure(bench, array, options, rate):
    cpu, idle = array.spent(0.6)
    idle_round = cpu / idle["kagami_reactor_idle_rounds_total"]
    url = f"iscsi://127.0.0.1:{array.port}/iqn.2026-11.io.kagami:cores/0"
    command = [bench, "load", url, "--poll", "sleep", "--core", str(options.load_core), "--json"]
    command += ["--connections", str(options.connections), "--depth", "32", "--read", "70"]
    command += ["--rate", str(rate), "--warmup", "1200ms", "--time", "2500ms"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(1.6)
    cpu, done = array.spent(1.5)
    report = json.loads(load.communicate()[0])
    ios = done["kagami_lun_reads_total"] + done["kagami_lun_writes_total"]
    work = cpu - idle_round * done["kagami_reactor_idle_rounds_total"]
    return {
        "us_per_io": work / ios / 1e3,
        "crossed_per_io": done["kagami_commands_crossed_total"] / ios,
        "ios_per_receive": ios / done["kagami_receives_total"],
        "iops": report["iops"],
        "idle_round_ns": idle_round,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, nargs="+", default=[60_000, 120_000])
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--port", type=int, default=13921)
    parser.add_argument("--binaries", type=pathlib.Path, help="where kagamid and kagami-bench are; built otherwise")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("run.py: needs two cores")
    binaries = options.binaries
    if binaries is None:
        subprocess.run(["cargo", "build", "--release", "-q", "-p", "kagamid", "-p", "kagami-bench"], cwd=ROOT, check=True)
        binaries = ROOT / "build" / "release"
    results = {}
    for _ in range(options.rounds):
        for cores in ([0], [0, 1]):
            array = Array(binaries, cores, options.port)
            try:
                for rate in options.rate:
                    result = measure(binaries / "kagami-bench", array, options, rate)
                    results.setdefault((rate, len(cores)), []).append(result)
            finally:
                array.close()
    print("us of CPU an I/O without idle polling, 4 KiB 70:30, each round (crossed commands, I/O per receive)")
    for (rate, cores), runs in sorted(results.items()):
        shown = "  ".join(
            f"{run['us_per_io']:.2f} ({run['crossed_per_io']:.2f}, {run['ios_per_receive']:.1f})" for run in runs
        )
        print(f"{rate:>8} IOPS, {cores} core{'s' if cores > 1 else ' '}: {shown}")


if __name__ == "__main__":
    main()
