#!/usr/bin/env python3
"""Proves what an operator does with groups beside their life: each as a user would.

    cycle.py KAGAMID KAGAMI

The cycle that a host drives, at either array; a restore to a marker, a place and a time; a holding time, and a takeover before the
damage; what the dry runs say; two groups of different peers, one of which hangs; two groups that share the way; a limit of
bandwidth; the pace of a copy, and thresholds of the journal's use.
"""

import datetime
import json
import random
import re
import signal
import struct
import sys
import time

sys.dont_write_bytecode = True
from arrays import BLOCK, MIB, Array, Failed, Host, Load, prove, same, wait  # noqa: E402
from story import LUNS, Story, prefix  # noqa: E402

ERP = ("--primary", "tokyo:0", "--secondary", "osaka:0", "--primary", "tokyo:1", "--secondary", "osaka:1")


class Group:
    """Two arrays with a group of these options, made and paired; and what its primary is known to hold."""

    def __init__(self, site, options):
        self.site = site
        self.tokyo, self.osaka = site.array("tokyo", size=4 * MIB), site.array("osaka", size=4 * MIB)
        site.link(self.tokyo, self.osaka)
        for here, there in ((self.tokyo, self.osaka), (self.osaka, self.tokyo)):
            here.groups["erp"] = (there.name, 'secondary_access = "read"\n' + options)
            here.write()
            here.start()
        site.meet()
        self.tokyo.kagami("pair", "create", "--group", "erp", *ERP)
        self.truth = {lun: bytes(4 * MIB) for lun in LUNS}

    def paired(self):
        self.tokyo.state("PAIR", role="primary")
        self.osaka.state("PAIR", role="secondary")

    def story(self, seconds=0.3):
        """A host writes for a while, and ends well."""
        story = Story(self.tokyo, random.random(), fua=False)
        time.sleep(seconds)
        story.stop()
        if story.trouble:
            raise Failed(f"a host of the primary was refused: {story.trouble}")
        return story

    def found(self, array):
        return {lun: array.read(lun) for lun in LUNS}

    def exactly(self, what, *stories):
        """The secondary holds what these wrote, and nothing that came later."""
        writes = [write for story in stories for write in story.writes]
        prefix(what, self.truth, writes, self.found(self.osaka), len(writes))

    def end(self):
        for array in (self.tokyo, self.osaka):
            array.kagami("pair", "delete", "erp", "--here", codes=(0, 3, 12))
            array.end()
            for file in array.work.glob(f"{array.name}*.img"):
                file.unlink()
        self.site.arrays.clear()
        for relay in self.site.relays.values():
            relay.end()
        self.site.relays.clear()


def by_hand(site):
    """Nothing moves by itself with mode = "host"."""
    group = Group(site, 'mode = "host"')
    group.osaka.state("COPY", "PAIR", role="secondary")

    def formed():
        group.osaka.kagami("journal", "cycle", "erp", "--until-empty")
        return group.osaka.status()["state"] == "PAIR" and group.tokyo.status()["state"] == "PAIR"
    wait("the cycle brings it into PAIR", 30, formed)
    for array in (group.tokyo, group.osaka):
        first = group.story()
        time.sleep(0.3)
        group.exactly("before the cycle")
        array.kagami("journal", "cycle", "erp", "--until-empty")
        group.exactly(f"after the cycle from {array.name}", first)
        group.truth = group.found(group.tokyo)
        same("after the cycle", group.tokyo, group.osaka, LUNS, read=Array.read)
    site.say("a host drives the cycle, from either array")

    before = group.story()
    group.tokyo.kagami("marker", "erp", "before-upgrade")
    after = group.story()
    acquire(group, group.osaka)
    group.exactly("read, not restored")
    group.osaka.kagami("journal", "restore", "erp", "--to-marker", "before-upgrade")
    group.exactly("restored to the marker", before)
    place = read(group)
    third = group.story()
    moment = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.1)
    fourth = group.story()
    acquire(group, group.tokyo)
    group.osaka.kagami("journal", "restore", "erp", "--to-pos", str(place))
    group.exactly("restored to a place", before, after)
    group.tokyo.kagami("journal", "restore", "erp", "--to-time", moment.isoformat().replace("+00:00", "Z"))
    group.exactly("restored to a time", before, after, third)
    group.osaka.kagami("journal", "restore", "erp", "--to-marker", "nobody-gave-it", codes=(1, 3))
    group.exactly("a marker that is not there", before, after, third)
    out = group.tokyo.status()["positions"]["out"]["offset"]
    group.tokyo.kagami("journal", "purge", "erp")
    wait("the purge frees what the secondary has", 10, lambda: group.tokyo.status()["positions"]["out"]["offset"] > out)
    group.exactly("after the purge", before, after, third)
    # A takeover completes what was read: the rest is there.
    dry = group.osaka.kagami("pair", "takeover", "erp", "--dry-run", codes=(0, 12)).stdout
    site.say(f"restored to a marker, a place, a time; a takeover would: {' '.join(dry.split())}")
    group.osaka.kagami("journal", "cycle", "erp", "--until-empty")
    group.exactly("all of it", before, after, third, fourth)
    group.end()


