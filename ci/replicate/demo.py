#!/usr/bin/env python3
"""Proves that `kagami demo` does what it says, and leaves nothing behind however it ends.

    demo.py KAGAMID KAGAMI

Once to its end; then with Ctrl-C or SIGTERM at any moment: its arrays end, and its folder goes.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def arrays_of(folder):
    """Processes that were told of a configuration in that folder."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(os.fsencode(folder) + b"/") for word in words[1:]):
            found.append(int(process.name))
    return found


def clean(what, folder):
    left = [path.name for path in folder.iterdir()]
    if left or arrays_of(folder):
        sys.exit(f"demo: {what}: left behind: {left}, processes {arrays_of(folder)}")


def main():
    kagamid, kagami = sys.argv[1:3]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kagami-demo-test-"))
    command = [kagami, "demo", "--kagamid", kagamid, "--load", "1s"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    begun = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    took = time.monotonic() - begun
    if done.returncode or "both sides are equal" not in done.stdout:
        sys.exit(f"demo: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    clean("at its end", folder)
    print(f"the demonstration took {took:.1f} s", flush=True)
    for number in range(3):
        how, after = random.choice((signal.SIGINT, signal.SIGTERM)), 0.2 + random.random() * min(took * 0.9, 6) * (number > 0)
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
            time.sleep(after)
            demo.send_signal(how)
            said = demo.communicate(timeout=90)[1]
        what = f"{how.name} after {after:.2f} s"
        # It may have ended by itself just before, or not begun.
        if demo.returncode not in (128 + how, 0, -how):
            sys.exit(f"demo: {what}: exit code {demo.returncode}: {said}")
        clean(what, folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
