#!/usr/bin/env python3
"""The rows 'Replication' of the goals: two arrays on this machine, a pair, a line between them, a limited load.

    bench/replicate/run.py                         every row, once
    bench/replicate/run.py write lag --rounds 3    some rows, three times
    bench/replicate/run.py catch-up --folder /mnt/tmpfs --cache 1GiB    volumes and journals in RAM

Rows:
  write       4 KiB random writes: a volume that is not paired and one that is, in turns (WCE=0, and WCE=1 at a limited rate)
  journal     the same with the far array away: the journal's own rate, beside fio's random writes on the same disk (O_DIRECT, O_DSYNC)
  lag         lag at a steady load, on loopback and over a line of 50 ms round trip
  slow        host writes while the line hangs, and while the far array catches up
  catch-up    a line of 2 Gb/s and 50 ms: how busy it is while the far array catches up; and loopback without a limit
  formation   speed of the formation copy, of allocated and of empty regions, and what hosts lose meanwhile
  pace        random reads at full rate, alone and beside a formation copy, in turns; `pace` of the copy full and gentle
  swap        how long hosts' commands are held by a swap of a drained pair

Two arrays, a line and a generator on two cores measure the scheduler as well: rates are limited, and CPU time is that of each
process. Builds what it measures; uses 127.0.0.1 only; leaves nothing behind. `--folder` says where volumes and journals lie,
`--far-folder` those of array two: on one disk, both arrays' journals and volumes share what it can do.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
IQN = "iqn.2026-11.io.kagami"
DB, SOLO, JOURNAL, THROUGH, ORDERS = 0, 2, 20, 31, 9
EXIT_DONE = (0, 10, 11, 12)

CONFIG = """
[array]
name = "{name}"
iqn = "{iqn}:{name}"
data = "{work}/data"
listen = ["127.0.0.1:{port}"]
cores = [{core}]
cache = "{cache}"
admin = "{work}/admin.sock"

[[volume]]
lun = {db}
name = "db"
path = "{work}/db"
size = "{size}"
cache = "{mode}"

[[volume]]
lun = {solo}
name = "solo"
path = "{work}/solo"
size = "{size}"
cache = "{mode}"

[[volume]]
lun = {orders}
name = "orders"
role = "command"

[[volume]]
lun = {journal}
name = "jnl"
role = "journal"
path = "{work}/jnl"
size = "{journal_size}"

[[peer]]
name = "{peer}"
portal = "127.0.0.1:{peer_port}"
iqn = "{iqn}:{peer}"
orders = "forward"

