#!/usr/bin/env python3
"""Proves `kagami --via` with the programs themselves: two arrays, of which the host sees only the first.

    ci/orders/tool.py KAGAMID KAGAMI [--hosts N]

Lists, changes and refusals over an initiator of the tool's own: with exit codes, signatures, CHAP, and orders that the
second array executes; an array that is killed under an order that is kept and given again; many tools at once; and that
completions and man pages are made.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
from kill import free_port  # noqa: E402

HOST = "iqn.2026-11.io.kagami:host"
CHAPPED = "iqn.2026-11.io.kagami:chapped"
SECRET = "chap-secret-1234"
CONFIG = """
[array]
name = "{name}"
iqn = "iqn.2026-11.io.kagami:{name}"
data = "{folder}/{name}"
listen = ["127.0.0.1:{port}"]
admin = "{folder}/{name}.sock"
cache = "64MiB"
cores = [0]
max_volumes = 512
[[volume]]
lun = 0
name = "db"
backend = "ram"
size = "8MiB"
[[volume]]
lun = 1
name = "orders"
role = "command"
[[initiator]]
iqn = "{host}"
luns = [{luns}]
rights = "read"
[[initiator]]
iqn = "{chapped}"
luns = [1]
rights = "admin"
chap = {{ user = "me", secret_file = "{folder}/chap" }}
[[operator]]
name = "ops"
key_file = "{folder}/ops.key"
rights = "admin"
[[operator]]
name = "only-{name}"
key_file = "{folder}/{name}.key"
rights = "admin"
[[pool]]
name = "pool"
path = "{folder}/{name}-pool"
size = "1GiB"
[[peer]]
name = "{peer}"
portal = "127.0.0.1:{peer_port}"
iqn = "iqn.2026-11.io.kagami:{peer}"
luns = [0]
"""
VIRTUAL = """
[[virtual]]
lun = 30
peer = "osaka"
mapped_lun = 1
role = "command"
"""


class Array:
    def __init__(self, program, folder, name, port):
        self.program, self.config, self.log, self.port = program, folder / f"{name}.toml", folder / f"{name}.log", port
        self.name = name

    def start(self):
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([self.program, "--config", self.config], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while "\nready" not in "\n" + self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.name} does not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        return self

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def via(self, lun=1, user="", ports=()):
        places = ",".join(f"127.0.0.1:{port}" for port in (*ports, self.port))
        return f"iscsi://{user}{places}/iqn.2026-11.io.kagami:{self.name}/{lun}"


class Tool:
    """Runs `kagami`, and expects of it an exit code and words."""

    def __init__(self, program, folder):
        self.program, self.signed = program, ["--operator", "ops", "--key-file", str(folder / "ops.key")]
        self.runs = 0

    def run(self, via, words, before=(), env=None, signed=False):
        command = [self.program, *before, "--via", via, *words.split(), *(self.signed if signed else [])]
        self.runs += 1
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False,
                              env={**os.environ, **(env or {})})

    def __call__(self, via, words, code=0, says="", **more):
        done = self.run(via, words, **more)
        said = done.stdout + done.stderr
        if done.returncode != code or says not in said:
            raise SystemExit(f"kagami --via {via} {words} {more}\nended with {done.returncode}, not {code} and '{says}':\n{said}")
        if code and len(done.stderr.splitlines()) != 1:
            raise SystemExit(f"{words}: the error is not one line: {done.stderr}")
        return done.stdout

    def json(self, via, words, **more):
        found = json.loads(self(via, words + " --json", **more))
        assert found["schema"] == 1, found
        return found


def one_array(tool, tokyo, folder):
    via = tokyo.via()
    arrays = tool.json(via, "arrays")["arrays"]
    assert [array["name"] for array in arrays] == ["tokyo", "osaka"], arrays
    # What comes through the command device is what the admin socket says.
    socket = f"unix:{folder}/tokyo.sock"
    for words in ("luns", "tables"):
        assert tool.json(via, words) == tool.json(socket, words), words
    names = [volume["name"] for volume in tool.json(via, "volumes")["volumes"]]
    assert names == [volume["name"] for volume in tool.json(socket, "volumes")["volumes"]] == ["db", "orders"], names
    assert tool.json(via, "stats")["cores"], "no cores"
    tool(via, "tables", says="tokyo")

    tool(via, "volume create a --size 4MiB", 3, "unauthorised")
    tool(via, "volume create a --size 4MiB", 0, "create volume a", signed=True)
    tool(via, "volume create a --size 4MiB", 3, "a", signed=True)
    tool(via, "volume resize a --size 8MiB", 0, "8MiB", signed=True)
    assert [v["size_bytes"] for v in tool.json(socket, "volumes")["volumes"] if v["name"] == "a"] == [8 << 20]
    tool(via, "volume resize a --size 2GiB", 3, signed=True)
    generation = arrays[0]["generation"]
    tool(via, f"volume resize a --size 9MiB --generation {generation}", 3, "stale", signed=True)
    tool(via, f"volume mask a {HOST}", 3, signed=True)
    tool(via, "volume delete a", 0, "remove volume a", signed=True)
    tool(via, "volume delete a", 2, signed=True)

    # CHAP: from a file, the environment, the address with a warning; a portal that is not there is passed over.
    named = tokyo.via(user="me@")
    me = ["--initiator", CHAPPED]
    tool(named, f"volume create b --size 1MiB --secret-file {folder}/chap", before=me)
    tool(named, "arrays", before=me, env={"KAGAMI_SECRET": SECRET})
    tool(named, "arrays", 5, "authentication", before=me, env={"KAGAMI_SECRET": "another-secret"})
    tool(named, "arrays", 2, "no secret", before=me)
    tool(tokyo.via(user=f"me%{SECRET}@", ports=[1]), "volume delete b", 0, "warning", before=me)

    # What is no command device, or not there.
    tool(tokyo.via(lun=0), "arrays", 2, "not a command device")
    tool(tokyo.via(lun=7), "arrays", 5, "no LUN 7")
    tool("iscsi://127.0.0.1:1/iqn.x/1", "arrays", 5, "refused")
    tool(via.replace("tokyo", "nobody"), "arrays", 5, "not found")
    tool("/dev/null", "arrays", 2, "no block device")
    tool("sdb", "arrays", 2, "--via takes")
    tool(via, "sessions", 2, "admin socket")
    tool(via, "volume create c --path /x --size 1MiB", 2, "pools", signed=True)


def two_arrays(tool, tokyo, osaka, folder):
    """The host gives its orders to tokyo; osaka executes them."""
    via = tokyo.via()
    volumes = tool.json(via, "--array osaka volumes", signed=True)["volumes"]
    assert [volume["name"] for volume in volumes] == ["db", "orders"], volumes
    tool(via, "--array osaka volumes", 3, "signature-needed")
    tool(via, "--array osaka volume create far --size 4MiB", 0, "create volume far", signed=True)
    tool(via, "volume resize osaka:2 --size 8MiB", 0, "8MiB", signed=True)
    # An operator whom only osaka knows.
    theirs = f"--operator only-osaka --key-file {folder}/osaka.key"
    assert tool.json(via, f"--array osaka volumes {theirs}")["volumes"]
    tool(via, f"volumes {theirs}", 3, "bad-signature")
    # Straight into osaka's command device, which tokyo serves as a virtual volume; and from osaka's own hosts.
    tool(tokyo.via(lun=30), "volume resize far --size 9MiB", 0, "9MiB", signed=True)
    assert [v["size_bytes"] for v in tool.json(osaka.via(), "volumes")["volumes"] if v["name"] == "far"] == [9 << 20]
    assert {row["array"]: row["lun"] for row in tool.json(via, "tables")["command_devices"]} == {"tokyo": 1, "osaka": 30}
    # A volume of osaka in tokyo's LUN map.
    tool(via, "lun map add far2 --peer osaka --mapped-lun 0 --lun 40", 3, "unauthorised")
    tool(via, "lun map add far2 --peer osaka --mapped-lun 0 --lun 40", 0, signed=True)
    row = [lun for lun in tool.json(via, "luns")["luns"] if lun["lun"] == 40]
    assert row and (row[0]["target_array"], row[0]["mapped_lun"]) == ("osaka", 0), row
    tool(via, "lun map remove far2", 0, signed=True)
    assert all(lun["lun"] != 40 for lun in tool.json(via, "luns")["luns"])
    tool(via, "--array nowhere stats", 5, "no array nowhere")
    tool(via, "--array 12345678-1234-4123-8123-123456789abc stats", 5, "unknown-array")
    osaka.kill()
    tool(via, "--array osaka --timeout 40s volumes", 5, signed=True)
    osaka.start()
    tool(via, "--array osaka volume delete far", 0, "remove volume far", signed=True)


def killed(tool, tokyo, folder):
    """An order is under way while the array is killed: the tool gives it again by itself, or by its kept record."""
    for turn in range(6):
        name = f"kept{turn}"
        words = f"volume create {name} --size 1MiB --record {folder}/record --timeout 60s"
        results = []

        def order():
            # Who was not let in before the kill has given nothing, and is told so at once.
            for _ in range(600):
                done = tool.run(tokyo.via(), words, signed=True)
                results.append(done)
                if done.returncode != 5:
                    return
                time.sleep(0.1)

        thread = threading.Thread(target=order)
        thread.start()
        time.sleep(0.01 * turn)
        tokyo.kill()
        tokyo.start()
        thread.join()
        assert f"create volume {name}" in results[-1].stdout, results
        assert not (folder / "record").exists(), "a record was kept after its result"
        volumes = tool.json(tokyo.via(), "volumes")["volumes"]
        assert sum(volume["name"] == name for volume in volumes) == 1, volumes
    # Nobody answers: a time-out, then the kept record once the array is back.
    tokyo.process.send_signal(signal.SIGSTOP)
    tool(tokyo.via(), f"volume create late --size 1MiB --record {folder}/record --timeout 1s", 5, signed=True)
    tokyo.process.send_signal(signal.SIGCONT)
    tool(tokyo.via(), f"volume create late --size 1MiB --record {folder}/record", 0, "create volume late", signed=True)


def crowd(tool, tokyo, hosts):
    """Each of many tools makes a volume, all at once: every change meets others' generations."""
    failures = []

    def run(number):
        try:
            tool(tokyo.via(), f"volume create crowd{number} --size 1MiB --timeout 120s", signed=True)
            tool(tokyo.via(), "volumes --timeout 120s")
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} of {hosts} failed, one so: {failures[0]}")
    names = {volume["name"] for volume in tool.json(tokyo.via(), "volumes")["volumes"]}
    assert all(f"crowd{number}" in names for number in range(hosts)), names


