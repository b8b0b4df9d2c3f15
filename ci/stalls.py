#!/usr/bin/env python3
"""Watches how long this machine's disk and processors keep a small task waiting, until SIGTERM.

Usage: stalls.py FOLDER

Virtual machines stand still now and then: their disk for seconds while others on the same hardware write, their
processors while others compute. A test whose command had no answer in time means something else then. So the stages run
beside this: every 0.2 s it writes one block into FOLDER and waits until it is stable; at the end it prints the longest
such write and the longest sleep that came too late, each with the time of day at which it ended.
"""

import os
import signal
import sys
import time

PERIOD = 0.2


class Stopped(Exception):
    """SIGTERM came."""


def stop(_signal, _frame):
    raise Stopped


def main() -> None:
    path = os.path.join(sys.argv[1], f"stalls.{os.getpid()}")
    longest = {"disk": (0.0, ""), "processor": (0.0, "")}

    def note(what: str, seconds: float) -> None:
        if seconds > longest[what][0]:
            longest[what] = (seconds, time.strftime("%H:%M:%S"))

    signal.signal(signal.SIGTERM, stop)
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    began, writing = time.monotonic(), False
    try:
        while True:
            began, writing = time.monotonic(), False
            time.sleep(PERIOD)
            note("processor", time.monotonic() - began - PERIOD)
            began, writing = time.monotonic(), True
            os.pwrite(file, os.urandom(4096), 0)
            os.fdatasync(file)
            note("disk", time.monotonic() - began)
    except Stopped:
        # What still waits counts too.
        if writing:
            note("disk", time.monotonic() - began)
    finally:
        os.unlink(path)
    said = ", ".join(f"{what} {seconds:.1f} s (at {at})" for what, (seconds, at) in longest.items() if at)
    print(f"kept waiting by this machine, at most: {said}", flush=True)


if __name__ == "__main__":
    main()
