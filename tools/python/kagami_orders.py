#!/usr/bin/env python3
"""Gives orders to a Kagami array through its command device. Python's standard library only.

Written from the section "Command device" of docs/formats.md and from RFC 7143, and from nothing else: it proves that
the document is enough. For daily work there is `kagami --via`.

  kagami_orders.py VIA ORDER [NAME=VALUE...] [options]

  kagami_orders.py iscsi://127.0.0.1:3260/iqn.2026-11.io.kagami:local/1 volumes
  kagami_orders.py /dev/sdb volume-create name=logs size_bytes=1GiB --operator ops --key-file /etc/kagami/ops.key

VIA is iscsi://[user@]host[:port]/iqn/lun (the secret of CHAP from the environment, KAGAMI_SECRET), a block device, or a
file. Edit data go to standard output, the result's code and message to standard error; the exit code is the result's.
"""

import argparse
import hashlib
import hmac
import json
import mmap
import os
import random
import re
import secrets
import socket
import stat
import struct
import sys
import time
import uuid

# ---- The format, as docs/formats.md has it ----

FIRST_SLOT = 16 << 20
SLOT = 64 << 10
HALF = 32 << 10
MOST_SLOTS = 1024
REQUEST_HEADER, RESULT_HEADER = 256, 160
ANY_GENERATION = (1 << 64) - 1
EDIT_DATA, SIGNED = 1, 2
REPLAYED = 4
DONE = 3
CONTINUE = 6
NIL = bytes(16)

ORDERS = {
    "arrays": 1, "volumes": 2, "luns": 3, "tables": 4, "stats": 5, "continue": 6,
    "volume-create": 16, "volume-resize": 17, "volume-delete": 18, "volume-mask": 19, "volume-unmask": 20,
    "lun-map-add": 24, "lun-map-remove": 25,
    "pair-create": 32, "pair-delete": 33, "pair-split": 34, "pair-resync": 35, "pair-swap": 36, "pair-takeover": 37,
    "pair-status": 38, "pair-set": 39, "journal-status": 48, "journal-acquire": 49, "journal-restore": 50, "journal-purge": 51,
    "marker": 64,
}
LOOKS = {1, 2, 3, 4, 5, 6, 38, 48}

# name: (tag, kind); a kind is "text", "flag", "id", or a format of struct
PARAMETERS = {
    "name": (1, "text"), "volume": (2, "text"), "lun": (3, "<H"), "size_bytes": (4, "<Q"), "pool": (5, "text"),
    "block_bytes": (6, "<I"), "cache": (7, "text"), "initiator": (8, "text"), "force": (9, "flag"),
    "read_only": (10, "flag"), "request": (11, "id"), "offset": (12, "<Q"), "peer": (13, "text"),
    "mapped_lun": (14, "<H"), "role": (15, "text"), "group": (16, "text"), "group_id": (17, "id"), "side": (18, "text"),
    "peer_id": (19, "id"), "pair": (20, "text"), "journal": (21, "<H"), "peer_journal": (22, "<H"),
    "journal_bytes": (23, "<Q"), "writable": (24, "flag"), "discard": (25, "text"), "dry_run": (26, "flag"),
    "cancel": (27, "flag"), "position": (28, "<Q"), "time_nanos": (29, "<Q"), "marker": (30, "text"),
    "wait": (31, "flag"), "option": (32, "text"),
}

# code: (word, exit code)
CODES = {
    0: ("done", 0), 1: ("failed", 1), 2: ("malformed", 1), 3: ("unsupported", 1), 4: ("unknown-order", 2),
    5: ("not-yet", 3), 6: ("bad-parameter", 2), 7: ("unauthorised", 3), 8: ("bad-signature", 3),
    9: ("signature-needed", 3), 10: ("expired", 3), 11: ("stale", 3), 12: ("generation-needed", 3), 13: ("refused", 3),
    14: ("unknown-array", 5), 15: ("unreachable", 5), 16: ("too-many-hops", 3), 17: ("busy", 4), 18: ("timed-out", 4),
    19: ("too-large", 1), 20: ("no-such-result", 1), 21: ("id-reused", 3),
    22: ("already", 12), 23: ("swapped", 10), 24: ("taken-over", 11),
}


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data):
    """CRC32C (Castagnoli): what iSCSI has as its digest (RFC 7143 13.1)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Problem(Exception):
    """What went wrong, in one line, and the exit code that says of which kind it is."""

    def __init__(self, words, code=1):
        super().__init__(words)
        self.code = code


class SlotTaken(Exception):
    """Another request holds the slot."""


class Busy(Exception):
    """To be tried again."""


def parameter(name, value):
    """One input parameter's bytes. A value is a number, a text, bytes, or True for a flag."""
    if name not in PARAMETERS:
        raise Problem(f"there is no parameter {name}", 2)
    tag, kind = PARAMETERS[name]
    if kind == "text":
        value = value.encode()
        if not 1 <= len(value) <= 255:
            raise Problem(f"{name} is a text of 1 to 255 bytes", 2)
    elif kind == "flag":
        value = b""
    elif kind != "id":
        try:
            value = struct.pack(kind, value)
        except struct.error as error:
            raise Problem(f"{name}: {value} does not fit", 2) from error
    return struct.pack("<HH", tag, len(value)) + value