def read(group):
    return group.osaka.status()["positions"]["read"]["offset"]


def end(group):
    return group.tokyo.status()["positions"]["in"]["offset"]


def arrived(group, written):
    wait("it is read", 10, lambda: read(group) >= written)


def acquire(group, at):
    """Ordered at one of the arrays; polled until it is there."""
    written = end(group)
    at.kagami("journal", "acquire", "erp")
    arrived(group, written)


def holding(site):
    """What is younger than the holding time waits: a takeover stops before the damage."""
    group = Group(site, 'hold = "60s"')
    group.paired()
    good = group.story()
    group.tokyo.kagami("marker", "erp", "good")
    group.story()
    written = end(group)
    arrived(group, written)
    group.exactly("held back")
    # The operator restores to the last good moment, and takes over there.
    group.osaka.kagami("journal", "restore", "erp", "--to-marker", "good")
    group.exactly("the last good moment", good)
    group.tokyo.end(9)
    dry = group.osaka.kagami("pair", "takeover", "erp", "--dry-run").stdout
    if not re.search(r"\d+ writes|\d+ bytes|\d+ s", dry):
        raise Failed(f"the dry run does not say what would be lost: {dry}")
    group.osaka.kagami("pair", "takeover", "erp", codes=(11,))
    group.exactly("taken over before the damage", good)
    site.say(f"a holding time, and a takeover before the damage; it said: {' '.join(dry.split())}")
    group.tokyo.start()
    group.end()


def said(site):
    """Dry runs change nothing, and say what would be lost."""
    group = Group(site, "")
    group.paired()
    group.story()
    group.tokyo.kagami("marker", "erp", "arrived", "--wait")
    site.cut("down")
    late = group.story()
    generation = group.osaka.status()["generation"]
    dry = group.osaka.kagami("pair", "takeover", "erp", "--dry-run").stdout
    # It says soon that it speaks of what it heard last.
    time.sleep(2.3)
    soon = group.tokyo.kagami("pair", "swap", "erp", "--dry-run", codes=(0, 3, 5))
    if soon.returncode == 0 and "not been heard of for" not in soon.stdout:
        raise Failed(f"a dry run of a swap takes the peer to be there: {soon.stdout}")
    wait("the peer is missed", 20, lambda: group.tokyo.status()["peer_error"])
    swap = group.tokyo.kagami("pair", "swap", "erp", "--dry-run", codes=(3, 5))
    site.cut("up")
    wait("all has arrived", 20, lambda: group.tokyo.kagami("marker", "erp", "later", "--wait", codes=()).returncode == 0)
    group.paired()
    if group.osaka.status()["generation"] != generation:
        raise Failed("a dry run changed the generation")
    ready = group.tokyo.kagami("pair", "swap", "erp", "--dry-run").stdout
    site.say(f"dry runs: takeover: {' '.join(dry.split())}; swap, cut off: {' '.join((swap.stdout + swap.stderr).split())}; "
             f"swap: {' '.join(ready.split())} ({len(late.writes)} writes were on their way)")
    group.end()


