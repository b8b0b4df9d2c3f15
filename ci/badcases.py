"""The bad input that badinput.py gives to a target, one function a case.

A case returns a word on what it saw, or raises Wrong when the target did not do what the standards ask for (RFC 7143,
SPC-5, SBC-4). Where they leave a choice, a case takes each of the allowed answers: nearly always a Reject, an error
status, or a closed connection. Every case leaves the target usable: `still_serves` is part of each judgement.
"""

import socket
import struct
import time

import initiator as iscsi
from initiator import FINAL, IMMEDIATE, Closed, Connection, Refused, header, text

HOST = "iqn.2026-11.io.kagami:bad"
CASES = []


class Wrong(Exception):
    """The target did something that it must not do."""


class World:
    """Where the target is, and what must be kept over several cases."""

    def __init__(self, port, target, lun, random):
        self.port, self.target, self.lun, self.random = port, target, lun, random
        self.half_open = []

    def connect(self, **options):
        """A TCP connection, nothing said yet."""
        return Connection(self.port, **options)

    def session(self, digests=False, **options):
        """A session in full feature phase whose unit is ready."""
        return self.connect(**options).login(HOST, self.target, digests=digests).ready(self.lun)

    def still_serves(self):
        """A new host can come and read."""
        with self.session() as host:
            status, sense, _ = host.scsi(self.lun, iscsi.read16(0, 1), read=host.capacity(self.lun)[1])
            if status != iscsi.GOOD:
                raise Wrong(f"afterwards a read got {status:#x} {sense}")

    def close(self):
        """Lets go of what is still open."""
        for half in self.half_open:
            half.close()


def case(name):
    """Registers a case; after it the target must still serve."""

    def register(function):
        def run(world):
            what = function(world)
            world.still_serves()
            return what

        CASES.append((name, run))
        return function

    return register


def ending(connection, seconds=10.0):
    """What comes until the target closes: a list of opcodes, ending in 'closed' or 'open'."""
    seen = []
    connection.socket.settimeout(seconds)
    try:
        while len(seen) < 1000:
            head, _ = connection.receive()
            opcode = head[0] & 0x3F
            seen.append(f"login status {head[36]:02x}{head[37]:02x}" if opcode == iscsi.LOGIN_RESPONSE else opcode)
    except Closed:
        seen.append("closed")
    except (TimeoutError, socket.timeout):
        seen.append("open")
    return seen


def must_close(connection, what, seconds=10.0):
    """The connection has to end; anything said before that is fine except success."""
    seen = ending(connection, seconds)
    if seen[-1] != "closed":
        raise Wrong(f"{what}: the connection stayed open ({seen})")
    return str(seen)


def must_refuse_login(connection, what):
    """A login answer with an error, or a Reject, or a closed connection: anything but success or silence."""
    seen = ending(connection, 10.0)
    refused = [one for one in seen if isinstance(one, str) and one.startswith("login status") and one != "login status 0000"]
    if seen[-1] != "closed" and not refused and iscsi.REJECT not in seen:
        raise Wrong(f"{what}: neither refused nor closed ({seen})")
    return str(seen)


def must_reject_or_close(connection, what):
    """After login: a Reject, or the connection is closed."""
    connection.socket.settimeout(10.0)
    try:
        head, _ = connection.receive()
    except Closed:
        return "closed"
    except (TimeoutError, socket.timeout) as silence:
        raise Wrong(f"{what}: no answer, and still open") from silence
    if head[0] & 0x3F in (iscsi.REJECT, iscsi.ASYNC):
        return f"reject, reason {head[2]:#04x}"
    raise Wrong(f"{what}: answered with opcode {head[0] & 0x3F:#x}")


# --- before login ---------------------------------------------------------------------------------------------------


@case("before login: noise")
def noise(world):
    for _ in range(20):
        with world.connect() as bad:
            try:
                bad.send_raw(world.random.randbytes(65536))
                bad.socket.shutdown(socket.SHUT_WR)
            except (Closed, OSError):
                continue
            must_close(bad, "noise")


@case("before login: another protocol")
def another_protocol(world):
    with world.connect() as bad:
        bad.send_raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + b"x" * 200 + b"\r\n\r\n")
        return must_close(bad, "HTTP")


