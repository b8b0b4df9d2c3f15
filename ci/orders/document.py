#!/usr/bin/env python3
"""Holds the client in Python to the document that it was written from: docs/formats.md, section "Command device".

Its tables must be the document's, and the records that it makes the document's examples, byte by byte.
"""

import re
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent.parent / "tools" / "python"))
import kagami_orders as orders  # noqa: E402

SIZES = {"text": "text", "empty": "flag", "16 bytes": "id", "u16": "<H", "u32": "<I", "u64": "<Q"}


def rows(text, heading):
    """The cells of the first table that begins with that heading."""
    _, _, rest = text.partition(heading + "\n")
    assert rest, f"no table {heading}"
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def same(what, ours, theirs):
    assert ours == theirs, f"{what} differ: {sorted(set(ours.items()) ^ set(theirs.items()))}"


def example(block):
    """The bytes of an example: rows that are left out are zeroes."""
    record = bytearray()
    for line in block.strip("\n").splitlines():
        at, _, data = line.strip().partition("  ")
        record += bytes(int(at) - len(record)) + bytes.fromhex(data)
    return bytes(record)


text = (HERE.parent.parent / "docs" / "formats.md").read_text()
section = text.partition("\n## Command device\n")[2].partition("\n## Metrics")[0]
same("parameters", orders.PARAMETERS,
     {name: (int(tag), SIZES[kind]) for tag, name, kind, _ in rows(section, "| tag | name | value | what |")})
table = list(rows(section, "| number | order | right | effect | parameters | what |"))
same("orders", orders.ORDERS, {row[1]: int(row[0]) for row in table})
assert orders.LOOKS == {int(row[0]) for row in table if row[3] == "looks"}, "effects differ"
same("codes", orders.CODES, {int(code): (word, int(end)) for code, word, end, _ in
                             rows(section, "| code | word | exit code of `kagami` | meaning |")})

key = b"sixteen bytes ok"
common = (17, b"\x11" * 16, b"\x22" * 16, [("volume", "db"), ("size_bytes", 1 << 30)], b"\xaa" * 16, 7)
plain, signed = (example(block) for block in re.findall(r"```\n(.*?)```", section.partition("### An example")[2], re.S))
assert orders.encode(*common) == plain, "the first example differs"
assert orders.encode(*common, operator="ops", key=key, executing=b"\xaa" * 16, expires=1_800_000_000_000) == signed, \
    "the signed example differs"
assert orders.crc32c(b"123456789") == 0xE3069283

# A result: cut anywhere, or with any byte changed, it is none.
head = struct.pack("<8sHHIQQQ16s16sHHHHQQQI4x32s16x", b"KAGRESLT", 1, 160, 170, 0, 0, 0, b"\1" * 16, b"\2" * 16, 3, 0, 1, 2,
                   9, 4, 0, 4, bytes(32)) + b"okdata"
result = head + struct.pack("<I", orders.crc32c(head))
whole = orders.decode(result.ljust(orders.HALF, b"\0"))
assert (whole.message, whole.part, whole.generation, whole.total) == ("ok", b"data", 9, 4)
for at in range(len(result)):
    torn = bytearray(result.ljust(orders.HALF, b"\0"))
    torn[at] ^= 1
    assert orders.decode(torn) is None, f"byte {at}"
print(f"the document and the client agree: {len(table)} orders, {len(orders.CODES)} codes, 2 examples")
