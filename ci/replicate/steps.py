#!/usr/bin/env python3
"""Proves that an array may die at every step of every order to a pair.

    steps.py KAGAMID KAGAMI [--seconds S] [--kills N] [--seed N] [--only ORDER...]

A journal's superblock says what its group durably is, so each new version of it is a step. While an order is carried out under
load, the superblocks of an array's journal are read over and over; at the n-th new one its process gets SIGKILL (or that of
the other array, or both), for n = 0, 1, 2 ... until the order is done before there were so many. It is started again, and the
order is repeated until it says that it is done. Then the primary must hold every write that was answered, in one order of
writes; the secondary must become equal; and what a takeover shows must be a prefix, with all that a marker covers.

Without --kills the steps are drawn at random for so many seconds; with it, all in turn until there were so many kills, or none
are left.
"""

import argparse
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from arrays import MIB, Array, Failed, prove, same, wait  # noqa: E402
from story import LUNS, Story, prefix  # noqa: E402

# Exit codes of an order that may be given again: not yet, or out of reach, or nobody there.
AGAIN = (1, 4, 5)


class Watch(threading.Thread):
    """Kills arrays when the superblock of one of them was written so many times, or after so many seconds."""

    def __init__(self, watched, victims, number, seconds):
        super().__init__(daemon=True)
        self.path, self.victims, self.number, self.seconds = watched.path(20), victims, number, seconds
        self.running, self.struck = True, False
        self.start()

    def newest(self, file, memory):
        os.preadv(file, [memory], 0)
        found = [struct.unpack_from("<Q", memory, at + 72)[0] for at in (0, 4096) if memory[at:at + 8] == b"KAGJRNAL"]
        return max(found, default=0)

    def run(self):
        file, memory = os.open(self.path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 8192)
        begun, last, seen = time.monotonic(), self.newest(file, memory), 0
        while self.running:
            now = self.newest(file, memory)
            # Versions that came and went between two looks count as one.
            seen, last = seen + (now != last), now
            if seen > self.number if self.seconds is None else time.monotonic() - begun > self.seconds:
                for victim in self.victims:
                    victim.process.kill()
                self.struck = True
                break
        os.close(file)
        memory.close()

    def stop(self):
        self.running = False
        self.join(10)