@case("before login: a command, a ping, a text, a logout first")
def command_first(world):
    for opcode in (iscsi.SCSI_COMMAND, iscsi.NOP_OUT | IMMEDIATE, iscsi.TEXT | IMMEDIATE, iscsi.LOGOUT | IMMEDIATE,
                   iscsi.DATA_OUT, iscsi.TASK_MANAGEMENT | IMMEDIATE, iscsi.SNACK, 0x1F, 0x3F, 0x23):
        with world.connect() as bad:
            bad.send(header(opcode, FINAL, itt=1))
            must_refuse_login(bad, f"opcode {opcode:#x} before login")


@case("before login: data segment of 16 MiB announced")
def huge_login_segment(world):
    with world.connect() as bad:
        try:
            bad.send_raw(bad.login_header(FINAL | 0x07, 0xFFFFFF))
            for _ in range(64):
                bad.send_raw(bytes(1 << 18))
        except (Closed, OSError):
            return "closed"
        return must_refuse_login(bad, "16 MiB login")


@case("before login: additional header segment of 1020 bytes")
def huge_ahs(world):
    with world.connect() as bad:
        head = bytearray(bad.login_header(FINAL | 0x07, 0))
        head[4] = 255
        try:
            bad.send_raw(bytes(head) + bytes(1020))
        except Closed:
            return "closed"
        return must_refuse_login(bad, "login with AHS")


@case("login: text without end over many PDUs")
def endless_text(world):
    with world.connect() as bad:
        sent = 0
        try:
            # The C bit says that more text follows (RFC 7143 11.12.2).
            for number in range(2000):
                data = (f"X-endless-{number}=".encode() + b"a" * 8000)[:8000]
                bad.send(bad.login_header(0x40 | 0x04, len(data)), data)
                sent += len(data)
                head, _ = bad.receive()
                if head[0] & 0x3F == iscsi.REJECT or head[36]:
                    return f"refused after {sent >> 10} KiB"
        except Closed:
            return f"closed after {sent >> 10} KiB"
        raise Wrong(f"took {sent >> 20} MiB of login text")


LOGIN = [("InitiatorName", HOST), ("SessionType", "Normal")]


def one_login(world, data, flags=FINAL | 0x04 | 0x03, versions=b"\0\0"):
    """Sends one Login request with this text; gives the connection."""
    bad = world.connect()
    try:
        bad.send(bad.login_header(flags, len(data), versions), data)
    except Closed:
        pass
    return bad


@case("login: text that is no text")
def malformed_text(world):
    good = text(LOGIN + [("TargetName", world.target)])
    spoilt = {
        "no equals sign": good + b"HeaderDigest\0",
        "no name": good + b"=None\0",
        "no terminator": good + b"HeaderDigest=None",
        "a name of 200 bytes": good + b"X" * 200 + b"=1\0",
        "a value of 7000 bytes": good + b"InitiatorAlias=" + b"v" * 7000 + b"\0",
        "bytes that are no characters": good + b"HeaderDigest=\xff\xfe\x80\0",
        "control characters": good + b"Header\x01\x02Digest=None\0",
        "thousand empty strings": good + bytes(1000),
        "thousand keys": good + b"".join(b"X-k%d=1\0" % number for number in range(600)),
    }
    answers = []
    for what, data in spoilt.items():
        with one_login(world, data) as bad:
            seen = ending(bad, 2.0)
            # A target may also overlook some of these and let the host in: then it must have said so.
            if seen == ["open"]:
                raise Wrong(f"{what}: no answer at all")
            answers.append(f"{what}: {seen[0]}")
    return "; ".join(answers)