def peers(site):
    """A peer that hangs takes nothing from the groups of others, nor from its own group's hosts."""
    # Journals with room for all that is written while the peer hangs, however long a busy machine makes that.
    journal = 256 * MIB
    tokyo, osaka, kyoto = (site.array(name, size=8 * MIB, journal=journal) for name in ("tokyo", "osaka", "kyoto"))
    site.link(tokyo, osaka)
    site.link(tokyo, kyoto)
    tokyo.journals[21] = ("jnl1", journal, None)
    tokyo.groups = {"erp": ("osaka", ""), "crm": ("kyoto", "")}
    osaka.groups, kyoto.groups = {"erp": ("tokyo", "")}, {"crm": ("tokyo", "")}
    for array in site.arrays:
        array.write()
        array.start()
    site.meet()
    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0",
                 "--journal", "tokyo:20", "--secondary-journal", "osaka:20", "--wait")
    tokyo.kagami("pair", "create", "--group", "crm", "--primary", "tokyo:1", "--secondary", "kyoto:0",
                 "--journal", "tokyo:21", "--secondary-journal", "kyoto:20", "--wait")
    site.cut("hang", tokyo, kyoto)
    hosts = [Host(tokyo, 0), Host(tokyo, 1)]
    loads = [Load(host, 3 + host.lun, pause=0.002) for host in hosts]
    took = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        begun = time.monotonic()
        tokyo.kagami("marker", "erp", f"m{time.monotonic_ns()}", "--wait")
        took.append(time.monotonic() - begun)
        time.sleep(0.1)
    for load in loads:
        load.good()
        # A machine with two processors and an interpreter: a stall would be seconds.
        if load.longest > 2.5:
            raise Failed(f"a write of LUN {load.host.lun} took {load.longest:.1f} s beside a peer that hangs")
    if max(took) > 2.5:
        raise Failed(f"a marker of the healthy group took {max(took):.1f} s")
    site.cut("pass", tokyo, kyoto)
    wait("the group of the peer that hung catches up", 60, lambda: tokyo.kagami(
        "marker", "crm", "back", "--wait", codes=()).returncode == 0)
    site.say(f"a peer that hangs: writes took at most {max(load.longest for load in loads) * 1000:.0f} ms, markers of the "
             f"other group {max(took) * 1000:.0f} ms")
    for group, there in (("erp", osaka), ("crm", kyoto)):
        tokyo.kagami("pair", "delete", group)
        if there.knows(group):
            raise Failed(f"{there.name} still has {group}")
    for array, lun, far in ((tokyo, 0, (osaka, 0)), (tokyo, 1, (kyoto, 0))):
        if array.read(lun) != far[0].read(far[1]):
            raise Failed(f"LUN {lun} differs")
    clear(site)


def shares(site):
    """Two groups to one peer, each with a limit of bandwidth: both move, at what they may."""
    tokyo, osaka = site.array("tokyo", size=16 * MIB), site.array("osaka", size=16 * MIB)
    site.link(tokyo, osaka)
    limit = 1 << 20
    for here, there in ((tokyo, osaka), (osaka, tokyo)):
        here.journals[21] = ("jnl1", 16 * MIB, None)
        here.groups = {name: (there.name, 'bandwidth = "1MiB"') for name in ("erp", "crm")}
        here.write()
        here.start()
    site.meet()
    for lun, name in enumerate(("erp", "crm")):
        tokyo.kagami("pair", "create", "--group", name, "--primary", f"tokyo:{lun}", "--secondary", f"osaka:{lun}",
                     "--journal", f"tokyo:{20 + lun}", "--secondary-journal", f"osaka:{20 + lun}")
    for name in ("erp", "crm"):
        tokyo.state("PAIR", group=name, seconds=60)
    written = 6 * MIB
    begun = time.monotonic()
    for lun in LUNS:
        device = tokyo.device(lun)
        for at in range(0, written, 256 << 10):
            device.write(at, random.randbytes(256 << 10))
    fast = time.monotonic() - begun
    took = {}

    def caught_up(name):
        return tokyo.status(name)["lag_bytes"] == 0 and osaka.status(name)["lag_bytes"] in (0, None)
    while len(took) < 2:
        for name in ("erp", "crm"):
            if name not in took and caught_up(name):
                took[name] = time.monotonic() - begun
        if time.monotonic() - begun > 40:
            raise Failed(f"the groups do not catch up: {json.dumps([tokyo.status(name) for name in ('erp', 'crm')])}")
        time.sleep(0.1)
    for name, seconds in took.items():
        if seconds < written / limit * 0.6:
            raise Failed(f"{name} has sent {written} bytes in {seconds:.1f} s, above its limit of {limit} a second")
    if max(took.values()) > 2 * min(took.values()) + 2:
        raise Failed(f"one of the groups waited for the other: {took}")
    site.say(f"two groups of 1 MiB/s each: {written >> 20} MiB of each, written in {fast:.1f} s, had arrived after "
             f"{took['erp']:.1f} s and {took['crm']:.1f} s")
    for name in ("erp", "crm"):
        tokyo.kagami("pair", "delete", name)
    same("two groups", tokyo, osaka, LUNS, read=Array.read)
    clear(site)


