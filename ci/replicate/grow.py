#!/usr/bin/env python3
"""Proves that a group changes while it lives: a volume joins, volumes grow, options change, and all of that survives SIGKILL.

    grow.py KAGAMID KAGAMI
"""

import struct
import sys

sys.dont_write_bytecode = True
from arrays import BLOCK, MIB, Array, Failed, Host, Load, prove, same  # noqa: E402


class Durable(Host):
    """A host whose writes are stable when they are answered (FUA), as arrays die under it."""

    def write(self, device, at):
        data = self.block(at)
        self.content[at] = self.content.get(at, {bytes(BLOCK)}) | {data}
        blocks = BLOCK // device.block
        device.good(struct.pack(">BBQIxx", 0x8A, 0x08, at * blocks, blocks), write=data)
        self.content[at] = {data}


def paired(tokyo, osaka):
    tokyo.state("PAIR", role="primary")
    return osaka.state("PAIR", role="secondary")


def refused(array, *words, says):
    done = array.kagami(*words, codes=(2, 3))
    if says not in done.stderr:
        raise Failed(f"kagami {' '.join(words)} does not say {says!r}: {done.stderr}")


def arrived(tokyo, osaka, luns):
    tokyo.kagami("marker", "erp", "here", "--wait")
    same("after all", tokyo, osaka, luns, read=Array.read)


def run(site):
    tokyo, osaka = site.array("tokyo", size=8 * MIB), site.array("osaka", size=8 * MIB)
    site.link(tokyo, osaka)
    for array in site.arrays:
        array.write()
        array.start()
    site.meet()
    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0")
    paired(tokyo, osaka)

    osaka.kagami("pair", "set", "erp", "secondary_access=read", "pace=gentle", "bandwidth=200MiB")
    tokyo.kagami("pair", "set", "erp", "overflow=slow:20ms", "silence=5m")
    options = osaka.status()["options"]
    if (options["secondary_access"], options["pace"], options["bandwidth"]) != ("read", "gentle", "200MiB"):
        raise Failed(f"options are not what was set: {options}")
    refused(tokyo, "pair", "set", "erp", "mode=host", says="split it first")
    refused(tokyo, "pair", "set", "erp", "colour=blue", says="no option colour")
    refused(tokyo, "pair", "set", "erp", "alone=perhaps", says="serve or wait")
    osaka.read(0)
    site.say("options change at once")

    hosts = [Durable(tokyo, lun) for lun in (0, 1)]
    loads = [Load(host, seed, pause=0.002) for seed, host in enumerate(hosts)]
    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:1", "--secondary", "osaka:1")
    status = paired(tokyo, osaka)
    if len(status["pairs"]) != 2:
        raise Failed(f"there are not two pairs: {status['pairs']}")
    again = ("pair", "create", "--group", "erp", "--primary", "tokyo:1", "--secondary", "osaka:1")
    tokyo.kagami(*again, codes=(12,))
    count = sum(load.good() for load in loads)
    arrived(tokyo, osaka, (0, 1))
    site.say(f"a volume joins a group; {count} writes went on meanwhile")

    refused(tokyo, "volume", "grow", "db", "--size", "12MiB", says="split it first")
    loads = [Load(host, seed, pause=0.002) for seed, host in enumerate(hosts)]
    tokyo.kagami("pair", "split", "erp")
    osaka.kagami("volume", "grow", "db", "--size", "12MiB")
    refused(tokyo, "pair", "resync", "erp", says="differ")
    tokyo.kagami("volume", "grow", "db", "--size", "12MiB")
    count = sum(load.good() for load in loads)
    # On what is new, before the resync and after it.
    device = hosts[0].device()
    if device.size != 12 * MIB:
        raise Failed(f"hosts see {device.size} bytes")
    for at in range(8 * MIB // BLOCK, 12 * MIB // BLOCK, 7):
        hosts[0].write(device, at)
    for array in site.arrays:
        array.end(9)
        array.start()
    tokyo.state("PSUS", recovering=False)
    tokyo.kagami("pair", "resync", "erp")
    paired(tokyo, osaka)
    for at in range(8 * MIB // BLOCK, 12 * MIB // BLOCK, 5):
        hosts[0].write(hosts[0].device(), at)
    arrived(tokyo, osaka, (0, 1))
    for host in hosts:
        host.check("after growing", osaka, osaka.read(host.lun))
    site.say(f"a volume grows at both arrays, over two SIGKILLs; {count} writes went on meanwhile")

    for array in site.arrays:
        array.end(9)
        array.start()
    status = paired(tokyo, osaka)
    sizes = [pair["size_bytes"] for pair in status["pairs"]]
    if sizes != [12 * MIB, 8 * MIB] or status["options"]["pace"] != "gentle":
        raise Failed(f"after a restart: {sizes}, {status['options']}")
    arrived(tokyo, osaka, (0, 1))
    tokyo.kagami("pair", "swap", "erp", codes=(10,))
    osaka.state("PAIR", role="primary")
    tokyo.state("PAIR", role="secondary")
    site.say("all of it is there after a restart, and a swap goes on with it")


prove("grow", run)
