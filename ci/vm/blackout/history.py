"""What hosts wrote, when it was answered, and what may be on an image of it. Imported by load.py and check.py.

Several hosts write at a time, each one write after another, and each to blocks of its own; so every block's content has one
order, and a host's writes have one. Between hosts, a write that began after another was answered comes later. An image is *in
order* if there is a moment up to which it has every write and after which none, in this sense, and no write by halves.
"""

import dataclasses
import pickle

BLOCK = 4096
# Blocks that are written together lie in one of these groups, which a host has to itself.
GROUP = 8
HOSTS = 3
LUNS = (0, 1)


class Wrong(Exception):
    pass


@dataclasses.dataclass
class Write:
    host: int
    # From one on, of this host.
    index: int
    lun: int
    at: int
    count: int
    fua: bool
    begun: float
    answered: float | None = None

    def data(self):
        return b"".join(stamp(self.host, self.index, self.lun, self.at + number) for number in range(self.count))


@dataclasses.dataclass
class Flush:
    lun: int
    begun: float
    answered: float


def stamp(host, index, lun, at):
    return f"{host}:{index}:{lun}:{at};".encode().ljust(64, b".") * (BLOCK // 64)


def read_stamp(block):
    """(host, index, lun, place) of a block that hosts wrote, whole; None of any other."""
    head = bytes(block[:64])
    try:
        found = tuple(int(number) for number in head[:head.index(b";")].split(b":"))
    except ValueError:
        return None
    return found if len(found) == 4 and bytes(block) == stamp(*found) else None


class History:
    def __init__(self):
        self.writes = [[] for _ in range(HOSTS)]
        self.flushes = []
        # (when it was known, up to when all that was answered is at the secondary)
        self.arrived = []
        # Name: (before it was asked for, after it was done)
        self.marks = {}

    def save(self, path):
        path.write_bytes(pickle.dumps(self))

    @staticmethod
    def load(path):
        history = pickle.loads(path.read_bytes())
        history.versions = {}
        for writes in history.writes:
            for write in writes:
                for at in range(write.at, write.at + write.count):
                    history.versions.setdefault((write.lun, at), []).append(write)
        return history

    def stable(self, moment):
        """For each host the writes that must survive the loss of power at that moment: with FUA, or flushed since."""
        flushed = {lun: [flush for flush in self.flushes if flush.lun == lun and flush.answered < moment] for lun in LUNS}
        last = {lun: max((flush.begun for flush in flushes), default=0.0) for lun, flushes in flushed.items()}
        return [[write for write in writes if write.answered and write.answered < moment
                 and (write.fua or write.answered < last[write.lun])] for writes in self.writes]

    def at_secondary(self, moment):
        """For each host the writes that the secondary was said to have before that moment."""
        until = max((until for known, until in self.arrived if known < moment), default=0.0)
        return [[write for write in writes if write.answered and write.answered < until] for writes in self.writes]

    def check(self, what, images, required, until, ordered):
        """Raises `Wrong` unless the images hold what is required, nothing begun after `until`, and no block by halves; and,
        if they have to be, are in order."""
        low = [max((write.index for write in writes), default=0) for writes in required]
        high = [sum(write.begun < until for write in writes) for writes in self.writes]
        why = [["what is required", "what was sent"] for _ in self.writes]
        wanted = {}
        for writes in required:
            for write in writes:
                for at in range(write.at, write.at + write.count):
                    wanted[(write.lun, at)] = write.index
        for lun in LUNS:
            image = memoryview(images[lun])
            for at in range(len(image) // BLOCK):
                block, place = image[at * BLOCK:(at + 1) * BLOCK], f"LUN {lun} block {at}"
                versions = self.versions.get((lun, at), [])
                found = 0
                if any(block):
                    which = read_stamp(block)
                    if not which or which[2:] != (lun, at) or not any(
                            (write.host, write.index) == which[:2] and write.begun < until for write in versions):
                        raise Wrong(f"{what}: {place} holds {bytes(block[:32])!r}, which was not written by then")
                    found = which[1]
                if not versions:
                    continue
                host = versions[0].host
                if not ordered:
                    if found < wanted.get((lun, at), 0):
                        raise Wrong(f"{what}: {place} holds write {found} of host {host}, not {wanted[(lun, at)]}, "
                                    "which was flushed")
                    continue
                if found > low[host]:
                    low[host], why[host][0] = found, place
                after = min((write.index for write in versions if write.index > found), default=None)
                if after is not None and after <= high[host]:
                    high[host], why[host][1] = after - 1, place
        if ordered:
            self.order(what, low, high, why)
        return low

    def order(self, what, low, high, why):
        """Whoever has a write has all that was answered before it began."""
        again = True
        while again:
            again = False
            for one, writes in enumerate(self.writes):
                if not low[one]:
                    continue
                begun = writes[low[one] - 1].begun
                for other, others in enumerate(self.writes):
                    before = sum(write.answered is not None and write.answered < begun for write in others)
                    if before > low[other]:
                        low[other], why[other][0], again = before, f"before write {low[one]} of host {one}", True
        for host, (least, most) in enumerate(zip(low, high)):
            if least > most:
                raise Wrong(f"{what}: not in order: of host {host} at least {least} writes ({why[host][0]}), at most "
                            f"{most} ({why[host][1]})")
