"""A host whose writes are answered one by one, and what may be on an image of them. Imported by the proofs beside it."""

import random
import struct
import threading
import time

from arrays import BLOCK, Busy, Failed, Problem, SlotTaken

LUNS = (0, 1)


class Story(threading.Thread):
    """One host that writes the volumes in turn, each write after the one before was answered: with FUA, so that an array
    that dies has what it has answered, or without.
    """

    def __init__(self, array, seed, fua=True, pause=0.001):
        super().__init__(daemon=True)
        self.array, self.draw, self.pause, self.flags = array, random.Random(seed), pause, 0x08 if fua else 0
        self.writes, self.answered, self.running, self.trouble = [], 0, True, None
        self.start()

    def run(self):
        try:
            devices = [self.array.device(lun, timeout=20.0) for lun in LUNS]
            while self.running:
                lun = len(self.writes) % len(LUNS)
                at = self.draw.randrange(devices[lun].size // BLOCK)
                data = f"{self.array.name}:{lun}:{at}:{time.time_ns()};".encode().ljust(64, b".") * (BLOCK // 64)
                self.writes.append((lun, at, data))
                blocks = BLOCK // devices[lun].block
                devices[lun].good(struct.pack(">BBQIxx", 0x8A, self.flags, at * blocks, blocks), write=data)
                self.answered += 1
                time.sleep(self.pause)
        except (Problem, Busy, SlotTaken, OSError) as trouble:
            self.trouble = trouble

    def stop(self):
        self.running = False
        self.join(60)
        if self.is_alive():
            raise Failed(f"a write at {self.array.name} is not answered")


def prefix(what, truth, writes, found, least):
    """What was found must be the first so many writes over what was there before, for a number from `least` on."""
    versions = {}
    for number, (lun, at, data) in enumerate(writes, 1):
        old = truth[lun][at * BLOCK:(at + 1) * BLOCK]
        versions.setdefault((lun, at), [(0, old)]).append((number, data))
    low, high = (least, "what was answered"), (len(writes), "what was written")
    for lun in LUNS:
        for at in range(len(truth[lun]) // BLOCK):
            block = found[lun][at * BLOCK:(at + 1) * BLOCK]
            known = versions.get((lun, at)) or [(0, truth[lun][at * BLOCK:(at + 1) * BLOCK])]
            which = [number for number, (_, data) in enumerate(known) if data == block]
            if not which:
                raise Failed(f"{what}: LUN {lun} block {at} holds {block[:32]!r}, which was never there; known: "
                             f"{[(number, data[:32]) for number, data in known]}")
            place = f"LUN {lun} block {at}"
            low = max(low, (known[which[-1]][0], place))
            if which[-1] + 1 < len(known):
                high = min(high, (known[which[-1] + 1][0] - 1, place))
    if low[0] > high[0]:
        raise Failed(f"{what}: not a prefix of {len(writes)} writes: at least {low[0]} ({low[1]}), "
                     f"at most {high[0]} ({high[1]})")
    return high[0]