def paced(site):
    """A copy keeps the pace that the second array sets."""
    tokyo, osaka = site.array("tokyo", size=16 * MIB), site.array("osaka", size=16 * MIB)
    site.link(tokyo, osaka)
    for here, there in ((tokyo, osaka), (osaka, tokyo)):
        here.groups = {"erp": (there.name, "" if here is tokyo else 'pace = "2MiB"')}
        here.write()
        here.start()
    site.meet()
    device = tokyo.device(0)
    for at in range(0, 10 * MIB, 256 << 10):
        device.write(at, random.randbytes(256 << 10))
    begun = time.monotonic()
    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0")
    osaka.state("PAIR", seconds=60)
    took = time.monotonic() - begun
    if not 4 <= took <= 15:
        raise Failed(f"10 MiB at 2 MiB a second took {took:.1f} s")
    clear(site)
    site.say(f"a copy of 10 MiB at 2 MiB a second took {took:.1f} s")


def levels(site):
    """Thresholds of the journal's use are told when they are passed, and when they are left."""
    group = Group(site, "")
    group.paired()
    tokyo = group.tokyo
    for array in (group.tokyo, group.osaka):
        text = (array.work / f"{array.name}.toml").read_text()
        (array.work / f"{array.name}.toml").write_text(text + 'thresholds = "10,20"\n')
        array.process.send_signal(signal.SIGHUP)
    wait("the reload", 10, lambda: tokyo.status()["options"]["thresholds"] == "10,20")

    def events(word):
        lines = [row["what"] for row in json.loads(tokyo.kagami("events", "--json").stdout)["events"]]
        return [line for line in lines if word in line]
    site.cut("down")
    device = tokyo.device(0)
    for at in range(0, 3 * MIB, 256 << 10):
        device.write(at, random.randbytes(256 << 10))
    device.good(struct.pack(">BBQIxx", 0x91, 0, 0, 0))
    wait("thresholds are passed", 10, lambda: tokyo.status()["journal"]["threshold_percent"] == 20)
    passed = events("more than 20 % of the journal")
    site.cut("up")
    wait("and left", 60, lambda: tokyo.status()["journal"]["threshold_percent"] == 0)
    left = events("% of the journal again")
    if not passed or not left or tokyo.status()["state"] != "PAIR":
        raise Failed(f"the thresholds were not told: {events('')}")
    site.say(f"thresholds are told: {passed[0]}; {left[-1]}")
    group.end()


def clear(site):
    for array in site.arrays:
        array.end()
        for file in array.work.glob(f"{array.name}*.img"):
            file.unlink()
    site.arrays.clear()
    for relay in site.relays.values():
        relay.end()
    site.relays.clear()


def run(site):
    names = sys.argv[3:] or ["by_hand", "holding", "said", "peers", "shares", "paced", "levels"]
    for name in names:
        globals()[name](site)
        # Another array of the same name is another array: nothing of the old one stays.
        for left in site.work.iterdir():
            if left.is_dir():
                left.rename(site.work / f"{name}-{left.name}-was")


if __name__ == "__main__":
    prove("cycle", run)