def encode(order, request_id, host_id, parameters=(), target=NIL, generation=ANY_GENERATION, edit_data=True,
           operator=None, key=None, executing=None, expires=0):
    """A whole request. With a key it is signed for the array `executing`."""
    flags = (EDIT_DATA if edit_data else 0) | (SIGNED if key else 0)
    body = b"".join(parameter(name, value) for name, value in parameters)
    length = REQUEST_HEADER + len(body) + 4
    if length > HALF:
        raise Problem(f"the record has {length} bytes, {HALF} are allowed", 2)
    name = (operator or "").encode()
    if len(name) > 64:
        raise Problem("the name of an operator has at most 64 bytes", 2)

    def header(proof):
        return struct.pack(
            "<8sHHIQQQHHB3x16s16s16sQQ16s64s32s32x", b"KAGORDER", 1, REQUEST_HEADER, length, 0, 0, 0, order, flags, 0,
            target, request_id, host_id, generation, expires if key else 0, NIL, name, proof)

    proof = bytes(32)
    if key:
        proof = hmac.new(key, executing + header(proof) + body, hashlib.sha256).digest()
    record = header(proof) + body
    return record + struct.pack("<I", crc32c(record))


class Result:
    """A result, whole and checked."""

    def __init__(self, record):
        (_, _, header, self.length, _, _, incompatible, self.id, self.array, self.state, self.code, self.flags, words,
         self.generation, self.total, self.offset, part, self.proof) = struct.unpack_from(
             "<8sHHIQQQ16s16sHHHHQQQI4x32s16x", record)
        if incompatible:
            raise Problem("the result has features that this program does not know")
        body = record[header:self.length - 4]
        if words + part > len(body):
            raise Problem("the result's lengths do not fit together")
        self.message = body[:words].decode("utf-8", "replace")
        self.part = body[words:words + part]
        self.record = record

    @property
    def word(self):
        return CODES.get(self.code, (f"code-{self.code}", 1))[0]

    @property
    def exit_code(self):
        return CODES.get(self.code, ("", 1))[1]

    def is_signed_with(self, key):
        """Whether the array that gave it knows the key."""
        bare = self.record[:112] + bytes(32) + self.record[144:self.length - 4]
        return hmac.compare_digest(self.proof, hmac.new(key, self.array + bare, hashlib.sha256).digest())


def decode(half):
    """The result in the bytes of a result half; None where there is none, or not yet a whole one."""
    magic, version, header, length = struct.unpack_from("<8sHHI", half)
    if magic != b"KAGRESLT" or not RESULT_HEADER + 4 <= length <= HALF or header < RESULT_HEADER:
        return None
    record = bytes(half[:length])
    if struct.pack("<I", crc32c(record[:-4])) != record[-4:]:
        return None
    if version != 1:
        raise Problem(f"the result is of version {version}, this program reads version 1")
    return Result(record)


# ---- Giving an order ----

