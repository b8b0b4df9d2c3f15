#!/usr/bin/env python3
"""Proves what hosts of a primary see of full journals, full disks and devices that fail: nothing.

    trouble.py KAGAMID KAGAMI [PART...]

A journal that fills because its secondary is gone, with each overflow policy; a secondary whose file system is full; a journal
device that returns errors for a while, at either side. Needs root, for a small ext4 and a loop device. After each, a resync
copies the difference and both sides are equal.
"""

import os
import random
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from arrays import MIB, Array, Failed, Host, Load, prove, same, wait  # noqa: E402

# On a machine with two processors that does much else; a stall would be a time-out's length.
STALL = 2.5
LUNS = (0, 1)


class Pair:
    def __init__(self, site, options="", change=lambda tokyo, osaka: None):
        self.site = site
        self.tokyo, self.osaka = site.array("tokyo"), site.array("osaka")
        site.link(self.tokyo, self.osaka)
        change(self.tokyo, self.osaka)
        for here, there in ((self.tokyo, self.osaka), (self.osaka, self.tokyo)):
            here.groups["erp"] = (there.name, options)
            here.write()
            here.start()
        site.meet()
        self.hosts = [Host(self.tokyo, lun) for lun in LUNS]
        self.tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0",
                          "--primary", "tokyo:1", "--secondary", "osaka:1", "--journal", "tokyo:20",
                          "--secondary-journal", "osaka:20", "--wait")

    def load(self):
        return [Load(host, random.randrange(1 << 20), pause=0.0005) for host in self.hosts]

    def good(self, what, loads, stall=STALL):
        """The hosts wrote all the time, and none of their writes failed or took long."""
        for load in loads:
            load.good()
        longest = max(load.longest for load in loads)
        if longest > stall:
            raise Failed(f"{what}: a write took {longest:.1f} s")
        return f"{sum(load.count for load in loads)} writes went on, the longest took {longest * 1000:.0f} ms"

    def resync(self, what):
        """Back to PAIR by the difference; then both sides are equal."""
        def paired():
            if self.tokyo.status()["state"] == self.osaka.status()["state"] == "PAIR":
                return True
            # What the other side has not said yet is asked for again.
            self.tokyo.kagami("pair", "resync", "erp", codes=())
            return False
        try:
            wait("PAIR after a resync", 60, paired)
        except Failed as failed:
            raise Failed(f"{what}: {failed}\n{self.tokyo.status()}\n{self.osaka.status()}") from None
        self.tokyo.kagami("marker", "erp", f"m{time.monotonic_ns()}", "--wait")
        self.tokyo.kagami("pair", "delete", "erp")
        same(what, self.tokyo, self.osaka, LUNS, read=Array.read)
        for host in self.hosts:
            host.check(what, self.osaka, self.osaka.read(host.lun))

    def end(self):
        for array in (self.tokyo, self.osaka):
            array.end()
            for file in array.work.glob(f"{array.name}*.img"):
                file.unlink()
            (array.work / array.name).rename(array.work / f"{array.name}-{time.monotonic_ns()}")
        self.site.arrays.clear()
        for relay in self.site.relays.values():
            relay.end()
        self.site.relays.clear()


def overflow(site):
    """The journal fills: the group suspends, at one moment, and hosts go on."""
    for policy in ("suspend", "slow:20ms"):
        pair = Pair(site, f'overflow = "{policy}"')
        site.cut("down")
        loads = pair.load()
        begun = time.monotonic()
        state = pair.tokyo.state("PSUE", seconds=60)
        took = time.monotonic() - begun
        time.sleep(0.5)
        said = pair.good(policy, loads)
        if "full" not in (state["last_error"] or ""):
            raise Failed(f"{policy}: it does not say why: {state['last_error']}")
        site.cut("up")
        pair.resync(policy)
        pair.end()
        site.say(f"overflow {policy}: suspended after {took:.1f} s ({state['last_error']}); {said}; resynchronised")


