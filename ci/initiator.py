"""A small iSCSI initiator for tests that need to misbehave: every PDU can be built by hand, cut, or spoilt.

Used by badinput.py, fulldisk.sh and badisk.sh. It is slow and simple on purpose, one command at a time, and shares no
code with the target, so that a misreading of RFC 7143 would not cancel out. Standard library only.
"""

import os
import socket
import struct
import time

NOP_OUT, SCSI_COMMAND, TASK_MANAGEMENT, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10
NOP_IN, SCSI_RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25
LOGOUT_RESPONSE, R2T, ASYNC, REJECT = 0x26, 0x31, 0x32, 0x3F
IMMEDIATE, FINAL = 0x40, 0x80
NO_TAG = 0xFFFFFFFF

GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL = 0x00, 0x02, 0x08, 0x18, 0x28


class Closed(Exception):
    """The target closed or reset the connection."""


class Refused(Exception):
    """A login response with a status other than success; `.status` is class << 8 | detail."""

    def __init__(self, status):
        super().__init__(f"login refused with status {status:04x}")
        self.status = status


class ProtocolError(Exception):
    """The target sent what it must not."""


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def crc32c(data):
    """CRC32C as digests carry it (RFC 7143 13.1), little-endian bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def padded(data):
    """Data segments are padded to four bytes."""
    return data + bytes(-len(data) % 4)


def lun_field(lun):
    """Eight bytes, peripheral addressing below 256, else flat (SAM-5 4.7)."""
    return struct.pack(">H", lun if lun < 256 else 0x4000 | lun) + bytes(6)


def header(opcode, flags=0, *, data_length=0, ahs_words=0, lun=bytes(8), itt=0, rest=bytes(28), bytes2=b"\0\0"):
    """A basic header segment; `rest` is bytes 20 to 47, whose meaning depends on the opcode."""
    lengths = struct.pack(">I", (ahs_words << 24) | (data_length & 0xFFFFFF))
    built = bytes([opcode, flags]) + bytes2 + lengths + lun + struct.pack(">I", itt) + rest
    assert len(built) == 48
    return built


def text(pairs):
    """key=value pairs as a data segment."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


def untext(data):
    """The reverse; what is no pair is left out."""
    return dict(part.decode(errors="replace").split("=", 1) for part in data.split(b"\0") if b"=" in part)