@case("login: absurd values of known keys")
def absurd_values(world):
    # Declared or negotiated values out of range: Reject as the answer, a refused login, or a close (RFC 7143 6.2).
    absurd = [
        ("MaxRecvDataSegmentLength", "0"), ("MaxRecvDataSegmentLength", "511"), ("MaxRecvDataSegmentLength", "16777216"),
        ("MaxRecvDataSegmentLength", "99999999999999999999999999"), ("MaxRecvDataSegmentLength", "-1"),
        ("MaxRecvDataSegmentLength", "0x"), ("MaxRecvDataSegmentLength", "eight"), ("MaxRecvDataSegmentLength", ""),
        ("MaxBurstLength", "0"), ("MaxBurstLength", "4294967296"), ("FirstBurstLength", "1"),
        ("MaxConnections", "0"), ("MaxConnections", "65536"), ("MaxOutstandingR2T", "0"), ("ErrorRecoveryLevel", "3"),
        ("ImmediateData", "Maybe"), ("InitialR2T", "1"), ("HeaderDigest", "MD5"), ("DefaultTime2Wait", "3601"),
    ]
    for key, value in absurd:
        with one_login(world, text(LOGIN + [("TargetName", world.target), (key, value)])) as bad:
            bad.socket.settimeout(5.0)
            try:
                head, data = bad.receive()
            except Closed:
                continue
            if head[0] & 0x3F == iscsi.REJECT or head[36]:
                continue
            answer = iscsi.untext(data).get(key)
            if answer != "Reject":
                raise Wrong(f"{key}={value} was taken; answer {answer!r}")


@case("login: keys nobody knows")
def unknown_keys(world):
    with one_login(world, text(LOGIN + [("TargetName", world.target), ("X-io.kagami.absurd", "1"), ("Zork", "2")])) as host:
        head, data = host.receive()
        answers = iscsi.untext(data)
        # RFC 7143 6.2: a key that is not understood is answered NotUnderstood, and the login goes on.
        if head[0] & 0x3F != iscsi.LOGIN_RESPONSE or head[36]:
            raise Wrong(f"the login was refused with {head[36]:02x}{head[37]:02x}")
        for key in ("X-io.kagami.absurd", "Zork"):
            if answers.get(key) != "NotUnderstood":
                raise Wrong(f"{key} was answered {answers.get(key)!r}")


@case("login: stages that do not exist or go back")
def bad_stages(world):
    data = text(LOGIN + [("TargetName", world.target)])
    for flags in (FINAL | 0x08 | 0x03, FINAL | 0x0C | 0x03, FINAL | 0x04 | 0x00, FINAL | 0x04 | 0x02, FINAL | 0x04 | 0x01,
                  FINAL | 0x40 | 0x04 | 0x03):
        with one_login(world, data, flags) as bad:
            must_refuse_login(bad, f"stage flags {flags:#x}")


@case("login: what must be refused with a status of its own")
def refused_logins(world):
    named = text(LOGIN + [("TargetName", world.target)])
    wanted = {
        "a target that is not here": (text(LOGIN + [("TargetName", "iqn.2026-11.io.kagami:nowhere")]), b"\0\0", 0x0203),
        "no initiator name": (text([("SessionType", "Normal"), ("TargetName", world.target)]), b"\0\0", 0x0207),
        "no target name": (text(LOGIN), b"\0\0", 0x0207),
        "a version of the future": (named, b"\x05\x05", 0x0205),
        "a session type that is none": (text([("InitiatorName", HOST), ("SessionType", "Odd")]), b"\0\0", 0x0209),
    }
    for what, (data, versions, status) in wanted.items():
        with one_login(world, data, versions=versions) as bad:
            try:
                head, _ = bad.receive()
            except Closed as gone:
                raise Wrong(f"{what}: closed without a status") from gone
            got = head[36] << 8 | head[37]
            # Some statuses are a matter of reading; an initiator error (class 2) it must be.
            if head[0] & 0x3F != iscsi.LOGIN_RESPONSE or got >> 8 != 2 or (status in (0x0203, 0x0205, 0x0207) and got != status):
                raise Wrong(f"{what}: status {got:04x}, not {status:04x}")


@case("login: CHAP out of order and as nonsense")
def chap_nonsense(world):
    start = text(LOGIN + [("TargetName", world.target), ("AuthMethod", "CHAP,None")])
    for second in (
        [("CHAP_N", "x"), ("CHAP_R", "0x00")], [("CHAP_A", "99")], [("CHAP_A", "5"), ("CHAP_R", "0x" + "f" * 4000)],
        [("CHAP_I", "1"), ("CHAP_C", "0x" + "zz" * 8)], [("CHAP_A", ",,,,")], [("CHAP_N", "")],
    ):
        # Security stage, no transition yet: CSG 0.
        with one_login(world, start, flags=0x00) as bad:
            try:
                head, _ = bad.receive()
                if head[36]:
                    continue
                data = text(second)
                bad.send(bad.login_header(0x00, len(data)), data)
            except Closed:
                continue
            if ending(bad, 3.0) == ["open"]:
                raise Wrong(f"{second[0]}: no answer")