def others(programs, folder):
    """Completions and pages of the other programs."""
    for program, options, verb in programs:
        for shell, sign in (("bash", "COMPREPLY"), ("zsh", f"#compdef {program.name}"), ("fish", f"complete -c {program.name}")):
            said = subprocess.run([program, f"{options}completions", shell], stdout=subprocess.PIPE, check=True, text=True).stdout
            assert sign in said and verb in said, (program.name, shell)
            if shell == "bash":
                subprocess.run(["bash", "-n"], input=said, text=True, check=True)
        pages = folder / f"man-{program.name}"
        pages.mkdir()
        subprocess.run([program, f"{options}man", pages], check=True)
        assert (pages / f"{program.name}.1").read_text().find(verb) > 0, program.name
        failed = subprocess.run([program, f"{options}man", pages / "none"], capture_output=True, text=True)
        assert failed.returncode == 1 and "must exist" in failed.stderr and failed.stderr.count("\n") == 1, failed


def shells(program, folder):
    for shell, check in (("bash", ["bash", "-n"]), ("zsh", None), ("fish", None)):
        script = folder / f"kagami.{shell}"
        script.write_bytes(subprocess.run([program, "completions", shell], stdout=subprocess.PIPE, check=True).stdout)
        assert script.stat().st_size > 1000, shell
        if check:
            subprocess.run([*check, script], check=True)
    # Bash, asked: what may follow `kagami volume cr`?
    ask = f'source {folder}/kagami.bash; COMP_WORDS=(kagami volume cr); COMP_CWORD=2; _kagami kagami cr volume; echo "${{COMPREPLY[@]}}"'
    found = subprocess.run(["bash", "-c", ask], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "create" in found, found
    pages = folder / "man"
    pages.mkdir()
    subprocess.run([program, "man", pages], check=True)
    found = {page.name for page in pages.iterdir()}
    assert {"kagami.1", "kagami-volume-create.1", "kagami-lun-map-add.1", "kagami-tables.1"} <= found, found
    for page in pages.iterdir():
        assert re.match(r"\.ie|\.TH", page.read_text()), page
    return len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kagamid", type=Path)
    parser.add_argument("kagami", type=Path)
    parser.add_argument("--hosts", type=int, default=64)
    args = parser.parse_args()
    kagamid, kagami = args.kagamid.resolve(), args.kagami.resolve()
    running = []
    with tempfile.TemporaryDirectory(prefix="kagami-tool-") as name:
        folder = Path(name)
        for file, text in (("chap", SECRET), ("ops.key", "an-operator's-key-of-32-characters"),
                           ("tokyo.key", "the-key-of-tokyo's-operator"), ("osaka.key", "the-key-of-osaka's-operator")):
            (folder / file).write_text(text + "\n")
            (folder / file).chmod(0o600)
        ports = {"tokyo": free_port(), "osaka": free_port()}
        try:
            for array, peer in (("osaka", "tokyo"), ("tokyo", "osaka")):
                virtual = VIRTUAL if array == "tokyo" else ""
                luns = "0, 1, 30" if virtual else "0, 1"
                (folder / f"{array}.toml").write_text(CONFIG.format(
                    name=array, folder=folder, port=ports[array], host=HOST, chapped=CHAPPED, luns=luns, peer=peer,
                    peer_port=ports[peer]) + virtual)
                running.append(Array(kagamid, folder, array, ports[array]).start())
            osaka, tokyo = running
            tool = Tool(kagami, folder)
            one_array(tool, tokyo, folder)
            two_arrays(tool, tokyo, osaka, folder)
            killed(tool, tokyo, folder)
            crowd(tool, tokyo, args.hosts)
            pages = shells(kagami, folder)
            others([(kagamid, "--", "config")] + [(bench, "", "verify") for bench in [kagamid.parent / "kagami-bench"] if bench.exists()],
                   folder)
        finally:
            for array in running:
                array.kill()
    print(f"the tool: {tool.runs} runs, {args.hosts} at once, 2 arrays, 7 kills; 3 completions, {pages} man pages")


if __name__ == "__main__":
    main()
