#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: corpus/TARGET/NAME, small inputs that mean something.

    tools/fuzz/seeds.py        after a change here; what it writes is checked in

Files that a fuzzer found (see README.md) may lie beside these; this script leaves them alone.
"""

import hashlib
import re
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESERVED = 0xFFFFFFFF


def save(target, name, data):
    path = HERE / "corpus" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


# ---- iSCSI PDUs (RFC 7143 11) -------------------------------------------------------------------


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def pdu(opcode, flags, words, data=b"", ahs=b"", lun=b"\0" * 8, byte2=0, digests=0):
    """A PDU. `words` are the four-byte fields from byte 16 on, the last perhaps bytes."""
    header = struct.pack(">BBBBB", opcode, flags, byte2, 0, len(ahs) // 4) + len(data).to_bytes(3, "big") + lun
    for word in words:
        header += word if isinstance(word, bytes) else struct.pack(">I", word)
    header = header.ljust(48, b"\0") + ahs
    if digests & 1:
        header += crc32c(header)
    if data:
        data += b"\0" * (-len(data) % 4)
        if digests & 2:
            data += crc32c(data)
    return header + data


def text(*pairs):
    return b"".join(pair.encode() + b"\0" for pair in pairs)


ISID = bytes([0x00, 0x02, 0x3D, 0, 0, 1])
IQN = "iqn.2026-11.io.kagami:"
CLEAR, SECRET = "iqn.a:t", f"{IQN}s"  # the fuzz target's policy: a target with an `s` in its name needs CHAP
OPERATIONAL = (
    "HeaderDigest=CRC32C,None", "DataDigest=None", "ErrorRecoveryLevel=0", "InitialR2T=No", "ImmediateData=Yes",
    "MaxBurstLength=262144", "FirstBurstLength=65536", "MaxOutstandingR2T=1", "MaxConnections=1", "DefaultTime2Wait=2",
    "DefaultTime2Retain=0", "MaxRecvDataSegmentLength=262144", "DataPDUInOrder=Yes", "DataSequenceInOrder=Yes",
)


def login(flags, *pairs, cmd_sn=1, stat_sn=0, cid=0, tsih=0, **more):
    first = ISID + struct.pack(">H", tsih)
    return pdu(0x43, flags, [1, cid << 16, cmd_sn, stat_sn], text(*pairs), lun=first, **more)


def names(target, kind="Normal"):
    pairs = [f"InitiatorName={IQN}host", f"SessionType={kind}"]
    return pairs + [f"TargetName={target}"] * (kind == "Normal")


def text_request(data, flags=0x80, ttt=RESERVED, opcode=0x04, **more):
    return pdu(opcode, flags, [2, ttt, 1, 2], data, **more)


def chap_response(algorithm):
    """What answers the challenge that the fuzz target's random numbers (all 0x5a) make."""
    hashing = {5: hashlib.md5, 7: hashlib.sha256}[algorithm]
    return "0x" + hashing(b"\x5a" + b"initiator secret" + b"\x5a" * 32).hexdigest()


def chap(algorithm, response, *more):
    return b"".join([
        login(0x00, *names(SECRET), "AuthMethod=CHAP,None"),
        login(0x00, f"CHAP_A={algorithm}", stat_sn=2),
        login(0x81, "CHAP_N=user", f"CHAP_R={response}", *more, stat_sn=3),
        login(0x87, *OPERATIONAL, stat_sn=4),
    ])