@case("login: byte by byte, which is allowed")
def byte_by_byte(world):
    with world.connect() as slow:
        data = text(LOGIN + [("TargetName", world.target)])
        for byte in slow.login_header(FINAL | 0x07, len(data)) + iscsi.padded(data):
            slow.send_raw(bytes([byte]))
            time.sleep(0.001)
        head, _ = slow.receive()
        if head[36]:
            raise Wrong(f"refused with {head[36]:02x}{head[37]:02x}")


@case("login: a second login on a connection that is logged in")
def login_twice(world):
    with world.session() as bad:
        data = text(LOGIN + [("TargetName", world.target)])
        bad.send(bad.login_header(FINAL | 0x07, len(data)), data)
        return must_reject_or_close(bad, "second login")


# --- after login: PDUs ----------------------------------------------------------------------------------------------


@case("opcodes that do not exist, or are the target's")
def unknown_opcodes(world):
    for opcode in (0x07, 0x0B, 0x11, 0x1B, 0x1F, 0x20, 0x21, 0x25, 0x31, 0x3F):
        with world.session() as bad:
            bad.send(header(opcode | IMMEDIATE, FINAL, itt=0x77, rest=struct.pack(">III", 0, bad.cmd_sn, bad.exp_stat_sn) + bytes(16)))
            must_reject_or_close(bad, f"opcode {opcode:#x}")


@case("a data segment longer than the target takes")
def oversized_segment(world):
    with world.session() as bad:
        try:
            bad.send_raw(bad.command_header(world.lun, iscsi.write16(0, 1), write=512, immediate=0xFFFFFF))
            for _ in range(70):
                bad.send_raw(bytes(1 << 18))
        except (Closed, OSError):
            return "closed"
        return must_reject_or_close(bad, "16 MiB of immediate data")


@case("additional header segments that lie about their length")
def lying_ahs(world):
    for ahs in (b"\xff\xff\x01\x00" + bytes(4), b"\x00\x00\x00\x00", b"\x00\x05\x02\x00" + bytes(4), b"\x01\x00\x01" + bytes(5)):
        with world.session() as bad:
            head = bytearray(bad.command_header(world.lun, bytes(6)))
            head[4] = len(ahs) // 4
            bad.send_raw(bytes(head) + ahs)
            seen = ending(bad, 2.0)
            if seen == ["open"]:
                raise Wrong("no answer to a command with a malformed AHS")


@case("Data-Out that nobody asked for")
def stray_data(world):
    for tag, transfer in ((0x55, 0x66), (0x55, iscsi.NO_TAG), (iscsi.NO_TAG, 0)):
        with world.session() as bad:
            bad.send(header(iscsi.DATA_OUT, FINAL, data_length=512, lun=iscsi.lun_field(world.lun), itt=tag,
                            rest=struct.pack(">IIIIIII", transfer, 0, bad.exp_stat_sn, 0, 0, 0, 0)), bytes(512))
            seen = ending(bad, 1.0)
            # RFC 7143 11.7: data for a task that is gone may be dropped in silence; but nothing may be answered as a task.
            if any(one in seen for one in (iscsi.SCSI_RESPONSE, iscsi.R2T, iscsi.DATA_IN)):
                raise Wrong(f"was taken for a task: {seen}")


def start_write(world, bad, blocks=256):
    """A write without immediate data up to its R2T: (command header, R2T)."""
    size = bad.capacity(world.lun)[1]
    head = bad.command_header(world.lun, iscsi.write16(0, blocks), write=blocks * size)
    bad.send(head)
    answer, _ = bad.receive()
    if answer[0] & 0x3F != iscsi.R2T:
        raise Wrong(f"opcode {answer[0] & 0x3F:#x} instead of an R2T")
    return head, answer


