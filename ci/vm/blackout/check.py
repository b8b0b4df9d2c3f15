#!/usr/bin/env python3
"""Starts the arrays of load.py as they were at a loss of power, and looks at what their hosts find.

    check.py KAGAMID KAGAMI FOLDER [--seed N] [--marks N] [--flushes N]

FOLDER has the disks with the logs, and what load.py left. At a mark both arrays lose power at once, or one does and never
comes back, or the secondary is taken over and the primary comes back later; at a flush between two marks one array is
looked at by itself. In each case: the primary has all that was answered with FUA or flushed, and in order where it journals;
what a takeover shows is in order, with all that was said to have arrived; and the pair goes on to PAIR with both sides equal.
In the end the same with a device that has forgotten what it had flushed has to fail.
"""

import argparse
import io
import json
import pathlib
import random
import shutil
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "replicate"))
from arrays import BLOCK, Array, Failed, Problem, Site, same, wait  # noqa: E402
from history import LUNS, History, Wrong  # noqa: E402
from logs import ARRAYS, DEVICES, MIB, Disks  # noqa: E402

JOURNAL = 20


class Place(Site):
    """Where two arrays come back."""

    def __init__(self, arguments, images, tables):
        super().__init__(arguments.kagamid, arguments.kagami, "blackout")
        sizes = {device: mib * MIB for device, (_, mib) in DEVICES.items()}
        for name in ARRAYS:
            self.array(name, size=sizes["db"], journal=sizes["jnl"])
        self.link(*self.arrays)
        with tarfile.open(fileobj=io.BytesIO(tables)) as tar:
            tar.extractall(self.work, filter="data")
        for array, other in (self.arrays, self.arrays[::-1]):
            # They were on devices, and are on files now; and the command device's file is a copy.
            array.options = [word for volume in (*DEVICES, "orders") for word in ("--adopt", volume)]
            array.groups["erp"] = (other.name, 'secondary_access = "read"')
            text = array.config().replace('restart_wait = "3s"', 'restart_wait = "500ms"')
            (self.work / f"{array.name}.toml").write_text(text)
            for lun, image in images.get(array.name, {}).items():
                array.path(lun).write_bytes(image)

    def named(self, name):
        return next(array for array in self.arrays if array.name == name)


def look(array):
    done = array.kagami("pair", "status", "erp", "--json", codes=())
    return json.loads(done.stdout)["groups"][0] if done.returncode == 0 else {}


def begun(array):
    """What it durably was: its first word after it has recovered."""
    array.start()
    return wait(f"{array.name} recovers", 60, lambda: (row := look(array)) and not row["recovering"] and row)


def read(array):
    return {lun: array.read(lun) for lun in LUNS}