def target_logins():
    yield "operational-only", login(0x87, *names(CLEAR), *OPERATIONAL)
    yield "two-stages", (
        login(0x81, *names(CLEAR), "AuthMethod=CHAP,None") + login(0x87, *OPERATIONAL, stat_sn=2)
    )
    yield "no-transit-first", (
        login(0x04, *names(CLEAR), *OPERATIONAL) + login(0x04, "X-com.example.key=1") + login(0x87)
    )
    yield "discovery", (
        login(0x81, *names("", "Discovery"), "AuthMethod=None")
        + login(0x87, *OPERATIONAL, stat_sn=2)
        + text_request(text("SendTargets=All"))
    )
    yield "discovery-by-name", (
        login(0x87, *names("", "Discovery")) + text_request(text(f"SendTargets={CLEAR}"), opcode=0x44)
    )
    yield "text-in-pieces", (
        login(0x87, *names(CLEAR))
        + text_request(b"SendTar", flags=0x40)
        + text_request(b"gets=\0", ttt=1)
        + text_request(b"MaxRecvDataSegmentLength=8192\0", ttt=1)
    )
    whole = text(*names(CLEAR), *OPERATIONAL)
    yield "login-in-pieces", (
        pdu(0x43, 0x44, [1, 0, 1, 0], whole[:100], lun=ISID + b"\0\0")
        + pdu(0x43, 0x44, [1, 0, 1, 2], whole[100:200], lun=ISID + b"\0\0")
        + pdu(0x43, 0x87, [1, 0, 1, 3], whole[200:], lun=ISID + b"\0\0")
    )
    for algorithm in (5, 7):
        yield f"chap-{algorithm}", chap(algorithm, chap_response(algorithm))
    yield "chap-mutual", chap(7, chap_response(7), "CHAP_I=9", "CHAP_C=0x" + "a5" * 16)
    yield "chap-mutual-base64", chap(5, chap_response(5), "CHAP_I=255", "CHAP_C=0bAAECAwQFBgc=")
    yield "chap-reflected", chap(5, chap_response(5), "CHAP_I=90", "CHAP_C=0x" + "5a" * 32)
    yield "chap-wrong", chap(5, "0x" + "00" * 16)
    yield "chap-skipped", login(0x00, *names(SECRET), "AuthMethod=CHAP") + login(0x87, *OPERATIONAL)
    yield "joins", login(0x87, *names(CLEAR), "MaxConnections=4", cid=1, tsih=1)
    yield "version-2", login(0x87, *names(CLEAR), byte2=2)
    yield "no-names", login(0x87, *OPERATIONAL)
    yield "twice-a-key", login(0x87, *names(CLEAR), "MaxBurstLength=512", "MaxBurstLength=1024")
    yield "digest-unknown", login(0x87, *names(CLEAR), "HeaderDigest=MD5", "DataDigest=CRC32C")
    yield "not-a-login", pdu(0x01, 0xC1, [1, 512, 1, 1, bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])])
    yield "cut-short", login(0x87, *names(CLEAR))[:60]


def login_texts():
    yield "all-keys", text(*names(CLEAR), "InitiatorAlias=host", "AuthMethod=CHAP,None", *OPERATIONAL)
    yield "markers", text(*names(CLEAR), "IFMarker=Yes", "OFMarker=Yes", "IFMarkInt=2048~8192", "OFMarkInt=Reject")
    yield "newer-keys", text(*names(CLEAR), "iSCSIProtocolLevel=2", "TaskReporting=FastAbort,RFC3720")
    yield "rdma-keys", text(*names(CLEAR), "RDMAExtensions=Yes", "TargetRecvDataSegmentLength=8192", "MaxAHSLength=0")
    yield "limits", text("MaxRecvDataSegmentLength=16777215", "FirstBurstLength=512", "MaxConnections=65535")
    yield "beyond-limits", text("MaxRecvDataSegmentLength=16777216", "MaxOutstandingR2T=0", "DefaultTime2Wait=3601")
    yield "hexadecimal", text("MaxBurstLength=0x40000", "FirstBurstLength=0X200", "MaxConnections=0b1")
    yield "answers", text("HeaderDigest=Reject", "DataDigest=Irrelevant", "Unknown=NotUnderstood")
    yield "naa", text("InitiatorName=naa.5000c500a1b2c3d4", "TargetName=eui.0123456789abcdef")
    yield "unicode-name", text("InitiatorName=iqn.2026-11.io.kagami:gerät", f"TargetName={CLEAR}")
    yield "upper-case-name", text("InitiatorName=IQN.2026-11.IO.KAGAMI:HOST", f"TargetName={CLEAR.upper()}")
    yield "no-equals", b"InitiatorName\0"
    yield "empty-key", b"=value\0"
    yield "empty-value", text("InitiatorName=", "TargetName=")
    yield "no-zero-at-the-end", b"InitiatorName=iqn.a:i"
    yield "zeros", b"\0\0\0\0"
    yield "long-key", b"X-" + b"k" * 62 + b"=1\0"
    yield "long-value", b"InitiatorName=iqn.a:" + b"v" * 256 + b"\0"