class Steps:
    def __init__(self, site, arguments):
        self.site, self.say, self.draw = site, site.say, random.Random(arguments.seed)
        self.seconds, self.wanted, self.only = arguments.seconds, arguments.kills, arguments.only
        self.primary, self.secondary = site.array("tokyo", size=4 * MIB), site.array("osaka", size=4 * MIB)
        site.link(self.primary, self.secondary)
        for here, there in ((self.primary, self.secondary), (self.secondary, self.primary)):
            here.groups["erp"] = (there.name, 'secondary_access = "read"')
            here.write()
            here.start()
        site.meet()
        self.truth = {lun: bytes(4 * MIB) for lun in LUNS}
        # Order, victim: the next step to die at; absent: not begun, None: done without.
        self.next = {}
        self.kills, self.reached = 0, {}

    # ---- what is looked at

    def look(self, array):
        done = array.kagami("pair", "status", "erp", "--json", codes=())
        return json.loads(done.stdout)["groups"][0] if done.returncode == 0 else {}

    def paired(self, primary, secondary):
        one, other = self.look(primary), self.look(secondary)
        if all(row.get("role") == "primary" and not row["fenced"] and not row["overtaken"] and not row["recovering"]
               and row["state"] in ("COPY", "PAIR") for row in (one, other)):
            raise Failed(f"two primaries: {json.dumps(one)}\n{json.dumps(other)}")
        return (one.get("role"), other.get("role")) == ("primary", "secondary") and all(
            row["state"] == "PAIR" and not row["recovering"] and not row["fenced"] for row in (one, other))

    def both_in(self, state):
        return all(self.look(array).get("state") == state for array in (self.primary, self.secondary))

    def how(self):
        return "\n".join(json.dumps(self.look(array)) for array in self.site.arrays)

    # ---- one order, and a death in it

    def choose(self, order):
        """Who dies, and when: at which step, or after how many seconds. None: nobody."""
        if self.only and order not in self.only:
            return None
        names = ("primary", "secondary", "both")
        if not self.wanted:
            return self.draw.choice(names), self.draw.randrange(8), self.draw.choice((None, None, self.draw.random() / 3))
        left = [(self.next.get((order, name), 0), name) for name in names if self.next.get((order, name), 0) is not None]
        if not left:
            return None
        number, name = min(left, key=lambda one: one[0])
        return name, number, None

    def strike(self, order, story, at, words, done, codes):
        """Gives the order, with a death on its way, until it is done. `at`: arrays to give it to; the first one first."""
        chosen = self.choose(order)
        victims, watch, what = [], None, order
        if chosen:
            name, number, seconds = chosen
            victims = {"primary": [self.primary], "secondary": [self.secondary],
                       "both": [self.primary, self.secondary]}[name]
            watched = self.draw.choice(victims)
            step = f"step {number}" if seconds is None else f"{seconds:.3f} s"
            what = f"{order}, {name} dies at {step} of {watched.name}"
            watch = Watch(watched, victims, number, seconds)
        try:
            self.order(order, what, watch, victims, at, words, done, codes)
        except Failed as failed:
            raise Failed(f"{what}: {failed}\n{self.how()}") from None
        if watch:
            if watch.struck:
                self.kills += len(victims)
                self.reached[order] = max(self.reached.get(order, 0), number + 1 if seconds is None else 0)
            if seconds is None:
                self.next[(order, name)] = number + 1 if watch.struck else None
        story.stop()
        return what

    def order(self, order, what, watch, victims, at, words, done, codes):
        first = words and subprocess.Popen(at[0].command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline, said = time.monotonic() + 60, ""
        try:
            while not (watch and watch.struck):
                if first and first.poll() is not None and first.returncode not in codes:
                    raise Failed(f"exit code {first.returncode}: {first.communicate()[0]}")
                if (not first or first.poll() is not None) and done():
                    break
                if time.monotonic() > deadline:
                    raise Failed("not done within 60 s")
                time.sleep(0.01)
        except Failed:
            # What was asked of an array that died meanwhile proves nothing.
            if not (watch and (watch.stop() or watch.struck)):
                raise
        if watch:
            watch.stop()
            if watch.struck:
                for victim in victims:
                    victim.process.wait()
                time.sleep(self.draw.random() * 0.2)
                for victim in victims:
                    victim.start()
        if first:
            said = first.communicate(timeout=60)[0]
        deadline, turn = time.monotonic() + 90, 0
        while not done():
            if words:
                left = [array for array in at if self.has(array)] if order == "delete" else at
                if not left:
                    break
                again = left[turn % len(left)].kagami(*words, codes=())
                turn += 1
                said = f"exit code {again.returncode}: {again.stdout}{again.stderr}"
                if again.returncode not in (*codes, 12, *AGAIN):
                    # It may have been done between the two questions.
                    if done():
                        break
                    raise Failed(f"given again: {said}")
            soon = time.monotonic() + 3
            while time.monotonic() < soon and not done():
                time.sleep(0.02)
            if time.monotonic() > deadline:
                raise Failed(f"not done within 90 s after the death; it said last: {said}")

    # ---- what must hold

    def hold(self, what, story, least=None):
        """The primary holds what it has answered; that is the truth from now on. The secondary becomes equal."""
        found = {lun: self.primary.read(lun) for lun in LUNS}
        prefix(what, self.truth, story.writes, found, story.answered if least is None else least)
        self.truth = found

    def equal(self, what):
        name, last = f"m{time.monotonic_ns()}", None

        def arrived():
            nonlocal last
            last = self.primary.kagami("marker", "erp", name, "--wait", codes=())
            return last.returncode in (0, 12)
        try:
            wait(f"{what}: a marker arrives", 30, arrived)
        except Failed as failed:
            raise Failed(f"{failed}: {last.stdout}{last.stderr}\n{self.how()}") from None
        same(what, self.primary, self.secondary, LUNS, read=Array.read)

    def exchange(self):
        self.primary, self.secondary = self.secondary, self.primary

    def settled(self):
        return self.paired(self.primary, self.secondary)

    # ---- the orders

    def create(self):
        names = [word for lun in LUNS for word in ("--primary", f"{self.primary.name}:{lun}",
                                                   "--secondary", f"{self.secondary.name}:{lun}")]
        at = [self.primary, self.secondary]
        self.draw.shuffle(at)
        story = Story(self.primary, self.draw.random())
        what = self.strike("create", story, at[:1], ("pair", "create", "--group", "erp", *names), self.settled, (0,))
        self.hold(what, story)
        self.equal(what)

    def split(self):
        story = Story(self.primary, self.draw.random())
        what = self.strike("split", story, [self.primary], ("pair", "split", "erp"), lambda: self.both_in("PSUS") or
                           (self.both_in("PSUE")), (0, 4))
        self.hold(what, story)

    def resync(self):
        story = Story(self.primary, self.draw.random())
        time.sleep(0.1)
        what = self.strike("resync", story, [self.primary], ("pair", "resync", "erp"), self.settled, (0,))
        self.hold(what, story)
        self.equal(what)

    def swap(self, order="swap", at_secondary=False):
        story = Story(self.primary, self.draw.random())
        time.sleep(0.05)
        at = self.secondary if at_secondary else self.primary
        primary, secondary = self.primary, self.secondary
        what = self.strike(order, story, [at], ("pair", "swap", "erp"), lambda: self.paired(secondary, primary), (10,))
        self.exchange()
        self.hold(what, story)
        self.equal(what)

    def swap_there(self):
        self.swap("swap-there", True)

    def discard(self):
        self.primary.kagami("pair", "split", "erp", "--writable")
        lost, story = Story(self.secondary, self.draw.random()), Story(self.primary, self.draw.random())
        time.sleep(0.1)
        lost.stop()
        if lost.trouble:
            raise Failed(f"the secondary took no writes: {lost.trouble}")
        what = self.strike("discard", story, [self.primary],
                           ("pair", "resync", "erp", "--discard", self.secondary.name), self.settled, (0,))
        self.hold(what, story)
        self.equal(what)

    def takeover(self):
        story = Story(self.primary, self.draw.random(), fua=False)
        time.sleep(0.1)
        least = story.answered
        self.primary.kagami("marker", "erp", f"t{time.monotonic_ns()}", "--wait")
        self.site.cut("down")
        what = self.strike("takeover", story, [self.secondary], ("pair", "takeover", "erp"),
                           lambda: self.look(self.secondary).get("state") == "SSWS", (11,))
        self.exchange()
        self.hold(what, story, least)
        self.site.cut("up")
        # The old primary finds out by itself; both are written until then.
        story = Story(self.primary, self.draw.random())
        what = self.strike("overtaken", story, [], (), lambda: self.look(self.secondary).get("overtaken"), ())
        late = Story(self.secondary, 1)
        wait("the old primary refuses writes", 20, lambda: late.trouble or late.answered)
        late.stop()
        if late.answered:
            raise Failed(f"{what}: the old primary takes writes\n{self.how()}")
        self.hold(what, story)
        story = Story(self.primary, self.draw.random())
        what = self.strike("failback", story, [self.primary],
                           ("pair", "resync", "erp", "--discard", self.secondary.name), self.settled, (0,))
        self.hold(what, story)
        self.equal(what)

    def delete(self):
        story = Story(self.primary, self.draw.random())
        what = self.strike("delete", story, [self.primary, self.secondary], ("pair", "delete", "erp"),
                           lambda: not any(self.has(array) for array in self.site.arrays), (0,))
        self.hold(what, story)

    def has(self, array):
        done = array.kagami("pair", "status", "--json", codes=())
        return done.returncode != 0 or json.loads(done.stdout)["groups"] != []

    def run(self):
        rounds = 0
        while True:
            for order in (self.create, self.split, self.resync, self.swap, self.swap_there, self.discard, self.takeover,
                          self.delete):
                order()
            rounds += 1
            # The other way next time.
            self.exchange()
            self.truth = {lun: self.primary.read(lun) for lun in LUNS}
            self.say(f"{rounds} rounds, {self.kills} kills; steps: {self.reached}")
            if self.wanted:
                if self.kills >= self.wanted or self.next and all(step is None for step in self.next.values()):
                    break
            elif time.monotonic() - self.site.begun > self.seconds:
                break
        if not self.kills:
            raise Failed("nobody died")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", nargs=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--only", nargs="*", default=())
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    prove("steps", lambda site: Steps(site, arguments).run())


if __name__ == "__main__":
    main()