@case("Data-Out at the wrong offset, with the wrong number, too long")
def wrong_data(world):
    for number, offset, length, final in ((0, 4096, 4096, 0), (7, 0, 4096, 0), (0, 0xFFFFF000, 4096, 0), (0, 0, 4096, FINAL)):
        with world.session() as bad:
            head, r2t = start_write(world, bad)
            bad.send(header(iscsi.DATA_OUT, final, data_length=length, lun=head[8:16], itt=int.from_bytes(head[16:20], "big"),
                            rest=r2t[20:24] + struct.pack(">IIIIII", 0, bad.exp_stat_sn, 0, number, offset, 0)), bytes(length))
            seen = ending(bad, 10.0 if number or offset else 2.0)
            if not seen or seen == ["open"]:
                raise Wrong(f"number {number} offset {offset}: no answer")


@case("wrong header digest")
def wrong_header_digest(world):
    with world.session(digests=True) as bad:
        if not bad.header_digest:
            raise Wrong("CRC32C was not agreed on")
        bad.send(bad.command_header(world.lun, bytes(6)), spoil_header=True)
        # RFC 7143 7.7: at error recovery level 0 the session ends.
        return must_close(bad, "wrong header digest")


@case("wrong data digest writes nothing")
def wrong_data_digest(world):
    with world.session(digests=True) as bad:
        size = bad.capacity(world.lun)[1]
        if bad.scsi(world.lun, iscsi.write16(5, 1), write=b"\x11" * size)[0] != iscsi.GOOD:
            raise Wrong("the good write failed")
        try:
            status = bad.scsi(world.lun, iscsi.write16(5, 1), write=b"\x22" * size, spoil_data=True)[:2]
            if status[0] == iscsi.GOOD:
                raise Wrong("data with a wrong digest was taken")
            what = f"status {status}"
        except (Closed, iscsi.ProtocolError) as said:
            what = str(said) or "closed"
    with world.session() as host:
        data = host.scsi(world.lun, iscsi.read16(5, 1), read=size)[2]
        if data != b"\x11" * size:
            raise Wrong("the spoilt data reached the medium")
    return what


@case("command numbers out of the window are ignored")
def outside_window(world):
    with world.session() as host:
        for ahead in (100_000, 0x7FFFFFFF, -5 & 0xFFFFFFFF):
            host.send(host.command_header(world.lun, bytes(6), cmd_sn=(host.cmd_sn + ahead) & 0xFFFFFFFF, itt=0x5000))
        # RFC 7143 4.2.2.1: silently ignored, and the session goes on.
        if host.scsi(world.lun, bytes(6))[0] != iscsi.GOOD:
            raise Wrong("the session did not go on")


@case("task management, text, logout and SNACK with nonsense in them")
def odd_requests(world):
    tail = bytes(16)
    for what, opcode, flags, rest in (
        ("a function that is none", iscsi.TASK_MANAGEMENT, FINAL | 0x7F, struct.pack(">III", 1, 0, 0) + tail),
        ("abort of a task that is not", iscsi.TASK_MANAGEMENT, FINAL | 1, struct.pack(">III", 0x4444, 0, 0) + tail),
        ("a text with a tag that is none", iscsi.TEXT, FINAL, struct.pack(">III", 0x4444, 0, 0) + tail),
        ("logout of a connection that is not", iscsi.LOGOUT, FINAL | 1, struct.pack(">III", 0xFFFF0000, 0, 0) + tail),
        ("logout for a reason that is none", iscsi.LOGOUT, FINAL | 0x55, struct.pack(">III", 0, 0, 0) + tail),
        ("SNACK at recovery level 0", iscsi.SNACK, FINAL | 1, struct.pack(">III", 0, 0, 0) + tail),
    ):
        with world.session() as bad:
            filled = rest[:4] + struct.pack(">II", bad.cmd_sn, bad.exp_stat_sn) + rest[12:]
            bad.send(header(opcode | IMMEDIATE if opcode != iscsi.SNACK else opcode, flags, lun=iscsi.lun_field(world.lun), itt=0x300, rest=filled))
            seen = ending(bad, 2.0)
            if seen == ["open"]:
                raise Wrong(f"{what}: no answer")


@case("two commands with one task tag")
def same_tag(world):
    with world.session() as bad:
        start_write(world, bad)
        bad.send(bad.command_header(world.lun, iscsi.read16(0, 1), read=512, itt=bad.itt))
        seen = ending(bad, 2.0)
        if iscsi.R2T in seen:
            raise Wrong(f"a second task under the same tag: {seen}")
        return str(seen)


