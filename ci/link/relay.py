#!/usr/bin/env python3
"""Stands between two arrays and cuts what goes through it.

    relay.py LISTEN_PORT TARGET_PORT

Says `ready` when it listens. Every line on its standard input is an order: `cut` resets all connections, `down` does that
and refuses new ones, `up` takes them again, `hang` goes on without passing a byte, `pass` goes on. Each is answered with a
line: how many connections there were. Ends with its standard input.
"""

import selectors
import socket
import struct
import sys


class Relay:
    def __init__(self, listen: int, target: int) -> None:
        self.target = target
        self.selector = selectors.DefaultSelector()
        self.pairs: dict[socket.socket, socket.socket] = {}
        self.waiting: dict[socket.socket, bytearray] = {}
        self.taken = 0
        self.down = False
        self.hangs = False
        self.listener = socket.create_server(("127.0.0.1", listen), backlog=64)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    def accept(self) -> None:
        here, _ = self.listener.accept()
        if self.down:
            reset(here)
            return
        try:
            there = socket.create_connection(("127.0.0.1", self.target), timeout=2)
        except OSError:
            reset(here)
            return
        self.taken += 1
        self.pairs[here], self.pairs[there] = there, here
        for one in (here, there):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
            self.waiting[one] = bytearray()
            if not self.hangs:
                self.selector.register(one, selectors.EVENT_READ)

    def drop(self, one: socket.socket) -> None:
        for end in (one, self.pairs.pop(one, None)):
            if end is not None and end in self.waiting:
                self.pairs.pop(end, None)
                del self.waiting[end]
                if not self.hangs:
                    self.selector.unregister(end)
                reset(end)

    def watch(self, one: socket.socket) -> None:
        """An end is read while its other end takes what comes, and written while something waits for it."""
        events = 0
        if not self.hangs:
            events |= selectors.EVENT_READ if len(self.waiting[self.pairs[one]]) < 1 << 20 else 0
            events |= selectors.EVENT_WRITE if self.waiting[one] else 0
        # A selector knows no empty interest; an end that is not listened to is still known to it.
        self.selector.modify(one, events or selectors.EVENT_WRITE)

    def serve(self, one: socket.socket, mask: int) -> None:
        if self.hangs or one not in self.waiting:
            return
        other = self.pairs[one]
        try:
            if mask & selectors.EVENT_READ:
                data = one.recv(1 << 18)
                if not data:
                    self.drop(one)
                    return
                self.waiting[other] += data
            for end in (other, one):
                if self.waiting[end]:
                    sent = end.send(self.waiting[end])
                    del self.waiting[end][:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.drop(one)
            return
        self.watch(one)
        self.watch(other)

    def order(self, word: str) -> None:
        count = len(self.pairs) // 2
        if word in ("cut", "down"):
            for one in list(self.pairs):
                self.drop(one)
        self.down = {"down": True, "up": False}.get(word, self.down)
        if word in ("hang", "pass"):
            self.hangs = word == "hang"
            for one in list(self.pairs):
                if self.hangs:
                    self.selector.unregister(one)
                else:
                    self.selector.register(one, selectors.EVENT_READ)
                    self.watch(one)
        print(count, flush=True)

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for key, mask in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self.order(line.strip())
                else:
                    self.serve(key.fileobj, mask)


def reset(one: socket.socket) -> None:
    """Closes it so that the other end hears of it at once."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    one.close()


if __name__ == "__main__":
    Relay(int(sys.argv[1]), int(sys.argv[2])).run()