[[virtual]]
lun = {through}
peer = "{peer}"
mapped_lun = {orders}
role = "command"
"""


class Failed(Exception):
    """A row that could not be measured, and why."""


class Array:
    """A kagamid."""

    def __init__(self, bench, name, peer, port, peer_port, core):
        self.bench, self.name, self.port = bench, name, port
        options = bench.options
        folder = options.far_folder if name == "two" and options.far_folder else options.folder
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"kagami-{name}.", dir=folder))
        text = CONFIG.format(
            name=name, peer=peer, iqn=IQN, work=self.work, port=port, peer_port=peer_port, core=core,
            size=options.size, journal_size=options.journal, mode=bench.mode, cache=options.cache,
            db=DB, solo=SOLO, journal=JOURNAL, through=THROUGH, orders=ORDERS,
        )
        (self.work / "kagami.toml").write_text(text)
        self.log = open(self.work / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [bench.binaries / "kagamid", "--config", self.work / "kagami.toml"],
            stdout=self.log, stderr=subprocess.STDOUT, cwd=self.work,
        )

    def wait(self):
        """Until it serves."""
        for _ in range(1200):
            text = (self.work / "log").read_text()
            if "\nready" in text:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise Failed(f"{self.name} did not start: {text.strip()[-2000:]}")

    def url(self, lun=DB):
        return f"iscsi://127.0.0.1:{self.port}/{IQN}:{self.name}/{lun}"

    def cpu(self):
        """CPU seconds of the process so far."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def tool(self, *words, ok=EXIT_DONE):
        command = [self.bench.binaries / "kagami", "--via", f"unix:{self.work}/admin.sock", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode not in ok:
            raise Failed(f"{self.name}: kagami {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def status(self):
        """The one group."""
        return json.loads(self.tool("pair", "status", "--json"))["groups"][0]

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)


class Line:
    """kagami-bench relay."""

    def __init__(self, bench, listen, target, delay="0ms", bandwidth="0"):
        command = [bench.binaries / "kagami-bench", "relay", f"127.0.0.1:{listen}", f"127.0.0.1:{target}"]
        command += ["--delay", delay, "--bandwidth", bandwidth]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise Failed("the relay did not start")

    def order(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def passed(self):
        """Bytes to the target, and back."""
        return tuple(int(word) for word in self.order("stats"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """What all rows use: binaries, and two arrays with a line between them."""

    def __init__(self, options):
        self.options, self.mode = options, "writeback"
        self.binaries = options.binaries
        if self.binaries is None:
            packages = [word for name in ("kagamid", "kagami", "kagami-bench") for word in ("-p", name)]
            subprocess.run(["cargo", "build", "--release", "-q", *packages], cwd=ROOT, check=True)
            self.binaries = ROOT / "build" / "release"
        self.open = []

    def arrays(self, delay="0ms", bandwidth="0", mode="writeback", direct=False):
        """Array one on the first core, array two on the second, each reaching the other over a line, or without one."""
        self.mode = mode
        port, far = self.options.port, 0 if direct else 2
        self.lines = [] if direct else [
            self.keep(Line(self, port + 2, port, delay, bandwidth)),
            self.keep(Line(self, port + 3, port + 1, delay, bandwidth)),
        ]
        one = self.keep(Array(self, "one", "two", port, port + 1 + far, 0))
        two = self.keep(Array(self, "two", "one", port + 1, port + far, 1))
        one.wait(), two.wait()
        self.one, self.two = one, two
        return one, two

    def keep(self, thing):
        self.open.append(thing)
        return thing

    def close(self):
        while self.open:
            self.open.pop().close()

    def load(self, array, *words, lun=DB, seconds=None):
        """A run of the generator."""
        command = [self.binaries / "kagami-bench", "load", array.url(lun), "--json", "--poll", "sleep"]
        command += ["--time", f"{seconds or self.options.seconds}s", "--warmup", "500ms", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise Failed(f"kagami-bench: {done.stderr.strip()}") from error

    def pair(self, wait=True):
        """A pair of both volumes."""
        self.one.tool(
            "pair", "create", "--group", "bench", "--primary", f"one:{DB}", "--secondary", f"two:{DB}",
            "--journal", f"one:{JOURNAL}", "--secondary-journal", f"two:{JOURNAL}",
        )
        if wait:
            self.until(lambda: self.one.status()["state"] == "PAIR", 300, "PAIR")

    def until(self, holds, seconds, what):
        """Waits; how long it took."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise Failed(f"no {what} after {seconds} s: {json.dumps(self.one.status())[:600]}")
            time.sleep(0.02)
        return time.monotonic() - began

    def fill(self, array, mebibytes, lun=DB):
        """Writes the start of the volume once, in order."""
        count = mebibytes << 20
        self.load(
            array, "--read", 0, "--block", "256KiB", "--pattern", "seq", "--connections", 1, "--depth", 8,
            "--span", count, lun=lun, seconds=max(1, count // (256 << 20)),
        )


RANDOM = ("--read", 0, "--block", "4KiB", "--connections", 2, "--depth", 16)


def per_io(array, run):
    """Runs; the report, and CPU microseconds of the array for each command."""
    cpu = array.cpu()
    report = run()
    return report, (array.cpu() - cpu) * 1e6 / max(1, report["commands"])


def median(reports, key):
    return statistics.median(report[key] for report, _ in reports)


def row_write(bench):
    options = bench.options
    random = ("--read", 0, "--block", "4KiB", "--connections", 2, "--depth", options.depth // 2, "--span", options.span)
    for mode, words in (("writethrough", random), ("writeback", (*random, "--rate", options.rate))):
        one, two = bench.arrays(mode=mode)
        mebibytes = max(1, options.span >> 20)
        bench.fill(one, mebibytes), bench.fill(one, mebibytes, lun=SOLO)
        bench.pair()
        runs, far = {SOLO: [], DB: []}, []
        for _ in range(options.turns):
            for lun, reports in runs.items():
                cpu = two.cpu()
                reports.append(per_io(one, lambda lun=lun: bench.load(one, *words, lun=lun)))
                if lun == DB:
                    far.append((two.cpu() - cpu) * 1e6 / max(1, reports[-1][0]["commands"]))
                # What this has left dirty is not to be destaged beside the next.
                time.sleep(options.pause)
        figures = {}
        for lun, reports in runs.items():
            cpu = statistics.median(cpu for _, cpu in reports)
            figures[lun] = median(reports, "iops"), median(reports, "latency_p50_us"), median(reports, "latency_p99_us"), cpu
        alone, paired = figures[SOLO], figures[DB]
        state, errors = one.status()["state"], sum(report["errors"] for report, _ in runs[SOLO] + runs[DB])
        shown = [f"{i:,.0f} IOPS p50 {p50:.0f} p99 {p99:.0f} us, {cpu:.1f} us CPU" for i, p50, p99, cpu in (alone, paired)]
        print(
            f"write WCE={0 if mode == 'writethrough' else 1}, depth {options.depth}: unpaired {shown[0]}; {state} {shown[1]}"
            f" and {statistics.median(far):.1f} at the far array;"
            f" IOPS x {paired[0] / alone[0]:.2f}, p99 x {paired[2] / alone[2]:.2f}, CPU x {paired[3] / alone[3]:.2f};"
            f" medians of {options.turns}; errors {errors}",
            flush=True,
        )
        bench.close()


def fio_random(folder, depth, seconds, span):
    """What fio gets of the disk: random 4 KiB writes, each stable before the next of its place in the queue."""
    with tempfile.NamedTemporaryFile(prefix="kagami-fio.", dir=folder) as file:
        # No block is to be found, and none to be marked as written.
        for _ in range(span >> 20):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        command = ["fio", "--name=random", f"--filename={file.name}", f"--size={span}", "--ioengine=io_uring", "--direct=1"]
        command += ["--sync=dsync", "--rw=randwrite", "--bs=4k", f"--iodepth={depth}", f"--runtime={seconds}", "--time_based"]
        try:
            done = subprocess.run([*command, "--output-format=json"], capture_output=True, text=True, timeout=seconds + 60)
            return json.loads(done.stdout)["jobs"][0]["write"]["iops"]
        except (FileNotFoundError, json.JSONDecodeError, IndexError) as error:
            raise Failed(f"fio: {error}") from error


def row_journal(bench):
    options = bench.options
    one, two = bench.arrays(mode="writethrough")
    mebibytes = max(1, options.span >> 20)
    bench.fill(one, mebibytes), bench.fill(one, mebibytes, lun=SOLO)
    bench.pair()
    for line in bench.lines:
        line.order("hang")
    # It would look for the line.
    two.process.send_signal(signal.SIGSTOP)
    try:
        for depth in sorted({options.depth, 4 * options.depth}):
            words = ("--read", 0, "--block", "4KiB", "--connections", 2, "--depth", depth // 2, "--span", options.span)
            disk, runs = [], {SOLO: [], DB: []}
            for _ in range(options.turns):
                disk.append(fio_random(one.work, depth, options.seconds, options.span))
                for lun, reports in runs.items():
                    reports.append(per_io(one, lambda lun=lun: bench.load(one, *words, lun=lun)))
                    time.sleep(options.pause)
            state, errors = one.status()["state"], sum(report["errors"] for report, _ in runs[SOLO] + runs[DB])
            if state != "PAIR":
                raise Failed(f"the pair is in {state}: the journal is too small for these runs")
            disk, alone, paired = statistics.median(disk), median(runs[SOLO], "iops"), median(runs[DB], "iops")
            cpu = [statistics.median(cpu for _, cpu in reports) for reports in runs.values()]
            print(
                f"journal, far array away, WCE=0, depth {depth}: disk (fio) {disk:,.0f} IOPS; unpaired {alone:,.0f}, {cpu[0]:.1f} us CPU;"
                f" journaled {paired:,.0f} p50 {median(runs[DB], 'latency_p50_us'):.0f} p99 {median(runs[DB], 'latency_p99_us'):.0f} us,"
                f" {cpu[1]:.1f} us CPU: x {paired / disk:.2f} of the disk, x {paired / alone:.2f} of unpaired;"
                f" medians of {options.turns}; errors {errors}",
                flush=True,
            )
    finally:
        two.process.send_signal(signal.SIGCONT)
        for line in bench.lines:
            line.order("pass")


def sampled_lag(bench, work):
    """Runs `work` and looks at the lag meanwhile."""
    samples, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            group = bench.two.status()
            if group["lag_seconds"] is not None:
                samples.append(group["lag_seconds"] * 1e3)
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = work()
    finally:
        stop.set()
        thread.join()
    return result, sorted(samples)


def row_lag(bench):
    for name, delay in (("loopback", "0ms"), ("50 ms round trip", "25ms")):
        one, _ = bench.arrays(delay=delay)
        bench.pair()
        report, lag = sampled_lag(bench, lambda: bench.load(one, *RANDOM, "--rate", bench.options.rate, seconds=6))
        if not lag:
            raise Failed("no lag was reported")
        print(
            f"lag over {name}: at {report['iops']:,.0f} writes/s median {statistics.median(lag):.0f} ms,"
            f" most {lag[-1]:.0f} ms ({len(lag)} samples); host errors {report['errors']}"
        )
        bench.close()


def row_slow(bench):
    one, _ = bench.arrays()
    bench.pair()
    words = (*RANDOM, "--rate", bench.options.rate)
    before = bench.load(one, *words)
    for line in bench.lines:
        line.order("hang")
    hanging = bench.load(one, *words)
    for line in bench.lines:
        line.order("pass")
    after = bench.load(one, *words)
    for name, report in (("before", before), ("line hangs", hanging), ("catching up", after)):
        print(
            f"slow, {name}: {report['iops']:,.0f} IOPS, p99 {report['latency_p99_us']:.0f} us,"
            f" max {report['latency_max_us'] / 1e3:.0f} ms, errors {report['errors']}"
        )
    bench.until(lambda: bench.one.status()["state"] == "PAIR", 60, "PAIR")


def row_catch_up(bench):
    wide = 250_000_000
    for name, delay, bandwidth in (("2 Gb/s, 50 ms", "25ms", str(wide)), ("loopback", "0ms", "0")):
        one, two = bench.arrays(delay=delay, bandwidth=bandwidth)
        # What is written later is there already: the first touch of memory is not to be measured.
        bench.fill(one, bench.options.behind * 5 // 4)
        bench.pair()
        for line in bench.lines:
            line.order("hang")
        # Less than the journal holds: a full one would suspend the pair.
        rate = bench.options.behind * 4 // 3
        bench.load(one, "--read", 0, "--block", "256KiB", "--connections", 1, "--depth", 8, "--rate", rate, seconds=3)
        group = one.status()
        behind = group["lag_bytes"] or 0
        if group["state"] != "PAIR":
            raise Failed(f"the pair is in {group['state']}: the journal is too small for {bench.options.behind} MiB")
        for line in bench.lines:
            line.order("pass")
        began, (_, start) = time.monotonic(), bench.lines[0].passed()
        cpu = one.cpu(), two.cpu()
        samples = [(0.0, 0)]
        while samples[-1][1] < behind and samples[-1][0] < 60:
            time.sleep(0.02)
            samples.append((time.monotonic() - began, bench.lines[0].passed()[1] - start))
        cpu = [(array.cpu() - before) * 2**30 / behind for array, before in zip((one, two), cpu)]
        # From the first tenth to the last: the links' way back, and the last answers, are not the line's.
        inner = [sample for sample in samples if 0.1 * behind <= sample[1] <= 0.9 * behind]
        if len(inner) < 2:
            raise Failed(f"nothing arrived of {behind >> 20} MiB: {samples[-1]}")
        speed = (inner[-1][1] - inner[0][1]) / (inner[-1][0] - inner[0][0])
        busy = f", {speed / wide:.0%} of the line" if bandwidth != "0" else ""
        print(
            f"catch-up over {name}: {behind >> 20} MiB behind, all there after {samples[-1][0]:.2f} s,"
            f" the first tenth after {inner[0][0]:.2f} s; between {speed / 2**20:,.0f} MiB/s{busy}; CPU seconds a GiB {cpu[0]:.2f} at array one and {cpu[1]:.2f} at array two"
        )
        bench.close()
    # Without a relay, which takes its share of two cores: array two is stopped meanwhile.
    one, two = bench.arrays(direct=True)
    bench.fill(one, bench.options.behind * 5 // 4)
    bench.pair()
    two.process.send_signal(signal.SIGSTOP)
    rate = bench.options.behind * 4 // 3
    bench.load(one, "--read", 0, "--block", "256KiB", "--connections", 1, "--depth", 8, "--rate", rate, seconds=3)
    behind, cpu = one.status()["lag_bytes"] or 0, (one.cpu(), two.cpu())
    two.process.send_signal(signal.SIGCONT)
    samples, began = [(0.0, behind)], time.monotonic()
    while samples[-1][1] > behind // 10 and samples[-1][0] < 30:
        time.sleep(0.05)
        samples.append((time.monotonic() - began, one.status()["lag_bytes"] or 0))
    inner = [sample for sample in samples if sample[1] <= 0.9 * behind]
    cpu = [(array.cpu() - before) * 2**30 / behind for array, before in zip((one, two), cpu)]
    speed = (inner[0][1] - inner[-1][1]) / max(0.001, inner[-1][0] - inner[0][0]) if len(inner) > 1 else 0
    overall = (behind - samples[-1][1]) / samples[-1][0]
    print(
        f"catch-up without a relay: {behind >> 20} MiB behind, {samples[-1][1] >> 20} left after {samples[-1][0]:.2f} s:"
        f" {overall / 2**20:,.0f} MiB/s, behind the first tenth {speed / 2**20:,.0f};"
        f" CPU seconds a GiB {cpu[0]:.2f} at array one and {cpu[1]:.2f} at array two"
    )
    bench.close()


def row_formation(bench):
    for name, mebibytes in (("empty", 0), ("filled", bench.options.fill)):
        one, two = bench.arrays()
        if mebibytes:
            bench.fill(one, mebibytes)
        began = time.monotonic()
        bench.pair()
        took = time.monotonic() - began
        print(f"formation, {name} volume of {bench.options.size}: {took:.2f} s")
        bench.close()
    one, two = bench.arrays()
    bench.fill(one, bench.options.fill)
    words = ("--read", 70, "--block", "4KiB", "--connections", 2, "--depth", 16, "--rate", bench.options.rate)
    before = bench.load(one, *words)
    bench.pair(wait=False)
    during = bench.load(one, *words)
    print(
        f"formation beside hosts: {before['iops']:,.0f} IOPS p99 {before['latency_p99_us']:.0f} us before,"
        f" {during['iops']:,.0f} p99 {during['latency_p99_us']:.0f} us during ({during['iops'] / before['iops']:.0%})"
    )


def row_pace(bench):
    options = bench.options
    words = ("--read", 100, "--block", "4KiB", "--connections", 2, "--depth", options.depth // 2)
    words = (*words, "--span", options.fill << 20)
    for pace in ("full", "gentle"):
        one, two = bench.arrays()
        bench.fill(one, options.fill)
        bench.load(one, *words)
        alone, beside, speeds = [], [], []
        for _ in range(options.turns):
            alone.append(bench.load(one, *words)["iops"])
            bench.pair(wait=False)
            two.tool("pair", "set", "bench", f"pace={pace}")
            began, (_, start) = time.monotonic(), bench.lines[0].passed()
            report = bench.load(one, *words)
            (_, passed), took = bench.lines[0].passed(), time.monotonic() - began
            if two.status()["state"] == "COPY":
                beside.append(report["iops"])
                speeds.append((passed - start) / took)
            one.tool("pair", "delete", "bench")
            time.sleep(options.pause)
        if not beside:
            print(f"formation beside full load, {pace}: over before the run was; more --fill")
        else:
            before, during = statistics.median(alone), statistics.median(beside)
            print(
                f"formation beside full load, {pace}: {before:,.0f} IOPS alone, {during:,.0f} beside it ({during / before:.0%}),"
                f" copied at {statistics.median(speeds) / 2**20:,.0f} MiB/s; medians of {len(beside)} of {options.turns}"
            )
        bench.close()


def row_swap(bench):
    one, two = bench.arrays()
    bench.pair()
    bench.load(one, *RANDOM, "--rate", bench.options.rate)
    bench.until(lambda: one.status()["lag_bytes"] == 0, 60, "drained pair")
    for first, second in ((one, two), (two, one)):
        began = time.monotonic()
        first.tool("pair", "swap", "bench")
        took = time.monotonic() - began
        deadline = time.monotonic() + 10
        while True:
            try:
                probe = bench.load(second, "--read", 0, "--block", "4KiB", "--connections", 1, "--depth", 1, seconds=1)
                if probe["errors"] == 0:
                    break
            except Failed:
                pass
            if time.monotonic() > deadline:
                raise Failed("the new primary takes no writes")
        print(f"swap to {second.name}: the order took {took * 1e3:.0f} ms")
        bench.until(lambda: second.status()["state"] == "PAIR" and second.status()["lag_bytes"] == 0, 30, "drained pair")


ROWS = {
    "write": row_write, "journal": row_journal, "lag": row_lag, "slow": row_slow, "catch-up": row_catch_up,
    "formation": row_formation, "pace": row_pace, "swap": row_swap,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=3, help="of each run of the generator")
    parser.add_argument("--rate", type=int, default=10_000, help="commands a second where it is limited")
    parser.add_argument("--size", default="1GiB", help="of the volumes")
    parser.add_argument("--journal", default="1GiB", help="size of the journals")
    parser.add_argument("--cache", default="256MiB")
    parser.add_argument("--fill", type=int, default=512, help="MiB that are written before a formation copy")
    parser.add_argument("--behind", type=int, default=400, help="MiB that the far array has to catch up")
    parser.add_argument("--depth", type=int, default=32, help="commands at a time in rows 'write' and 'journal' (there four times as many too)")
    parser.add_argument("--turns", type=int, default=3, help="of unpaired and paired in row 'write'")
    parser.add_argument("--pause", type=float, default=1, help="seconds between these")
    parser.add_argument("--span", type=int, default=64 << 20, help="bytes that row 'write' writes to: within what may be dirty")
    parser.add_argument("--far-folder", help="where those of array two lie, if elsewhere")
    parser.add_argument("--folder", help="where volumes and journals lie")
    parser.add_argument("--port", type=int, default=13941)
    parser.add_argument("--binaries", type=pathlib.Path, help="where kagamid, kagami and kagami-bench are; built otherwise")
    options = parser.parse_args()
    for row in options.rows:
        if row not in ROWS:
            parser.error(f"no row '{row}': {', '.join(ROWS)}")
    bench, failed = Bench(options), False
    for _ in range(options.rounds):
        for row in options.rows or ROWS:
            try:
                ROWS[row](bench)
            except (Failed, subprocess.TimeoutExpired) as error:
                print(f"{row}: NOT MEASURED: {error}")
                failed = True
            finally:
                bench.close()
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
