"""The devices under two arrays as they were at a loss of power, out of the logs of dm-log-writes. Imported by check.py.

Each device has a log of its own, in which a write is once a flush *of this device* came after it; and each array has one log
below its three devices, which says in which order all that became stable. The former are replayed to the marks, which were
made in all of them while all devices stood still; the latter to any flush between two marks. The format is the kernel's
(Documentation/admin-guide/device-mapper/log-writes.rst).
"""

import mmap
import struct

from history import BLOCK, read_stamp

MIB = 1 << 20
ARRAYS = ("tokyo", "osaka")
# Device: LUN, and MiB on the array's disk. ci/vm/guest/blackout.sh cuts it like this, in this order.
DEVICES = {"jnl": (20, 16), "db": (0, 4), "log": (1, 4)}
# MiB of each log on the array's disk for logs: first the array's own, then the devices' in that order.
LOG = 768
MAGIC, HEADER = 0x6A7366_7773_6872, struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class Log:
    """A log, and what the device held at the place up to which it was replayed."""

    def __init__(self, file, place, size):
        self.map, self.at = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), place
        magic, _, self.left = struct.unpack_from("<QQQ", self.map, place)
        self.sector, = struct.unpack_from("<I", self.map, place + 24)
        if magic != MAGIC:
            raise ValueError(f"{file.name} has no log at {place}")
        self.at += self.sector
        self.image, self.ahead, self.flushes = bytearray(size), set(), 0

    def step(self):
        """The next entry is replayed: "flush", "mark NAME", or "write"; None at the end."""
        if not self.left:
            return None
        self.left -= 1
        first, sectors, flags, inline = HEADER.unpack_from(self.map, self.at)
        data = self.at + self.sector
        if flags & MARK:
            name = self.map[self.at + HEADER.size:self.at + HEADER.size + inline].decode(errors="replace")
            self.at = data
            return f"mark {name}"
        if flags & DISCARD:
            self.at = data
            return "write"
        self.at = data + sectors * 512
        if flags & FLUSH:
            self.ahead.clear()
        self.write(first * 512, self.map[data:self.at], bool(flags & FUA))
        if flags & (FLUSH | FUA) or not sectors:
            self.flushes += 1
            return "flush"
        return "write"

    def write(self, place, data, fua):
        # A write with FUA is in the log at once, and an older one to the same block, that had ended before, with the next flush.
        for begin in range(0, len(data), BLOCK):
            piece, at = data[begin:begin + BLOCK], place + begin
            if fua:
                self.ahead.add(at)
            elif at in self.ahead and self.older(piece, self.image[at:at + BLOCK]):
                continue
            self.image[at:at + len(piece)] = piece

    @staticmethod
    def older(piece, there):
        new, old = read_stamp(piece), read_stamp(there)
        return bool(new and old and new[0] == old[0] and new[1] < old[1])

    def to_mark(self, name):
        """Replays to that mark; how many flushes there were on the way."""
        before = self.flushes
        while (entry := self.step()) != f"mark {name}":
            if entry is None:
                raise ValueError(f"the log has no mark {name}")
        return self.flushes - before

    def to_flush(self, number):
        """Replays so many more flushes."""
        wanted = self.flushes + number
        while self.flushes < wanted and self.step():
            pass


class Disks:
    """The devices of one array."""

    def __init__(self, folder, array):
        file = open(folder / f"{array}-logs.img", "rb")
        sizes = {name: size * MIB for name, (_, size) in DEVICES.items()}
        self.whole = Log(file, 0, sum(sizes.values()))
        self.logs = {name: Log(file, (number + 1) * LOG * MIB, size) for number, (name, size) in enumerate(sizes.items())}

    def to_mark(self, name):
        for log in self.logs.values():
            log.to_mark(name)
        return {DEVICES[device][0]: bytes(log.image) for device, log in self.logs.items()}

    def cut(self):
        """What the devices hold where the array's log was replayed to."""
        found, begin = {}, 0
        for lun, size in DEVICES.values():
            found[lun] = bytes(self.whole.image[begin:begin + size * MIB])
            begin += size * MIB
        return found