# --- after login: commands ------------------------------------------------------------------------------------------


def sense_of(world, host, what, cdb, wanted, read=0, write=b"", lun=None):
    """The command must end in CHECK CONDITION with one of the wanted (key, asc, ascq)."""
    status, sense, _ = host.scsi(world.lun if lun is None else lun, cdb, read=read, write=write)
    if status != iscsi.CHECK_CONDITION or sense not in wanted:
        raise Wrong(f"{what}: status {status:#x}, sense {sense}")


@case("commands beyond the end")
def beyond_the_end(world):
    out_of_range = [(5, 0x21, 0)]
    with world.session() as host:
        blocks, size = host.capacity(world.lun)
        for lba, count in ((blocks, 1), (blocks - 1, 2), ((1 << 64) - 1, 1), ((1 << 64) - 1, 2), (1 << 63, 128), (blocks * 2, 8)):
            sense_of(world, host, f"READ (16) {lba}+{count}", iscsi.read16(lba, count), out_of_range, read=count * size)
            sense_of(world, host, f"WRITE (16) {lba}+{count}", iscsi.write16(lba, count), out_of_range, write=bytes(count * size))
            sense_of(world, host, f"VERIFY (16) {lba}+{count}", struct.pack(">BBQIBB", 0x8F, 0, lba, count, 0, 0), out_of_range)
            sense_of(world, host, f"WRITE SAME (16) {lba}+{count}", struct.pack(">BBQIBB", 0x93, 0, lba, count, 0, 0),
                     out_of_range, write=bytes(size))
            unmap = struct.pack(">HHI", 22, 16, 0) + struct.pack(">QII", lba, count, 0)
            sense_of(world, host, f"UNMAP {lba}+{count}", struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(unmap), 0), out_of_range, write=unmap)
        for lba, count in ((blocks, 1), (0xFFFFFFFF, 0xFFFF)):
            sense_of(world, host, f"READ (10) {lba}+{count}", struct.pack(">BBIBHB", 0x28, 0, lba, 0, count, 0), out_of_range, read=count * size)
            sense_of(world, host, f"WRITE (10) {lba}+{count}", struct.pack(">BBIBHB", 0x2A, 0, lba, 0, count, 0), out_of_range,
                     write=bytes(min(count * size, 65536)))
        # A length of four thousand million blocks is out of range or more than one command may carry.
        sense_of(world, host, "READ (16) of everything", iscsi.read16(0, 0xFFFFFFFF), [(5, 0x21, 0), (5, 0x24, 0)], read=65536)


@case("commands that do not exist, units that are not there")
def wrong_commands(world):
    with world.session() as host:
        for opcode in (0x02, 0x45, 0x7E, 0x7F, 0xC0, 0xFF):
            sense_of(world, host, f"opcode {opcode:#x}", bytes([opcode]) + bytes(15), [(5, 0x20, 0), (5, 0x24, 0)])
        for lun in (77, 255, 16000, b"\xff" * 8, b"\x40\x00\xff\xff" + bytes(4), b"\xc1" + bytes(7)):
            # SPC-5: LOGICAL UNIT NOT SUPPORTED; a nonsense address may also be an invalid field.
            sense_of(world, host, f"unit {lun}", bytes(6), [(5, 0x25, 0), (5, 0x24, 0)], lun=lun)