def streams():
    read = bytes([0x28, 0, 0, 0, 0, 8, 0, 0, 8, 0])
    write = bytes([0x2A, 0, 0, 0, 0, 8, 0, 0, 8, 0])

    def command(flags, length, cdb, data=b"", sn=1, **more):
        return pdu(0x01, flags, [sn, length, sn, 1, cdb], data, **more)

    def data_out(ttt, sn, offset, data, final, **more):
        return pdu(0x05, 0x80 if final else 0, [1, ttt, 0, 1, 0, sn, offset], data, **more)

    for digests in range(4):
        more = {"digests": digests}
        yield f"read-digests-{digests}", bytes([digests | 0x10]) + command(0xC1, 4096, read, **more)
        yield f"immediate-write-digests-{digests}", bytes([digests | 0x10]) + command(
            0xA1, 4096, write, b"w" * 512, **more
        )
    # Half of a write is for solicited bursts, as the fuzz target sets it up: its R2Ts have the tags 0, 1...
    yield "unsolicited", bytes([0x18]) + command(0x21, 4096, write) + b"".join(
        data_out(RESERVED, sn, sn * 512, b"u" * 512, sn == 3) for sn in range(4)
    )
    yield "solicited", bytes([0x1C]) + command(0xA1, 4096, write) + b"".join(
        data_out(0, sn, sn * 1024, b"s" * 1024, sn == 3) for sn in range(4)
    )
    yield "all-three-ways", bytes([0x20]) + command(0x21, 4096, write, b"i" * 512) + data_out(
        RESERVED, 0, 512, b"u" * 512, True
    ) + data_out(0, 0, 1024, b"s" * 1024, False) + data_out(0, 1, 2048, b"s" * 2048, True)
    yield "two-bursts", bytes([0x24]) + command(0xA1, 200_000, write) + data_out(0, 0, 0, b"a" * 4096, False) + data_out(
        1, 0, 131_072, b"b" * 4096, True
    )
    yield "data-out-of-order", bytes([0x1C]) + command(0xA1, 4096, write) + data_out(0, 1, 512, b"x" * 512, True)
    yield "data-too-much", bytes([0x1C]) + command(0xA1, 512, write) + data_out(0, 0, 0, b"x" * 1024, True)
    yield "data-for-nobody", bytes([0x10]) + data_out(7, 0, 0, b"x" * 512, True)
    long_cdb = struct.pack(">HBB", 17, 1, 0) + bytes(16)
    both_ways = struct.pack(">HBBI", 5, 2, 0, 4096)
    yield "long-cdb", b"\x10" + command(0xC1, 0, b"\x7f\0\0\0\0\0\0\x18" + bytes(8), ahs=long_cdb)
    yield "both-ways", b"\x10" + command(0xE1, 4096, b"\x53" + bytes(9), ahs=both_ways)
    yield "nonsense-ahs", b"\x10" + command(0xC1, 0, read, ahs=b"\0\1\0\0" + b"\xff" * 8)
    yield "ping", b"\x10" + pdu(0x40, 0x80, [5, RESERVED, 1, 1], b"ping me")
    yield "pong", b"\x10" + pdu(0x40, 0x80, [RESERVED, 9, 1, 1])
    for function in (1, 2, 5, 6, 8, 14):
        yield f"task-management-{function}", b"\x10" + pdu(0x42, 0x80 | function, [6, 1, 2, 1, 1])
    for reason in range(4):
        yield f"logout-{reason}", b"\x10" + pdu(0x46, 0x80 | reason, [7, 0, 2, 1])
    yield "text", b"\x10" + text_request(text("SendTargets=")) + text_request(text("SendTargets=All"), opcode=0x44)
    yield "snack", b"\x10" + pdu(0x10, 0x81, [1, 0, 0, 1, 0, 0, 4])
    yield "too-long", b"\x10" + command(0xA1, 1 << 24, write, bytes(65_537))[:100]
    yield "unknown-opcode", b"\x10" + pdu(0x1F, 0x80, [1])