class Check:
    def __init__(self, arguments):
        self.arguments, self.draw = arguments, random.Random(arguments.seed)
        self.history = History.load(arguments.folder / "history")
        self.tables = (arguments.folder / "tables.tar").read_bytes()
        self.marks = list(self.history.marks)
        self.counts = {}

    def site(self, what, images, run):
        """Arrays with these disks; `run` says what was looked at."""
        site = Place(self.arguments, images, self.tables)
        try:
            found = run(site)
        except (Failed, Wrong, Problem, OSError) as failed:
            site.end()
            if isinstance(failed, Wrong) and what.startswith("control"):
                site.remove()
                raise
            logs = "".join(f"{array.name}: {array.log.read_text()[-400:]}\n" for array in site.arrays if array.log.exists())
            raise Failed(f"{what}: {failed}\nwhat was left is in {site.work}\n{logs}") from None
        site.end()
        site.remove()
        self.counts[found] = self.counts.get(found, 0) + 1

    # ---- what is looked at

    def served(self, what, site, array, moment, until, state):
        """A primary has what was stable; in order, where its journal has had all since before that."""
        images = wait(f"{array.name} serves", 60, lambda: site_read(array))
        self.history.check(f"{what}, {array.name}", images, self.history.stable(moment), until, state == "PAIR")
        return images

    def taken_over(self, what, site, array, moment, until):
        """A takeover of the secondary shows what had arrived, in order."""
        array.kagami("pair", "takeover", "erp", "--dry-run", codes=(0,))
        array.kagami("pair", "takeover", "erp", codes=(11,))
        images = wait(f"{array.name} serves", 60, lambda: site_read(array))
        self.history.check(f"{what}, {array.name} taken over", images, self.history.at_secondary(moment), until, True)
        return images

    def one(self, what, site, array, moment, until):
        """One array alone, as whatever it is."""
        row = begun(array)
        if row["role"] == "primary":
            if row["fenced"] or row["overtaken"]:
                return f"{row['state']} primary, fenced"
            self.served(what, site, array, moment, until, row["state"])
            return f"{row['state']} primary, alone"
        if row["state"] == "COPY":
            array.kagami("pair", "takeover", "erp", codes=(3,))
            return "COPY secondary, not taken over"
        self.taken_over(what, site, array, moment, until)
        return f"{row['state']} secondary, taken over"

    def both(self, what, site, moment, until):
        """Both come back, and go on to PAIR; with an order where they were split."""
        rows = [begun(array) for array in site.arrays]
        states = sorted(f"{row['state']} {row['role']}" for row in rows)
        primaries = [(array, row) for array, row in zip(site.arrays, rows)
                     if row["role"] == "primary" and not row["fenced"] and not row["overtaken"]]
        images = None
        if len(primaries) == 1:
            images = self.served(what, site, primaries[0][0], moment, until, primaries[0][1]["state"])
        primary, secondary = self.settle(site)
        self.equal(what, site, primary, secondary)
        if images is not None and read(primary) != images:
            raise Wrong(f"{what}: the primary changed while nobody wrote")
        return f"both: {', '.join(states)}"

    def settle(self, site):
        def paired():
            rows = [look(array) for array in site.arrays]
            if not all(rows) or any(row["recovering"] for row in rows):
                return None
            primaries = [array for array, row in zip(site.arrays, rows)
                         if row["role"] == "primary" and not row["fenced"] and not row["overtaken"]]
            if len(primaries) == 2:
                raise Failed(f"two primaries: {json.dumps(rows)}")
            fenced = [array for array, row in zip(site.arrays, rows) if row["role"] == "primary" and row["fenced"]]
            if fenced:
                fenced[0].kagami("pair", "swap", "erp", codes=())
            elif primaries and any(row["state"] in ("PSUS", "PSUE") for row in rows):
                primaries[0].kagami("pair", "resync", "erp", codes=())
            elif primaries and all(row["state"] == "PAIR" for row in rows):
                return primaries[0], next(array for array in site.arrays if array is not primaries[0])
            return None
        try:
            return wait("PAIR", 90, paired)
        except Failed as failed:
            raise Failed(f"{failed}: {[look(array) for array in site.arrays]}") from None

    def equal(self, what, site, primary, secondary):
        last = None

        def arrived():
            nonlocal last
            last = primary.kagami("marker", "erp", f"e{time.monotonic_ns()}", "--wait", codes=())
            if last.returncode == 3:
                # Where this machine stood still, the pair is suspended: on with it.
                primary.kagami("pair", "resync", "erp", codes=())
            return last.returncode in (0, 12)
        try:
            wait("a marker arrives", 90, arrived)
        except Failed as failed:
            rows = [look(array) for array in site.arrays]
            raise Failed(f"{failed}: {last.stdout}{last.stderr}{json.dumps(rows)}") from None
        same(what, primary, secondary, LUNS, read=Array.read)

    def failback(self, what, site, moment, until):
        """The secondary is taken over while the primary is away; then that one comes back."""
        array, other = site.arrays
        self.draw.shuffle(site.arrays)
        array, other = site.arrays
        found = self.one(what, site, array, moment, until)
        if not found.endswith("taken over") or found.startswith("COPY"):
            return found
        images = read(array)
        row = begun(other)
        if row["role"] == "primary":
            wait(f"{other.name} knows", 60, lambda: look(other).get("overtaken"))
        wait("resync", 60, lambda: array.kagami("pair", "resync", "erp", "--discard", other.name, codes=()).returncode in (0, 12))
        primary, secondary = self.settle(site)
        self.equal(what, site, primary, secondary)
        if primary is not array or read(primary) != images:
            raise Wrong(f"{what}: the failback changed what was taken over")
        return f"{found}, and back"

    # ---- where power is lost

    def run(self):
        tables = [self.tables, (self.arguments.folder / "tables-end.tar").read_bytes()]
        members = [{member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
                   for tar in (tarfile.open(fileobj=io.BytesIO(data)) for data in tables)]
        if any(members[0].get(name) != members[1].get(name) for name in members[1] if name.endswith("tables.log")):
            raise Failed("the tables changed during the load: their copy is of no use")
        disks = {name: Disks(self.arguments.folder, name) for name in ARRAYS}
        usable = self.marks[:-1]
        at_marks = set(self.draw.sample(usable, min(self.arguments.marks, len(usable))))
        between = {}
        for _ in range(self.arguments.flushes):
            between.setdefault(self.draw.choice(usable), []).append((self.draw.choice(ARRAYS), self.draw.random()))
        controls = Controls(self)
        flushes = 0
        for number, mark in enumerate(usable):
            images = {name: disk.to_mark(mark) for name, disk in disks.items()}
            for disk in disks.values():
                disk.whole.to_mark(mark)
            begun_at, ended_at = self.history.marks[mark]
            if mark in at_marks:
                run = self.draw.choice((self.both, self.failback))
                self.site(f"at {mark}", images, lambda site: run(f"at {mark}", site, begun_at, ended_at))
            controls.look(mark, images)
            flushes += self.between(mark, self.marks[number + 1], sorted(between.get(mark, []), key=lambda cut: cut[1]), disks)
        for what, count in sorted(self.counts.items()):
            print(f"blackout: {count:4} x {what}")
        controls.end()
        print(f"blackout: {len(usable)} marks, {flushes} flushes between them; power lost at {len(at_marks)} marks and "
              f"{self.arguments.flushes} flushes (seed {self.arguments.seed})", flush=True)

    def between(self, mark, after, cuts, disks):
        """At flushes between a mark and the next; how many there are."""
        count = 0
        for name, disk in disks.items():
            log = disk.whole
            at, left, image, seen = log.at, log.left, bytearray(log.image), log.flushes
            ahead = set(log.ahead)
            total = log.to_mark(after)
            count += total
            # Back, to be replayed again.
            log.at, log.left, log.image, log.flushes, log.ahead = at, left, image, seen, ahead
            for number in sorted({int(share * total) + 1 for array, share in cuts if array == name and total}):
                log.to_flush(seen + number - log.flushes)
                what = f"flush {number} of {total} of {name} after {mark}"
                moment, until = self.history.marks[mark][0], self.history.marks[after][1]
                self.site(what, {name: disk.cut()}, lambda site: "flush: " + self.one(
                    what, site, site.named(name), moment, until))
        return count


class Controls:
    """The same with a device that has forgotten what it had flushed since some marks ago: a proof that does not see that
    proves nothing."""

    BACK = 4

    def __init__(self, check):
        self.check, self.past = check, []
        self.noticed = {"journal": None, "volumes": None}
        self.tried = dict.fromkeys(self.noticed, 0)

    def look(self, mark, images):
        self.past.append(images)
        if len(self.past) <= self.BACK:
            return
        old = self.past.pop(0)
        for device, luns in (("journal", (JOURNAL,)), ("volumes", LUNS)):
            if self.noticed[device] or self.tried[device] >= 12:
                continue
            self.tried[device] += 1
            what = f"control at {mark}, {device} forgot"
            forgot = {name: {**images[name], **{lun: old[name][lun] for lun in luns}} for name in ARRAYS}
            moment, until = self.check.history.marks[mark]
            before = dict(self.check.counts)
            try:
                for name in ARRAYS:
                    self.check.site(what, {name: forgot[name]},
                                    lambda site: self.check.one(what, site, site.named(name), moment, until))
            except Wrong as wrong:
                self.noticed[device] = str(wrong)
            self.check.counts = before

    def end(self):
        for device, noticed in self.noticed.items():
            if not noticed:
                raise Failed(f"{self.tried[device]} times the {device} had forgotten what was flushed, and it was not noticed")
            print(f"blackout: noticed, as it has to be: {noticed}")


def site_read(array):
    try:
        return read(array)
    except Problem:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kagamid")
    parser.add_argument("kagami")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--marks", type=int, default=12)
    parser.add_argument("--flushes", type=int, default=16)
    arguments = parser.parse_args()
    try:
        Check(arguments).run()
    except (Failed, Wrong) as failed:
        print(f"blackout: seed {arguments.seed}: {failed}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