@case("commands whose fields make no sense")
def wrong_fields(world):
    invalid = [(5, 0x24, 0), (5, 0x20, 0), (5, 0x26, 0), (5, 0x1A, 0)]
    with world.session() as host:
        size = host.capacity(world.lun)[1]
        sense_of(world, host, "INQUIRY page without EVPD", bytes([0x12, 0, 0x83, 0, 96, 0]), invalid, read=96)
        sense_of(world, host, "INQUIRY unknown page", bytes([0x12, 1, 0x7F, 0, 96, 0]), invalid, read=96)
        sense_of(world, host, "MODE SENSE unknown page", bytes([0x1A, 0, 0x2D, 0, 96, 0]), invalid, read=96)
        sense_of(world, host, "service action that is none", bytes([0x9E, 0x1F]) + bytes(14), invalid, read=32)
        sense_of(world, host, "reservation in of none", bytes([0x5E, 0x1F]) + bytes(6) + b"\x20\0", invalid, read=32)
        sense_of(world, host, "reservation out of none", bytes([0x5F, 0x1F, 0, 0, 0, 0, 0, 0, 24, 0]), invalid, write=bytes(24))
        sense_of(world, host, "reservation list too short", bytes([0x5F, 0, 0, 0, 0, 0, 0, 0, 8, 0]), invalid, write=bytes(8))
        # UNMAP lists that lie about their length (SBC-4 5.35).
        for lie in (struct.pack(">HHI", 0xFFFF, 0xFFF0, 0) + bytes(16), struct.pack(">HHI", 22, 15, 0) + bytes(16)):
            status, sense, _ = host.scsi(world.lun, struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(lie), 0), write=lie)
            if status != iscsi.GOOD and (status != iscsi.CHECK_CONDITION or sense not in invalid):
                raise Wrong(f"UNMAP list: {status:#x} {sense}")
        # More blocks in the CDB than the host has buffers for, and fewer: residuals, never more data than announced.
        for expected in (0, 1, size - 1, size * 3):
            status, sense, data = host.scsi(world.lun, iscsi.read16(0, 2), read=expected)
            if len(data) != expected:
                raise Wrong("more data than announced")
        for expected in (1, size - 1, size * 3):
            host.scsi(world.lun, iscsi.write16(0, 2), write=bytes(expected))


def prompt(world, where):
    """A new host comes in and reads without a long wait."""
    started = time.monotonic()
    world.still_serves()
    waited = time.monotonic() - started
    if waited > 5.0:
        raise Wrong(f"{where} a new host waited {waited:.1f} s")


# --- hosts that behave badly ----------------------------------------------------------------------------------------


