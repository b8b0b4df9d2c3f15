#!/usr/bin/env python3
"""Options of a group are set by orders: of the array at hand and of the other one, once and at the generation that was named.

    ci/orders/options.py KAGAMID KAGAMI

A pair of arrays; a host gives `pair-set` to the command device of one. It is done once however often the same bytes come, also after
SIGKILL; not at another generation than the one that it names; not by who may not; and what is wrong with it is said.
"""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "replicate"))
from arrays import HOST, IQN, MIB, Failed, prove, wait  # noqa: E402
import kagami_orders as orders  # noqa: E402

KEY = secrets.token_hex(32)


def check(what, right, *more):
    if not right:
        raise Failed(f"{what}: {more}")


def host(array, key=True):
    device = orders.IscsiDevice("127.0.0.1", array.port, f"{IQN}:{array.name}", 10, HOST, None, None, 30.0)
    return orders.Host(device, operator="ops", key=KEY.encode() if key else None)


def run(site):
    tokyo, osaka = site.array("tokyo", size=4 * MIB), site.array("osaka", size=4 * MIB)
    site.link(tokyo, osaka)
    for array in site.arrays:
        secret = site.work / f"{array.name}.key"
        secret.write_text(KEY + "\n")
        os.chmod(secret, 0o600)
        array.write()
        with open(array.work / f"{array.name}.toml", "a", encoding="utf-8") as file:
            file.write(f'[[operator]]\nname = "ops"\nkey_file = "{secret}"\nrights = "operate"\n')
        array.start()
    site.meet()
    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0", "--wait")
    # That the group has begun is kept too, a moment later.
    wait("the group has begun", 10, lambda: "fresh" not in tokyo.kagami("config", "export").stdout)
    far = host(osaka).give("arrays")[0].array

    def option(array, key):
        return array.status()["options"][key]

    one = host(tokyo)
    done, data = one.give("pair-set", [("group", "erp"), ("option", "silence=5m"), ("option", "overflow=slow:20ms")])
    check("options were not set", done.word == "done" and b"silence=5m" in data, done.message)
    check("options are not what was set", (option(tokyo, "silence"), option(tokyo, "overflow")) == ("5m", "slow:20ms"))
    done, _ = one.give("pair-set", [("option", "hold=2s")], target=far)
    check("options of the other array were not set", done.word == "done" and option(osaka, "hold") == "2s", done.message)
    check("options of the wrong array were set", option(tokyo, "hold") == "0ms", option(tokyo, "hold"))
    site.say("options are set at the array at hand, and at the other one")

    for word, parameters in (("bad-parameter", [("option", "colour=blue")]), ("bad-parameter", [("option", "alone=perhaps")]),
                             ("bad-parameter", [("option", "hold")]), ("bad-parameter", [("option", "=3")]),
                             ("bad-parameter", [("option", "hold=1s"), ("option", "hold=2s")]), ("bad-parameter", []),
                             ("bad-parameter", [("option", "hold=1s"), ("wait", True)]), ("refused", [("option", "mode=host")]),
                             ("refused", [("group", "crm"), ("option", "hold=1s")])):
        before = one.give("arrays")[0].generation
        done, _ = one.give("pair-set", parameters)
        check(f"{parameters} was not refused as {word}", done.word == word and done.message, done.word, done.message)
        check(f"{parameters} changed something", one.give("arrays")[0].generation == before)
    done, _ = host(tokyo, key=False).give("pair-set", [("option", "silence=9m")])
    check("who may not set options did", done.word == "unauthorised" and option(tokyo, "silence") == "5m", done.word)
    site.say("what is wrong is refused, and changes nothing")

    now = one.give("arrays")[0].generation
    done, _ = one.give("pair-set", [("option", "silence=6m")], generation=now - 1)
    check("an old generation was taken", done.word == "stale" and option(tokyo, "silence") == "5m", done.word)
    request_id = secrets.token_bytes(16)
    looked = one.give("arrays")[0]
    record = orders.encode(orders.ORDERS["pair-set"], request_id, one.id, [("option", "silence=6m")], generation=now, operator="ops",
                           key=KEY.encode(), executing=looked.array, expires=int(time.time() * 1000) + 600_000)

    def give():
        """Those very bytes, and the result that they get."""
        again = host(tokyo)
        slot = orders.FIRST_SLOT + orders.SLOT * secrets.randbelow(again.slots)
        again.device.write(slot, record + bytes(-len(record) % again.device.block))
        return again.wait(slot, request_id, time.monotonic() + 20)

    first = give()
    check("it was not done", first.word == "done" and not first.flags & orders.REPLAYED, first.word, first.message)
    one.give("pair-set", [("option", "silence=7m")])
    tokyo.end(9)
    tokyo.start()
    wait("the group is back", 30, lambda: not tokyo.status()["recovering"])
    again = give()
    check("it was not answered from what is kept", again.word == "done" and again.flags & orders.REPLAYED, again.word, again.message)
    check("it was done twice", option(tokyo, "silence") == "7m", option(tokyo, "silence"))
    site.say("it is done once, over SIGKILL, and only at the generation that it names")

    via = f"iscsi://127.0.0.1:{tokyo.port}/{IQN}:tokyo/10"
    words = ["--via", via, "--operator", "ops", "--key-file", str(site.work / "tokyo.key")]
    for more, array, key in (([], tokyo, "alone"), (["--array", "osaka"], osaka, "alone")):
        ran = subprocess.run([site.kagami, *words, *more, "pair", "set", "erp", "alone=wait"], capture_output=True, text=True,
                             timeout=60, check=False)
        check("the tool does not set it", ran.returncode == 0 and option(array, key) == "wait", ran.stderr)
    site.say("and `kagami --via` gives it, to either array")


prove("options", run)