def initiator_logins():
    def answer(flags, stat_sn, *pairs, status=0, tsih=0, itt=0):
        return pdu(0x23, flags, [itt, 0, stat_sn, 1, 32, struct.pack(">H", status)], text(*pairs),
                   lun=bytes(6) + struct.pack(">H", tsih))

    def found(data, flags=0x80, ttt=RESERVED):
        return pdu(0x24, flags, [1, ttt, 9, 1, 32], data)

    into = [answer(0x81, 1, "TargetPortalGroupTag=1", "AuthMethod=None"),
            answer(0x87, 2, "HeaderDigest=None", "DataDigest=None", "MaxRecvDataSegmentLength=8192",
                   "DefaultTime2Wait=2", "DefaultTime2Retain=0", "ErrorRecoveryLevel=0", tsih=1)]
    targets = text(f"TargetName={IQN}tokyo", "TargetAddress=127.0.0.1:3260,1", "TargetAddress=[::1]:3260,2",
                   f"TargetName={IQN}osaka", "TargetAddress=osaka.example:3261,1")
    yield "login", b"\0" + b"".join(into)
    yield "discovery", b"\0" + b"".join(into) + found(targets)
    yield "discovery-in-pieces", b"\0" + b"".join(into) + found(targets[:40], 0x40, 3) + found(targets[40:])
    yield "discovery-rejected", b"\0" + b"".join(into) + found(text("SendTargets=Reject"))
    yield "address-of-nobody", b"\0" + b"".join(into) + found(text("TargetAddress=127.0.0.1:3260,1"))
    yield "chap", b"\1" + answer(0x00, 1, "AuthMethod=CHAP") + answer(
        0x00, 2, "CHAP_A=7", "CHAP_I=1", "CHAP_C=0x" + "a5" * 16
    ) + answer(0x81, 3) + answer(0x87, 4, tsih=1)
    yield "chap-md5", b"\1" + answer(0x00, 1, "AuthMethod=CHAP") + answer(
        0x00, 2, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0bAAECAwQFBgc="
    ) + answer(0x81, 3) + answer(0x87, 4, tsih=1)
    yield "chap-declined", b"\1" + answer(0x81, 1, "AuthMethod=None") + into[1]
    yield "asks-for-chap", b"\0" + answer(0x00, 1, "AuthMethod=CHAP")
    yield "in-pieces", b"\0" + answer(0x40, 1, "TargetPortalGroupTag=1") + answer(0x81, 2, "AuthMethod=None")
    for status in (0x0101, 0x0102, 0x0201, 0x0203, 0x0300):
        yield f"status-{status:04x}", b"\0" + answer(0x00, 1, "TargetAddress=127.0.0.1:3261,1", status=status)
    yield "wrong-tag", b"\0" + answer(0x81, 1, itt=5)
    yield "stage-not-asked", b"\0" + answer(0x87, 1)


# ---- CDBs (SPC-5, SBC-4) --------------------------------------------------------------------------

KEY, OTHER = 0x1122334455667788, 0x99AABBCCDDEEFF00


def do(cdb, data=b"", nexus=0, event=0):
    return bytes([event << 3 | nexus]) + bytes(cdb).ljust(16, b"\0") + bytes([len(data)]) + data


def cdb10(opcode, lba, blocks, byte1=0):
    return struct.pack(">BBIBHB", opcode, byte1, lba, 0, blocks, 0)


def cdb16(opcode, lba, blocks, byte1=0):
    return struct.pack(">BBQIBB", opcode, byte1, lba, blocks, 0, 0)


def reserve_out(action, kind=5, key=0, new=0, flags=0, nexus=0, more=b"", event=0):
    length = 24 + len(more)
    cdb = struct.pack(">BBBHIB", 0x5F, action, kind, 0, length, 0)
    return do(cdb, struct.pack(">QQIBBH", key, new, 0, flags, 0, 0) + more, nexus, event)


def reserve_in(action, nexus=0):
    return do(struct.pack(">BBxxxxxHB", 0x5E, action, 255, 0), nexus=nexus)