def disk(site):
    """The secondary's file system is full."""
    work = site.work
    small, image = work / "small", work / "small.img"
    with open(image, "wb") as file:
        file.truncate(40 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image], check=True)
    small.mkdir()
    subprocess.run(["mount", "-o", "loop", image, small], check=True)
    try:
        def change(_, osaka):
            name, size, _ = osaka.volumes[0]
            osaka.volumes[0] = (name, size, small / "db.img")
        pair = Pair(site, change=change)
        filler = small / "filler"
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_bsize
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - 2 * MIB)
        loads = pair.load()
        # 2 MiB are soon full; then the secondary has to say so.
        state = pair.osaka.state("PSUE", seconds=60)
        mine = pair.tokyo.state("PSUE", seconds=30)
        time.sleep(0.5)
        said = pair.good("a full disk at the secondary", loads)
        filler.unlink()
        pair.resync("a full disk at the secondary")
        pair.end()
        site.say(f"the secondary's disk was full ({state['last_error']}; {mine['last_error']}); {said}; resynchronised")
    finally:
        for array in site.arrays:
            if array.process:
                array.end(9)
        subprocess.run(["umount", "-l", small], check=False)


class Faulty:
    """A loop device over a disk in memory that fails while a file is there (see ci/badisk.sh)."""

    def __init__(self, work, size):
        self.work, self.trigger, self.processes, self.loop = work, work / "trigger", [], None
        (work / "disk").mkdir(exist_ok=True)
        socket = work / "nbd"
        log = open(work / "nbd.log", "ab")
        self.processes.append(subprocess.Popen(
            ["nbdkit", "--foreground", "--exit-with-parent", "-U", socket, "--filter=error", "memory", str(size),
             "error-rate=100%", f"error-file={self.trigger}"], stdout=log, stderr=log))
        wait("nbdkit starts", 10, socket.exists)
        self.processes.append(subprocess.Popen(["nbdfuse", work / "disk" / "image", "--unix", socket], stdout=log, stderr=log))
        image = work / "disk" / "image"
        wait("nbdfuse starts", 10, lambda: image.exists() and image.stat().st_size == size)
        self.loop = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True,
                                   capture_output=True, text=True).stdout.strip()

    def end(self):
        self.trigger.unlink(missing_ok=True)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], check=False)
        subprocess.run(["umount", "-l", self.work / "disk"], check=False, stderr=subprocess.DEVNULL)
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=20)
        (self.work / "nbd").unlink(missing_ok=True)


def device(site):
    """A journal device fails for two seconds. The primary's holds hosts' writes for as long, as there is nowhere to note what
    differs; the secondary's does not concern them."""
    for side in ("primary", "secondary"):
        faulty = Faulty(site.work, 32 * MIB)
        try:
            def change(tokyo, osaka, side=side, faulty=faulty):
                (tokyo if side == "primary" else osaka).journals[20] = ("jnl", 32 * MIB, faulty.loop)
            pair = Pair(site, change=change)
            loads = pair.load()
            time.sleep(0.5)
            faulty.trigger.touch()
            time.sleep(2)
            faulty.trigger.unlink()
            time.sleep(1)
            said = pair.good(f"errors of the {side}'s journal", loads, STALL + (4 if side == "primary" else 0))
            states = [f"{array.name} {array.status()['state']}: {array.status()['last_error']}" for array in site.arrays]
            pair.resync(f"errors of the {side}'s journal")
            pair.end()
            site.say(f"the {side}'s journal failed for 2 s ({'; '.join(states)}); {said}; resynchronised")
        finally:
            for array in site.arrays:
                if array.process:
                    array.end(9)
            faulty.end()


def run(site):
    for name in sys.argv[3:] or ("overflow", "disk", "device"):
        globals()[name](site)


if __name__ == "__main__":
    prove("trouble", run)