@case("a host that stops reading")
def stops_reading(world):
    deaf = []
    for _ in range(4):
        host = world.session(receive_buffer=4096)
        size = host.capacity(world.lun)[1]
        blocks = min((1 << 20) // size, host.capacity(world.lun)[0])
        host.socket.settimeout(2.0)
        try:
            for _ in range(64):
                host.send_raw(host.command_header(world.lun, iscsi.read16(0, blocks), read=blocks * size))
        except (Closed, TimeoutError, socket.timeout):
            pass
        deaf.append(host)
    # 256 MiB are asked for and nobody takes them. The others must go on meanwhile.
    try:
        for _ in range(5):
            time.sleep(0.5)
            prompt(world, "beside hosts that do not read")
    finally:
        for host in deaf:
            host.reset()


@case("a host that does not send the data it promised")
def never_sends(world):
    mute = []
    for _ in range(8):
        host = world.session()
        for _ in range(32):
            host.send_raw(host.command_header(world.lun, iscsi.write16(0, 8), write=8 * 512))
        mute.append(host)
    try:
        for _ in range(4):
            time.sleep(0.5)
            prompt(world, "beside hosts that do not send their data")
    finally:
        for host in mute:
            host.close()


@case("a thousand connections that say nothing or half a header")
def half_open(world):
    refused = 0
    for number in range(1000):
        try:
            half = world.connect(timeout=5.0)
            if number % 3 == 1:
                half.send_raw(b"\x43")
            elif number % 3 == 2:
                half.send_raw(half.login_header(FINAL | 0x07, 100)[:47])
            world.half_open.append(half)
        except (Closed, OSError):
            refused += 1
    # A new host comes in beside them, if need be after some of them were thrown out.
    started = time.monotonic()
    deadline = started + 60
    while True:
        try:
            world.still_serves()
            break
        except (Closed, OSError, Refused) as no:
            if time.monotonic() > deadline:
                raise Wrong(f"no host could come in for a minute: {no}") from no
            time.sleep(0.5)
    return f"{refused} were refused; a new host was in after {time.monotonic() - started:.1f} s"


@case("connections cut anywhere")
def cut_anywhere(world):
    for number in range(150):
        try:
            if number % 3 == 0:
                bad = world.connect()
                data = text(LOGIN + [("TargetName", world.target)])
                whole = bad.login_header(FINAL | 0x07, len(data)) + iscsi.padded(data)
            else:
                bad = world.connect().login(HOST, world.target)
                whole = b"".join(
                    bad.command_header(world.lun, iscsi.write16(0, 16), write=8192, immediate=4096) + bytes(4096)
                    if world.random.random() < 0.5 else
                    bad.command_header(world.lun, iscsi.read16(0, 64), read=65536)
                    for _ in range(6))
            bad.send_raw(whole[:world.random.randrange(len(whole))])
            if world.random.random() < 0.5:
                bad.reset()
            else:
                bad.close()
        except Closed:
            continue


@case("spoilt copies of good PDUs")
def spoilt_copies(world):
    """Bits flipped at random in commands that are good otherwise. The LUN field is left alone, and no target resets or
    logins: they would rightly disturb the witness."""
    choose = world.random
    answers = {}
    host = None
    for _ in range(1500):
        if host is None:
            host = world.connect(timeout=5.0).login(HOST, world.target)
        cdb = choose.choice((
            iscsi.read16(choose.randrange(64), 4), iscsi.write16(choose.randrange(64), 4), bytes([0x12, 1, 0x83, 0, 255, 0]),
            bytes([0x1A, 0, 0x3F, 0, 255, 0]), bytes([0x42]) + bytes(7) + b"\x18\0", bytes([0xA0]) + bytes(8) + b"\x01\0\0",
            bytes([0x89]) + bytes(12) + b"\x01\0\0", iscsi.sync16(),
        ))
        writes = cdb[0] in (0x8A, 0x42, 0x89)
        size = 2048
        pdu = bytearray(host.command_header(world.lun, cdb, read=0 if writes else size, write=size if writes else 0,
                                            immediate=size if writes else 0) + (choose.randbytes(size) if writes else b""))
        for _ in range(choose.choice((1, 1, 2, 4))):
            where = choose.choice([at for at in range(min(len(pdu), 96)) if not 8 <= at < 16])
            pdu[where] ^= 1 << choose.randrange(8)
        # SCSI commands only (0x01), immediate or not; reserving or resetting is not what this is about.
        pdu[0] = pdu[0] & IMMEDIATE | iscsi.SCSI_COMMAND
        if pdu[32] in (0x5F, 0x16, 0x56):
            continue
        try:
            host.send_raw(bytes(pdu))
            host.socket.settimeout(0.02 if choose.random() < 0.8 else 0.3)
            head, _ = host.receive()
            key = f"opcode {head[0] & 0x3F:#x}"
        except Closed:
            key, host = "closed", None
        except (TimeoutError, socket.timeout):
            # The spoilt length may have the target wait for more: start again.
            host.reset()
            key, host = "silence", None
        except (iscsi.ProtocolError, OSError) as error:
            raise Wrong(f"the target answered out of protocol: {error}") from error
        answers[key] = answers.get(key, 0) + 1
    if host:
        host.close()
    return str(answers)


@case("noise after login")
def noise_after_login(world):
    for _ in range(100):
        bad = world.connect(timeout=5.0).login(HOST, world.target)
        try:
            noise_bytes = bytearray(world.random.randbytes(world.random.randrange(48, 8192)))
            # No task management, no logins over a session: see above.
            if noise_bytes[0] & 0x3F in (iscsi.TASK_MANAGEMENT, iscsi.LOGIN, iscsi.SCSI_COMMAND):
                noise_bytes[0] = 0x1E
            bad.send_raw(bytes(noise_bytes))
        except (Closed, OSError):
            pass
        bad.reset()


@case("the silent connections are thrown out in time")
def half_open_end(world):
    # Each of the thousand must be gone within two minutes of its start; they were opened some time ago.
    deadline = time.monotonic() + 120
    left = world.half_open
    while left and time.monotonic() < deadline:
        still = []
        for half in left:
            half.socket.settimeout(0.0005)
            try:
                if half.socket.recv(4096):
                    still.append(half)
                else:
                    half.close()
            except (TimeoutError, socket.timeout, BlockingIOError):
                still.append(half)
            except OSError:
                half.close()
        left = still
        if left:
            time.sleep(0.5)
    count = len(left)
    world.half_open = left
    if count:
        raise Wrong(f"{count} connections that never logged in are still open")