class Host:
    """Gives orders over a device; `patience` is how long one may take, in seconds."""

    def __init__(self, device, patience=30.0, operator=None, key=None):
        self.device, self.patience, self.operator, self.key = device, patience, operator, key
        self.id = secrets.token_bytes(16)
        self.slots = min((device.size - FIRST_SLOT) // SLOT, MOST_SLOTS)
        if self.slots < 1:
            raise Problem("the device is too small for a command device")

    def give(self, order, parameters=(), target=NIL, generation=None, edit_data=True, request_id=None, signed=True):
        """Gives an order and returns its result and all its edit data. A change without a generation acts on the
        one that the array says that it is at."""
        number = ORDERS[order]
        signed = signed and self.key is not None
        executing = target
        if signed and target == NIL:
            # Every result names its array, also one that refuses.
            executing = self.give("arrays", signed=False, edit_data=False)[0].array
        if number not in LOOKS and generation is None:
            now = self.once(ORDERS["arrays"], (), target, executing, ANY_GENERATION, False, None, signed)
            if now.code:
                raise Problem(f"{now.word}: {now.message}", now.exit_code)
            generation = now.generation
        if number in LOOKS:
            generation = ANY_GENERATION
        result = self.once(number, parameters, target, executing, generation, edit_data, request_id, signed)
        data = result.part
        while result.code == 0 and len(data) < result.total:
            more = [("request", result.id), ("offset", len(data))]
            next_part = self.once(CONTINUE, more, target, executing, ANY_GENERATION, True, None, signed)
            if next_part.code:
                raise Problem(f"{next_part.word}: {next_part.message}", next_part.exit_code)
            if next_part.offset != len(data) or not next_part.part:
                raise Problem("the continuation is not the one that was asked for")
            data += next_part.part
        return result, data

    def once(self, number, parameters, target, executing, generation, edit_data, request_id, signed):
        """One record, one result: takes slot after slot until the deadline."""
        request_id = request_id or secrets.token_bytes(16)
        expires = int(time.time() * 1000) + int(self.patience * 1000) + 60_000
        record = encode(number, request_id, self.id, parameters, target, generation, edit_data,
                        self.operator if signed else None, self.key if signed else None, executing, expires)
        record += bytes(-len(record) % self.device.block)
        deadline = time.monotonic() + self.patience
        pause = 0.001
        while time.monotonic() < deadline:
            slot = FIRST_SLOT + SLOT * random.randrange(self.slots)
            try:
                # A slot that is in use is left alone, unless nothing else was found for a while.
                if pause < 0.01 and any(self.device.read(slot, self.device.block)):
                    raise SlotTaken
                self.device.write(slot, record)
                back = self.device.read(slot, self.device.block)
                if back[64:80] != request_id:
                    raise SlotTaken
                result = self.wait(slot, request_id, deadline)
            except (SlotTaken, Busy):
                time.sleep(pause * random.random())
                pause = min(pause * 1.5, 0.25)
                continue
            if signed and result.flags & SIGNED and not result.is_signed_with(self.key):
                raise Problem("the result is not signed with the operator's key")
            if signed and not result.flags & SIGNED and result.code == 0:
                raise Problem("the result of a signed order is not signed")
            try:
                self.device.write(slot, bytes(self.device.block))
            except (SlotTaken, Busy):
                pass
            return result
        raise Problem("no result in time; whether it was done is not known", 4)

    def wait(self, slot, request_id, deadline):
        """The result with that id; SlotTaken where the slot lost it."""
        pause = 0.0005
        while time.monotonic() < deadline:
            try:
                result = decode(self.device.read(slot + HALF, HALF))
            except Busy:
                result = None
            if result is not None and result.id == request_id:
                if result.state == DONE:
                    return result
            elif pause > 0.05 and self.device.read(slot, self.device.block)[64:80] != request_id:
                raise SlotTaken
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        raise Problem("no result in time; whether it was done is not known", 4)


# ---- Devices: size, block, read(offset, length), write(offset, bytes) ----

class FileDevice:
    """A block device, without the page cache; or a file."""

    def __init__(self, path):
        flags = os.O_RDWR | os.O_CLOEXEC
        if stat.S_ISBLK(os.stat(path).st_mode):
            flags |= os.O_DIRECT
        self.fd = os.open(path, flags)
        self.size = os.lseek(self.fd, 0, os.SEEK_END)
        # Every block size that there is divides this; memory from mmap is aligned as O_DIRECT wants it.
        self.block = 4096
        self.memory = mmap.mmap(-1, HALF)

    def read(self, offset, length):
        if os.preadv(self.fd, [memoryview(self.memory)[:length]], offset) != length:
            raise Problem("the device gave less than was asked for")
        return self.memory[:length]

    def write(self, offset, data):
        self.memory[:len(data)] = data
        try:
            done = os.pwritev(self.fd, [memoryview(self.memory)[:len(data)]], offset)
        except OSError as error:
            # Linux makes of RESERVATION CONFLICT EBADE; what else was refused shows when the slot is read back.
            raise SlotTaken from error
        if done != len(data):
            raise Problem("the device took less than it was given")


class IscsiDevice:
    """A logical unit over a session of its own: login with or without CHAP, one command after another (RFC 7143)."""

    SEGMENT = 65536

    def __init__(self, host, port, iqn, lun, initiator, user=None, secret=None, timeout=30.0):
        self.lun = struct.pack(">H6x", lun if lun < 256 else lun | 0x4000)
        try:
            self.socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise Problem(f"cannot connect to {host}:{port}: {error}", 5) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tag, self.cmd_sn, self.exp_stat_sn = 0, 1, 0
        self.send_segment = 8192
        try:
            self.login(initiator, iqn, user, secret)
            for _ in range(16):  # unit attentions, one a command
                if self.command(bytes(16))[0] == 0:
                    break
            inquiry = self.good(bytes([0x12, 0, 0, 0, 96]), read=96)
            self.product = inquiry[16:32].decode("ascii", "replace").rstrip()
            answer = self.good(struct.pack(">BB8xI2x", 0x9E, 0x10, 32), read=32)
        except OSError as error:
            raise Problem(f"{host}:{port}: {error}", 5) from error
        last, self.block = struct.unpack_from(">QI", answer)
        self.size = (last + 1) * self.block

    def read(self, offset, length):
        cdb = struct.pack(">BBQIxx", 0x88, 0, offset // self.block, length // self.block)
        return self.good(cdb, read=length)

    def write(self, offset, data):
        self.good(struct.pack(">BBQIxx", 0x8A, 0, offset // self.block, len(data) // self.block), write=data)

    def good(self, cdb, read=0, write=b""):
        """Runs a command that is to end with GOOD; what passes by itself is waited for."""
        for _ in range(100):
            status, sense, data = self.command(cdb, read, write)
            if status == 0:
                return data
            if status == 0x18:  # RESERVATION CONFLICT
                raise SlotTaken
            if status in (0x08, 0x28):  # BUSY, TASK SET FULL
                time.sleep(0.01)
                continue
            key, asc = (sense[2] & 15, sense[12]) if len(sense) > 12 and sense[0] & 0x7E == 0x70 else (0, 0)
            if len(sense) > 3 and sense[0] & 0x7E == 0x72:
                key, asc = sense[1] & 15, sense[2]
            if key not in (2, 6, 11):  # NOT READY, UNIT ATTENTION, ABORTED COMMAND
                raise Problem(f"command {cdb[0]:#04x} ended with status {status:#04x}, sense {key:x}/{asc:02x}")
            if key == 2:
                time.sleep(0.05)
        raise Busy

    def command(self, cdb, read=0, write=b""):
        """One command: its status, sense data, and what it read."""
        self.tag += 1
        flags = 0x80 | (0x40 if read else 0) | (0x20 if write else 0)
        immediate = write[:min(self.send_segment, self.first_burst)] if self.immediate else b""
        self.send(struct.pack(">BB6x8sIIII16s", 0x01, flags, self.lun, self.tag, max(read, len(write)), self.cmd_sn,
                              self.exp_stat_sn, cdb.ljust(16, b"\0")), immediate)
        self.cmd_sn += 1
        data = bytearray(read)
        while True:
            header, segment = self.receive()
            opcode = header[0] & 0x3F
            if opcode == 0x25:  # Data-In
                offset, = struct.unpack_from(">I", header, 40)
                data[offset:offset + len(segment)] = segment
                if header[1] & 1:
                    self.advance(header)
                    return header[3], b"", bytes(data)
            elif opcode == 0x21:  # SCSI Response
                self.advance(header)
                if header[2]:
                    raise Problem(f"the target failed (response {header[2]:#04x})")
                return header[3], segment[2:], bytes(data)
            elif opcode == 0x31:  # R2T
                transfer_tag, = struct.unpack_from(">I", header, 20)
                offset, length = struct.unpack_from(">II", header, 40)
                self.data_out(transfer_tag, offset, write[offset:offset + length])
            elif opcode == 0x20:  # NOP-In
                if header[20:24] != b"\xff" * 4:
                    self.send(struct.pack(">BB6x8sI4sII16x", 0x40, 0x80, header[8:16], 0xFFFFFFFF, header[20:24],
                                          self.cmd_sn, self.exp_stat_sn))
            else:
                raise Problem(f"unexpected PDU {opcode:#04x}", 5)

    def data_out(self, transfer_tag, offset, data):
        for number, begin in enumerate(range(0, len(data), self.send_segment)):
            piece = data[begin:begin + self.send_segment]
            final = 0x80 if begin + len(piece) == len(data) else 0
            self.send(struct.pack(">BB6x8sII4xI4xII4x", 0x05, final, self.lun, self.tag, transfer_tag, self.exp_stat_sn,
                                  number, offset + begin), piece)

    def login(self, initiator, iqn, user, secret):
        isid = b"\x80" + secrets.token_bytes(5)
        names = {"InitiatorName": initiator, "TargetName": iqn, "SessionType": "Normal"}
        stage = 1
        if user is not None:
            stage = 0
            answer = self.exchange(isid, 0, 0, {**names, "AuthMethod": "CHAP"}, False)
            if answer.get("AuthMethod") != "CHAP":
                raise Problem("the target does not speak CHAP", 5)
            answer = self.exchange(isid, 0, 0, {"CHAP_A": "7,5"}, False)
            digest = {"5": "md5", "7": "sha256"}.get(answer.get("CHAP_A"))
            challenge = answer.get("CHAP_C", "")
            if digest is None or not re.fullmatch("0[xX]([0-9a-fA-F]{2})+", challenge):
                raise Problem("the target's challenge cannot be answered", 5)
            proof = hashlib.new(digest, bytes([int(answer["CHAP_I"], 0)]) + secret + bytes.fromhex(challenge[2:])).hexdigest()
            self.exchange(isid, 0, 1, {"CHAP_N": user, "CHAP_R": "0x" + proof}, True)
            stage, names = 1, {}
        offer = {
            **names, "HeaderDigest": "None", "DataDigest": "None", "MaxConnections": "1", "InitialR2T": "Yes",
            "ImmediateData": "Yes", "MaxRecvDataSegmentLength": str(self.SEGMENT), "MaxBurstLength": "262144",
            "FirstBurstLength": "65536", "MaxOutstandingR2T": "1", "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes",
            "ErrorRecoveryLevel": "0", "DefaultTime2Wait": "2", "DefaultTime2Retain": "0",
        }
        answer = self.exchange(isid, stage, 3, offer, True)
        self.send_segment = int(answer.get("MaxRecvDataSegmentLength", "8192"))
        self.first_burst = int(answer.get("FirstBurstLength", "65536"))
        self.immediate = answer.get("ImmediateData", "Yes") == "Yes"

    def exchange(self, isid, stage, wanted, keys, transit):
        """One text to the target, its whole answer back; may take several PDUs of either side's."""
        text = b"".join(f"{key}={value}\0".encode() for key, value in keys.items())
        flags = (0x80 | wanted if transit else 0) | stage << 2
        answer, more = b"", True
        entered = None
        for _ in range(16):
            self.send(struct.pack(">BBBB4x6sHIHxxII16x", 0x43, flags, 0, 0, isid, 0, 0, 0, self.cmd_sn,
                                  self.exp_stat_sn), text)
            header, segment = self.receive()
            if header[0] & 0x3F != 0x23:
                raise Problem("the login was answered by something else", 5)
            if header[36]:
                raise Problem(f"the login was refused: class {header[36]}, detail {header[37]}", 5)
            self.advance(header)
            answer += segment
            more = header[1] & 0x40
            entered = header[1] & 3 if header[1] & 0x80 else None
            if not more and (not transit or entered is not None):
                break
            text = b""
        if transit and entered != wanted:
            raise Problem("the target does not finish the login", 5)
        pairs = (item.decode().partition("=") for item in answer.split(b"\0") if item)
        return {key: value for key, _, value in pairs}

    def advance(self, header):
        stat_sn, = struct.unpack_from(">I", header, 24)
        self.exp_stat_sn = stat_sn + 1 & 0xFFFFFFFF

    def send(self, header, data=b""):
        header = header[:5] + len(data).to_bytes(3, "big") + header[8:]
        self.socket.sendall(header + data + bytes(-len(data) % 4))

    def receive(self):
        header = self.take(48)
        length = int.from_bytes(header[5:8], "big")
        if header[4] or length > self.SEGMENT:
            raise Problem("the target sends what it may not", 5)
        return header, self.take(length + (-length % 4))[:length]

    def take(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise Problem("the target closed the connection", 5)
            data += piece
        return bytes(data)


def open_device(via, initiator="iqn.2026-11.io.kagami:host", timeout=30.0):
    """The device that a VIA names."""
    if not via.startswith("iscsi://"):
        try:
            return FileDevice(via)
        except OSError as error:
            raise Problem(f"{via}: {error.strerror}", 5) from error
    shape = re.fullmatch(r"iscsi://(?:([^@/%]+)@)?(\[[^]]+\]|[^:/@]+)(?::(\d+))?/([^/]+)/(\d+)", via)
    if not shape:
        raise Problem("an address looks like iscsi://[user@]host[:port]/iqn/lun", 2)
    user, host, port, iqn, lun = shape.groups()
    secret = os.environ.get("KAGAMI_SECRET")
    if user and not secret:
        raise Problem("the secret is expected in the environment, as KAGAMI_SECRET", 2)
    device = IscsiDevice(host.strip("[]"), int(port or 3260), iqn, int(lun), initiator, user,
                         secret.encode() if user else None, timeout)
    if device.product != "COMMAND DEVICE":
        raise Problem(f"LUN {lun} says that it is a {device.product}, not a command device", 2)
    return device


# ---- The program ----

def read_value(name, text):
    kind = PARAMETERS.get(name, (0, "text"))[1]
    if kind == "text":
        return text
    if kind == "flag":
        return True
    if kind == "id":
        return uuid.UUID(text).bytes
    number = re.fullmatch(r"(\d+)(B|KiB|MiB|GiB|TiB)?", text)
    if not number:
        raise Problem(f"{name} is a number, not {text}", 2)
    return int(number[1]) << 10 * ["B", "KiB", "MiB", "GiB", "TiB"].index(number[2] or "B")


def find_array(host, name):
    """The UUID of an array by its text or its name, as the first array knows it."""
    try:
        return uuid.UUID(name).bytes
    except ValueError:
        pass
    result, data = host.give("arrays", signed=False)
    if result.code:
        raise Problem(f"{result.word}: {result.message}", result.exit_code)
    for array in json.loads(data)["arrays"]:
        if array["name"] == name:
            if array["role"] == "local":
                return NIL
            if array["uuid"]:
                return uuid.UUID(array["uuid"]).bytes
    for _ in range(50):  # the array may be finding out who that is
        result, data = host.give("tables", signed=False)
        row = next((row for row in json.loads(data or b"{}").get("command_devices", ()) if row["array"] == name), None)
        if row is None:
            break
        if row["uuid"]:
            return uuid.UUID(row["uuid"]).bytes
        time.sleep(0.1)
    raise Problem(f"the array knows no way to {name}", 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("via", metavar="VIA")
    parser.add_argument("order", metavar="ORDER", choices=ORDERS)
    parser.add_argument("parameters", metavar="NAME=VALUE", nargs="*")
    parser.add_argument("--array", help="name or UUID of the array that the order is for")
    parser.add_argument("--generation", type=int, help="that a change acts on; the array's present one without it")
    parser.add_argument("--operator", help="name of the operator who signs")
    parser.add_argument("--key-file", help="the operator's key")
    parser.add_argument("--initiator", default="iqn.2026-11.io.kagami:host")
    parser.add_argument("--time", type=float, default=30.0, metavar="SECONDS", help="how long it may take")
    parser.add_argument("--no-data", action="store_true", help="want no edit data")
    args = parser.parse_args()
    try:
        if (args.operator is None) != (args.key_file is None):
            raise Problem("--operator and --key-file go together", 2)
        key = None
        if args.key_file:
            with open(args.key_file, "rb") as file:
                key = file.read().rstrip()
            if not 16 <= len(key) <= 1024:
                raise Problem("a key has 16 to 1,024 bytes", 2)
        parameters = []
        for text in args.parameters:
            name, _, value = text.partition("=")
            parameters.append((name, read_value(name, value)))
        device = open_device(args.via, args.initiator, args.time)
        host = Host(device, args.time, args.operator, key)
        target = find_array(host, args.array) if args.array else NIL
        result, data = host.give(args.order, parameters, target, args.generation, not args.no_data)
    except Problem as problem:
        print(f"kagami_orders: {problem}", file=sys.stderr)
        return problem.code
    except OSError as error:
        print(f"kagami_orders: {error}", file=sys.stderr)
        return 5
    sys.stdout.write(data.decode())
    if data and not data.endswith(b"\n"):
        sys.stdout.write("\n")
    again = ", as it was before" if result.flags & REPLAYED else ""
    print(f"{result.word}{again}: {result.message} (generation {result.generation})", file=sys.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