def cdbs():
    ready = do([0x00]) + do([0x00], nexus=1)
    yield "ready", ready
    yield "inquiry", do([0x12, 0, 0, 0, 255]) + b"".join(
        do([0x12, 1, page, 0, 255]) for page in (0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2, 0xC0)
    )
    yield "report-luns", do([0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0]) + do([0xA0, 0, 2, 0, 0, 0, 0, 0, 0, 8])
    yield "capacity", ready + do([0x25]) + do([0x9E, 0x10] + [0] * 11 + [32]) + do([0x9E, 0x12] + [0] * 11 + [64])
    yield "supported-opcodes", do([0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 4, 0]) + do(
        [0xA3, 0x0C, 0x83, 0x9E, 0, 0x10, 0, 0, 1, 0]
    ) + do([0xA3, 0x0D, 0x80, 0, 0, 0, 0, 0, 0, 16])
    yield "sense", do([0x03, 1, 0, 0, 252]) + do([0x03, 0, 0, 0, 18]) + do([0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 1, 0])
    yield "reads", ready + do([0x08, 0, 0, 0, 1]) + do(cdb10(0x28, 99_999, 1)) + do(cdb16(0x88, 0, 64, 0x08)) + do(
        struct.pack(">BBIIBB", 0xA8, 0, 8, 8, 0, 0)
    )
    yield "reads-beyond", ready + do(cdb10(0x28, 100_000, 1)) + do(cdb16(0x88, (1 << 64) - 1, 2)) + do(
        cdb16(0x88, 0, (1 << 32) - 1)
    )
    yield "writes", ready + do(cdb10(0x2A, 0, 8, 0x08)) + do(cdb16(0x8A, 99_999, 1)) + do(cdb10(0x2E, 0, 8)) + do(
        cdb10(0x2F, 0, 8, 0x02)
    )
    yield "write-same", ready + do(cdb16(0x93, 0, 1000), b"\0" * 200) + do(cdb16(0x93, 0, 1000, 0x09)) + do(
        cdb10(0x41, 5, 0, 0x08)
    )
    unmap = struct.pack(">HHI", 38, 32, 0) + struct.pack(">QIIQII", 0, 8, 0, 99_999, 1, 0)
    yield "unmap", ready + do([0x42, 0, 0, 0, 0, 0, 0, 0, len(unmap), 0], unmap) + do(
        [0x42, 0, 0, 0, 0, 0, 0, 0, len(unmap), 0], unmap[:-8] + b"\xff" * 8
    ) + do([0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], bytes(8))
    yield "compare-and-write", ready + do(cdb16(0x89, 7, 1)) + do([0x89] + [0] * 12 + [1, 0, 0], b"ab" * 100)
    yield "flush", ready + do(cdb10(0x35, 0, 0)) + do(cdb16(0x91, 1, 5, 0x02)) + do(cdb10(0x34, 0, 8, 2))
    mode = bytes([0, 0, 0, 8]) + struct.pack(">II", 100_000, 512) + bytes([0x08, 0x12, 0x04]) + bytes(17)
    yield "mode-pages", ready + do([0x1A, 0, 0x3F, 0xFF, 255]) + b"".join(
        do([0x5A, 0, control << 6 | 0x3F, 0, 0, 0, 0, 1, 0]) for control in range(4)
    ) + do([0x15, 0x10, 0, 0, len(mode)], mode) + do([0x15, 0x11, 0, 0, len(mode)], mode, nexus=1)
    control = bytes(4) + bytes([0x0A, 0x0A, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0])
    yield "mode-select-10", ready + do(
        [0x55, 0x10, 0, 0, 0, 0, 0, 0, len(control) + 4], bytes(4) + control
    ) + do([0x55, 0x10, 0, 0, 0, 0, 0, 0, 3], bytes(3))
    yield "start-stop", ready + do([0x1B, 0, 0, 0, 1]) + do([0x1B, 0, 0, 0, 0]) + do([0x2F])
    yield "old-reservation", ready + do([0x16]) + do(cdb10(0x2A, 0, 8), nexus=1) + do([0x17], nexus=1) + do([0x17]) + do(
        [0x56]
    ) + do([0x57])
    register = reserve_out(0, new=KEY)
    both = register + reserve_out(0, new=OTHER, nexus=1)
    look = b"".join(reserve_in(action) for action in range(4))
    yield "register", ready + register + look + reserve_out(0, key=KEY)
    for kind in (1, 3, 5, 6, 7, 8):
        yield f"reserve-type-{kind}", ready + both + reserve_out(1, kind, KEY) + do(
            cdb10(0x2A, 0, 8), nexus=1
        ) + do(cdb10(0x28, 0, 8), nexus=2) + look + reserve_out(2, kind, KEY)
    yield "preempt", ready + both + reserve_out(1, 5, KEY) + reserve_out(4, 5, OTHER, KEY, nexus=1) + do([0x00]) + look
    yield "preempt-and-abort", ready + both + reserve_out(1, 7, KEY) + reserve_out(5, 7, OTHER, KEY, nexus=1) + look
    yield "clear", ready + both + reserve_out(3, 0, KEY) + do([0x00], nexus=1) + look
    yield "register-and-ignore", ready + reserve_out(6, new=KEY) + reserve_out(6, new=OTHER, flags=1) + look
    name = b"iqn.b,i,0x000000000000\0"
    transport = b"\x45\0" + struct.pack(">H", (len(name) + 3) // 4 * 4) + name.ljust((len(name) + 3) // 4 * 4, b"\0")
    yield "register-and-move", ready + both + reserve_out(1, 5, KEY) + do(
        struct.pack(">BBBHIB", 0x5F, 7, 0, 0, 24 + len(transport), 0),
        struct.pack(">QQBBHI", KEY, OTHER, 0, 1, 2, len(transport)) + transport,
    ) + look
    spec = struct.pack(">I", len(transport)) + transport
    yield "register-others", ready + reserve_out(0, new=KEY, flags=0x08, more=spec) + look
    yield "kept-over-power-loss", ready + reserve_out(0, new=KEY, flags=1) + reserve_out(1, 5, KEY) + do(
        [0x00], event=9
    ) + do([0x00], event=2) + look
    yield "events", b"".join(do(cdb10(0x28, 60_000, 8), nexus=event % 3, event=event) for event in range(11))
    yield "unknown", do([0xFF] * 16) + do([0x7F, 0, 0, 0, 0, 0, 0, 0x18]) + do([0xA3, 0x1F]) + do([0x28, 0xE0])
    yield "cut-short", do(cdb10(0x28, 0, 8))[:9]


# ---- configurations -------------------------------------------------------------------------------


def configurations():
    contract = (ROOT / "target/daemon/tests/contract.toml").read_text()
    tables = re.sub(r"\s*#.*", "", contract)
    yield "contract", tables
    # All that this version serves of the contract's example.
    served = [table for table in re.split(r"(?m)^(?=\[)", tables)
              if re.match(r"\[array]|\[\[(volume|initiator|operator)]]", table) and "journal" not in table]
    yield "contract-served", "".join(served).replace("0, 10, 30", "0, 10")
    least = '[array]\nname = "a"\ndata = "d"\n'
    volume = '[[volume]]\nlun = 0\nname = "v"\nbackend = "ram"\nsize = "1MiB"\n'
    yield "least", least
    yield "one-volume", least + volume
    yield "all-array-keys", least + "\n".join([
        'auth = "chap"', 'congestion = "system"', 'header_digest = "crc32c"', 'data_digest = ["none", "crc32c"]',
        'nop_interval = "0s"', 'nop_timeout = "500ms"', 'login_timeout = "1m"', 'io_timeout = "1h"', 'stop_timeout = "3s"',
        "max_sessions = 8", "max_connections = 16", "connections_per_session = 2", "queue_depth = 32", "tasks = 256",
        "max_volumes = 16", "huge_pages = false", 'first_burst = "64KiB"', 'max_burst = "128KiB"', 'idle = "spin"', "",
    ])
    yield "all-volume-keys", least + volume.replace('backend = "ram"', 'path = "v.img"') + "\n".join([
        "block_size = 4096", 'cache = "none"', "read_only = true", "thin = false", "queue_depth = 8", "device_depth = 4",
        'io_timeout = "2s"', "",
    ])
    yield "portals", least + '[[portal]]\naddress = "[::1]:3260"\nrole = "peer"\n' \
        '[[portal]]\naddress = "0.0.0.0:3260"\nauth = "none"\nrole = "host"\n'
    chap = 'chap = { user = "u", secret_file = "s", mutual = { user = "t", secret_file = "m" } }\n'
    yield "chap", least + volume + '[[initiator]]\niqn = "iqn.2026-11.io.kagami:h"\nluns = [0]\n' + chap
    yield "inline", 'array = { name = "a", data = "d" }\nvolume = [{ lun = 1, name = "n", backend = "null", size = "1TiB" }]\n'
    yield "unknown-key", least + "colour = 1\n"
    yield "lun-twice", least + volume + volume.replace('"v"', '"w"')
    yield "lun-out-of-range", least + volume.replace("lun = 0", "lun = 9223372036854775807")
    yield "sizes", least + "".join(
        volume.replace("lun = 0", f"lun = {lun}").replace('"v"', f'"v{lun}"').replace('"1MiB"', f'"{size}"')
        for lun, size in enumerate(["0", "512B", "1000B", "16777216TiB", "1GB", "-1MiB", "1.5GiB", "9" * 30 + "KiB"])
    )
    yield "open-without-chap", least + 'listen = ["0.0.0.0:3260"]\n'
    yield "wrong-types", '[array]\nname = 1\ndata = ["d"]\ncores = "0"\n'
    yield "cores", least + "cores = [0, 0, -1, 4294967296]\n"
    yield "empty", ""
    yield "syntax", "[array\n"
    yield "string-open", '[array]\nname = "a\n'
    yield "unicode", '[array]\nname = "東京"\ndata = "\\u65e5\\u672c"\n"é" = 1\n'
    yield "dates-and-floats", least + "cache = 1979-05-27\nidle = nan\ntasks = 0x10\n"
    yield "deep", least + "x = " + "[" * 60 + "]" * 60 + "\n"
    yield "both-path-and-backend", least + volume + 'path = "/x"\n'
    yield "command-small", least + '[[volume]]\nlun = 1\nname = "o"\nrole = "command"\nsize = "1MiB"\n'


# ---- Orders of command devices (docs/formats.md) -------------------------------------------------


def records():
    def request(order, parameters, generation=7, flags=1, operator=b"", target=b"\xaa" * 16):
        body = b"".join(struct.pack("<HH", tag, len(value)) + value for tag, value in parameters)
        header = struct.pack("<8sHHIQQQHHB3x16s16s16sQQ16s64s32s32x", b"KAGORDER", 1, 256, 260 + len(body), 0, 0, 0,
                             order, flags, 0, target, b"\x11" * 16, b"\x22" * 16, generation, 0, bytes(16), operator,
                             bytes(32))
        return header + body + crc32c(header + body)

    result = struct.pack("<8sHHIQQQ16s16sHHHHQQQI4x32s16x", b"KAGRESLT", 1, 160, 168, 0, 0, 0, b"\x11" * 16,
                         b"\xaa" * 16, 3, 11, 1, 2, 8, 5, 1, 2, bytes(32)) + b"noab"
    size = struct.pack("<Q", 1 << 30)
    return {
        "volumes": request(2, [], generation=2**64 - 1),
        "resize": request(17, [(2, b"db"), (4, size)]),
        "create": request(16, [(1, b"v"), (4, size), (5, b"fast"), (6, b"\0\x10\0\0"), (8, b"iqn.a"), (10, b"")]),
        "continue": request(6, [(11, b"\x33" * 16), (12, size)]),
        "signed": request(3, [], flags=3, operator=b"ops"),
        "result": result + crc32c(result),
        "steps": bytes([0, 0, 0, 1, 4, 0, 0, 64, 7, 0, 0, 0, 4, 8, 0, 128, 6, 0, 0, 70, 1, 0, 0, 1, 3, 0, 0, 1] * 4),
    }


# ---- Journals (docs/formats.md) ------------------------------------------------------------------


def journals():
    group = (0x6B6167616D69).to_bytes(16, "big")

    def entry(sequence, kind, flags, shift, lba, blocks, data, at):
        crc = struct.unpack("<I", crc32c(data))[0]
        return struct.pack("<QQQQIIIBBBB16x", sequence, 5, lba, blocks, at, len(data), crc, kind, flags, 0, shift)

    def frame(kind, place, previous, first, entries, data, length=0, epoch=2, parent=1):
        header = (128 + 64 * len(entries) + 4095) // 4096 * 4096
        rest = b"".join(entries).ljust(header - 128, b"\0")
        length = length or header + (len(data) + 4095) // 4096 * 4096
        crc = struct.unpack("<I", crc32c(rest))[0]
        head = struct.pack("<4sHH16sQQQQIIQIIQQI24x", b"KAGF", 1, kind, group, epoch, parent, place, previous, length,
                           header, first, len(entries), crc, place, 7, 0)
        return (head + crc32c(head) + rest + data).ljust(length, b"\0")

    opening = frame(2, 0, 0, 1, [], b"")
    block, sector = bytes(range(256)) * 16, b"s" * 512
    entries = [
        entry(1, 1, 0, 12, 7, 1, block, 4096), entry(2, 3, 1, 9, 0, 4096, b"", 0),
        entry(3, 1, 0, 9, 1, 1, sector, 8192), entry(4, 4, 0, 0, 0, 0, b"marker", 8704),
    ]
    writes = frame(1, 4096, 0, 1, entries, block + sector + b"marker")
    padding = frame(3, 4096, 0, 1, [], b"", length=(256 << 10) - 4096)
    later = frame(2, 16384, 4096, 5, [], b"", epoch=3, parent=2)
    areas = [2, 16 << 20, 8192, 16384, 8192, 24576, 8192, 32768, 1 << 20]
    words = areas + [2, 2, 2, 2, 4, 8192, 4096, 4096, 0, 4096] + [0] * 7
    block = struct.pack("<8sIIQQQ16s16s26QII", b"KAGJRNAL", 1, 4096, 0, 0, 0, bytes(16), group, *words, 1, 6)
    block = (block.ljust(2040, b"\0") + b"record").ljust(4092, b"\0")
    bits = struct.pack("<8s16sQQQB11x", b"KAGDIFFB", group, 1, 1, 0, 0)
    bits += crc32c(bits + b"\x81".ljust(4032, b"\0")) + b"\x81".ljust(4032, b"\0")
    index = struct.pack("<8s16sQI24x", b"KAGINDEX", group, 3, 1)
    records = struct.pack("<QQQQ", 8192, 2, 4, 5).ljust(4032, b"\0")
    index += crc32c(index + records) + records
    return {
        "frames": opening + writes + later, "padding": opening + padding[:4096], "torn": opening + writes[:8192],
        "superblock": block + crc32c(block), "bitmap": bits, "index": index,
    }


# ---- The admin socket (docs/formats.md) ---------------------------------------------------------


def admins():
    requests = {
        "arrays": '"arrays"',
        "create": '{"volume_create":{"name":"db","lun":3,"place":{"path":"/dev/sdb"},"size_bytes":1073741824}}',
        "remove": '{"volume_remove":{"volume":"tokyo:3","force":true}}',
        "chap": '{"initiator_add":{"iqn":"iqn.x","luns":[0,7],"chap":{"user":"u","secret_file":"/s","mutual":'
        '{"user":"m","secret_file":"/t"}}}}',
        "events": '{"events":{"after":7,"wait_ms":1000}}',
        "unknown": '{"fly":{}}',
    }
    for name, request in requests.items():
        body = f'{{"schema":1,"request":{request}}}'.encode()
        yield name, body
        yield f"framed-{name}", b"KADM" + struct.pack("<HHI", 1, 0, len(body)) + body
    yield "answer", '{"schema":1,"outcome":{"refused":{"code":3,"reason":"in use"}}}'


def main():
    corpora = {
        "pdu_stream": streams(), "target_login": target_logins(), "login_text": login_texts(),
        "initiator_login": initiator_logins(), "cdb": cdbs(), "admin": admins(),
        "record": records().items(), "journal": journals().items(),
    }
    for target, seeds in corpora.items():
        for name, data in seeds:
            save(target, name, data)
    for name, data in configurations():
        save("config", f"{name}.toml", data)


main()