class Connection:
    """One connection that is a session of its own."""

    def __init__(self, port, timeout=20.0, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.isid = b"\x80" + os.urandom(5)
        self.cmd_sn = 1
        self.exp_stat_sn = 0
        self.itt = 0
        self.header_digest = self.data_digest = False
        self.keys = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the socket; the session ends without a logout."""
        self.socket.close()

    def reset(self):
        """Ends with a TCP reset instead of an orderly close."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- bytes and PDUs ---------------------------------------------------------------------------------------------

    def send_raw(self, data):
        """Sends bytes as they are."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise Closed from gone

    def send(self, head, data=b"", spoil_header=False, spoil_data=False):
        """Sends one PDU with the digests that were negotiated, spoilt if asked for."""
        out = head
        if self.header_digest:
            digest = crc32c(head)
            out += bytes([digest[0] ^ 0xFF]) + digest[1:] if spoil_header else digest
        if data:
            body = padded(data)
            out += body
            if self.data_digest:
                digest = crc32c(body)
                out += bytes([digest[0] ^ 0xFF]) + digest[1:] if spoil_data else digest
        self.send_raw(out)

    def _take(self, length):
        taken = bytearray()
        while len(taken) < length:
            try:
                part = self.socket.recv(min(length - len(taken), 1 << 18))
            except ConnectionResetError as gone:
                raise Closed from gone
            if not part:
                raise Closed
            taken += part
        return bytes(taken)

    def receive(self):
        """One PDU: (header, data). Answers pings by itself and shows them to nobody."""
        while True:
            head = self._take(48)
            ahs = self._take(4 * head[4])
            if self.header_digest and crc32c(head + ahs) != self._take(4):
                raise ProtocolError("wrong header digest from the target")
            length = int.from_bytes(head[5:8], "big")
            data = self._take(length + -length % 4)
            if self.data_digest and length and crc32c(data) != self._take(4):
                raise ProtocolError("wrong data digest from the target")
            opcode = head[0] & 0x3F
            if opcode in (SCSI_RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, LOGOUT_RESPONSE, REJECT, ASYNC) or (
                opcode == DATA_IN and head[1] & 1
            ):
                self.exp_stat_sn = (int.from_bytes(head[24:28], "big") + 1) & 0xFFFFFFFF
            if opcode == NOP_IN and head[20:24] != b"\xff\xff\xff\xff":
                self.send(header(NOP_OUT | IMMEDIATE, FINAL, lun=head[8:16], itt=NO_TAG,
                                 rest=head[20:24] + struct.pack(">II", self.cmd_sn, self.exp_stat_sn) + bytes(16)))
                continue
            return head, data[:length]

    def next_itt(self):
        """A new initiator task tag."""
        self.itt += 1
        return self.itt

    # --- login ------------------------------------------------------------------------------------------------------

    def login_header(self, flags, length, versions=b"\0\0", itt=0):
        """The header of a Login request; the ISID stands where other PDUs have the LUN."""
        return header(LOGIN | IMMEDIATE, flags, data_length=length, lun=self.isid + b"\0\0", itt=itt, bytes2=versions,
                      rest=b"\0\0\0\0" + struct.pack(">II", self.cmd_sn, self.exp_stat_sn) + bytes(16))

    def login(self, initiator, target, digests=False, more=()):
        """From nothing to full feature phase in the operational stage."""
        digest = "CRC32C" if digests else "None"
        pairs = [("InitiatorName", initiator), ("SessionType", "Normal" if target else "Discovery")]
        if target:
            pairs.append(("TargetName", target))
        pairs += [
            ("HeaderDigest", digest), ("DataDigest", digest), ("MaxRecvDataSegmentLength", 262144),
            ("InitialR2T", "Yes"), ("ImmediateData", "Yes"), ("MaxBurstLength", 262144),
            ("FirstBurstLength", 65536), ("MaxOutstandingR2T", 1), ("MaxConnections", 1),
            ("ErrorRecoveryLevel", 0), ("DefaultTime2Wait", 2), ("DefaultTime2Retain", 0), *more,
        ]
        data = text(pairs)
        # Operational stage to full feature phase at once: CSG 1, NSG 3.
        self.send(self.login_header(FINAL | 0x04 | 0x03, len(data)), data)
        for _ in range(16):
            head, answer = self.receive()
            if head[0] & 0x3F != LOGIN_RESPONSE:
                raise ProtocolError(f"opcode {head[0]:#x} during login")
            if head[36]:
                raise Refused(head[36] << 8 | head[37])
            self.keys.update(untext(answer))
            if head[1] & 0x83 == 0x83:
                self.header_digest = self.keys.get("HeaderDigest") == "CRC32C"
                self.data_digest = self.keys.get("DataDigest") == "CRC32C"
                self.cmd_sn = max(self.cmd_sn, int.from_bytes(head[28:32], "big"))
                return self
            self.send(self.login_header(FINAL | 0x04 | 0x03, 0))
        raise ProtocolError("login does not end")

    # --- commands ---------------------------------------------------------------------------------------------------

    def command_header(self, lun, cdb, *, read=0, write=0, immediate=0, itt=None, cmd_sn=None, flags=None):
        """The header of a SCSI Command; takes the next CmdSN unless one is given."""
        if cmd_sn is None:
            cmd_sn, self.cmd_sn = self.cmd_sn, (self.cmd_sn + 1) & 0xFFFFFFFF
        if flags is None:
            flags = FINAL | (0x40 if read else 0) | (0x20 if write else 0) | 0x01
        return header(SCSI_COMMAND, flags, data_length=immediate, lun=lun if isinstance(lun, bytes) else lun_field(lun),
                      itt=self.next_itt() if itt is None else itt,
                      rest=struct.pack(">III", read or write, cmd_sn, self.exp_stat_sn) + cdb.ljust(16, b"\0"))

    def scsi(self, lun, cdb, read=0, write=b"", spoil_data=False):
        """One command to its end: (status, (key, asc, ascq) or None, data)."""
        first = min(len(write), int(self.keys.get("FirstBurstLength", 65536)),
                    int(self.keys.get("MaxRecvDataSegmentLength", 8192)))
        if self.keys.get("ImmediateData") == "No":
            first = 0
        head = self.command_header(lun, cdb, read=read, write=len(write), immediate=first)
        self.send(head, write[:first], spoil_data=spoil_data)
        return self.finish(head, write, read)

    def finish(self, head, write=b"", read=0):
        """Serves R2Ts and takes data until the command whose header this is has its status."""
        tag = head[16:20]
        taken = bytearray(read)
        while True:
            answer, data = self.receive()
            opcode = answer[0] & 0x3F
            if opcode == REJECT:
                raise ProtocolError(f"rejected with reason {answer[2]:#x}")
            if answer[16:20] != tag:
                if opcode in (ASYNC, NOP_IN):
                    continue
                raise ProtocolError(f"opcode {opcode:#x} for another task")
            if opcode == R2T:
                self._answer_r2t(answer, write)
            elif opcode == DATA_IN:
                offset = int.from_bytes(answer[40:44], "big")
                if offset + len(data) > read:
                    raise ProtocolError("more data than asked for")
                taken[offset:offset + len(data)] = data
                if answer[1] & 1:
                    return answer[3], None, bytes(taken)
            elif opcode == SCSI_RESPONSE:
                sense = None
                if answer[3] == CHECK_CONDITION and len(data) >= 16:
                    found = data[2:]
                    # Fixed format has 70h, descriptor format 72h (SPC-5 4.5).
                    sense = (found[2] & 15, found[12], found[13]) if found[0] & 0x7E == 0x70 else (found[1] & 15, found[2], found[3])
                return answer[3], sense, bytes(taken)
            else:
                raise ProtocolError(f"opcode {opcode:#x} in answer to a command")

    def _answer_r2t(self, r2t, write):
        offset = int.from_bytes(r2t[40:44], "big")
        end = offset + int.from_bytes(r2t[44:48], "big")
        limit = int(self.keys.get("MaxRecvDataSegmentLength", 8192))
        if end > len(write):
            raise ProtocolError("an R2T beyond the data")
        number = 0
        while offset < end:
            part = write[offset:min(offset + limit, end)]
            last = offset + len(part) == end
            self.send(header(DATA_OUT, FINAL if last else 0, data_length=len(part), lun=r2t[8:16],
                             itt=int.from_bytes(r2t[16:20], "big"),
                             rest=r2t[20:24] + struct.pack(">IIIIII", 0, self.exp_stat_sn, 0, number, offset, 0)), part)
            offset += len(part)
            number += 1

    def ready(self, lun, seconds=20):
        """TEST UNIT READY until it is, past unit attentions."""
        deadline = time.monotonic() + seconds
        while self.scsi(lun, bytes(6))[0] != GOOD:
            if time.monotonic() > deadline:
                raise ProtocolError("unit does not become ready")
        return self

    def capacity(self, lun):
        """(number of blocks, block size), READ CAPACITY (16)."""
        status, sense, data = self.scsi(lun, bytes([0x9E, 0x10]) + bytes(8) + struct.pack(">I", 32), read=32)
        if status != GOOD:
            raise ProtocolError(f"READ CAPACITY: {status:#x} {sense}")
        return int.from_bytes(data[:8], "big") + 1, int.from_bytes(data[8:12], "big")


def read16(lba, blocks):
    """CDB of READ (16)."""
    return struct.pack(">BBQIBB", 0x88, 0, lba & (1 << 64) - 1, blocks, 0, 0)


def write16(lba, blocks, fua=False):
    """CDB of WRITE (16)."""
    return struct.pack(">BBQIBB", 0x8A, 8 if fua else 0, lba & (1 << 64) - 1, blocks, 0, 0)


def sync16():
    """CDB of SYNCHRONIZE CACHE (16) for the whole unit."""
    return struct.pack(">BBQIBB", 0x91, 0, 0, 0, 0, 0)
