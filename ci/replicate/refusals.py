#!/usr/bin/env python3
"""Proves that a pair which could not live is refused when it is to be made: with the right exit code, in words that say what is
wrong and how much it takes, and with nothing left of it at either array.

    refusals.py KAGAMID KAGAMI
"""

import json
import sys

sys.dont_write_bytecode = True
from arrays import MIB, Failed, prove, wait  # noqa: E402

EXTRA = """[[volume]]
lun = 3
name = "scratch"
backend = "ram"
size = "4MiB"
[[volume]]
lun = 4
name = "null"
backend = "null"
size = "4MiB"
[[volume]]
lun = 5
name = "large"
path = "{work}/{name}-large.img"
size = "{large}MiB"
[[volume]]
lun = 6
name = "wide"
path = "{work}/{name}-wide.img"
size = "8MiB"
block_size = 4096
[[volume]]
lun = 7
name = "fixed"
path = "{work}/{name}-fixed.img"
size = "8MiB"
read_only = true
[[volume]]
lun = 8
name = "huge"
path = "{work}/{name}-huge.img"
size = "3TiB"
"""


class Refusals:
    def __init__(self, site):
        self.site = site
        self.tokyo, self.osaka = site.array("tokyo", size=8 * MIB), site.array("osaka", size=8 * MIB)
        site.link(self.tokyo, self.osaka)
        for array, large in ((self.tokyo, 8), (self.osaka, 12)):
            array.journals[21] = ("jnl1", 16 * MIB, None)
            text = array.config()
            text += EXTRA.format(work=array.work, name=array.name, large=large)
            (array.work / f"{array.name}.toml").write_text(text)
            array.start()
        site.meet()

    def nothing(self, *what):
        for array in (self.tokyo, self.osaka):
            left = json.loads(array.kagami("pair", "status", "--json").stdout)["groups"]
            names = [group["group"] for group in left if group["group"] != "erp"]
            if names:
                raise Failed(f"{array.name} has {names} after {what}")

    def create(self, primary, secondary, *more, array=None):
        words = ("pair", "create", "--group", "crm", "--primary", primary, "--secondary", secondary, *more)
        return (array or self.tokyo).kagami(*words, codes=())

    def refused(self, code, says, primary, secondary, *more, array=None):
        """It is refused with that exit code, and in these words."""
        done = self.create(primary, secondary, *more, array=array)
        missing = [word for word in says if word not in done.stderr]
        if done.returncode != code or missing or len(done.stderr.strip().splitlines()) != 1:
            raise Failed(f"{primary} to {secondary} {more}: {done.returncode}, wanted {code} and {says}: {done.stderr}")
        self.nothing(primary, secondary, *more)


def run(site):
    it = Refusals(site)
    tokyo, osaka = it.tokyo, it.osaka

    # A journal that has no room for the bitmap of 3 TiB, and says how much it takes.
    it.refused(3, ["journal jnl of tokyo is too small", "it has 16777216 bytes", "needs ", "3298534883328 bytes of volumes"],
               "tokyo:8", "osaka:8")
    done = it.create("tokyo:8", "osaka:8")
    needs = int(done.stderr.split("needs ")[1].split()[0])
    if not 16 * MIB < needs < 64 * MIB:
        raise Failed(f"a journal for 3 TiB needs {needs} bytes?")
    site.say(f"a journal that is too small is refused: {done.stderr.strip()}")

    it.refused(3, ["volume scratch of tokyo is in memory only", "--force"], "tokyo:3", "osaka:3")
    it.refused(3, ["volume null of tokyo is in memory only", "--force"], "tokyo:4", "osaka:4")
    it.refused(3, ["tokyo:5 has 8388608 bytes", "osaka:5 has 12582912"], "tokyo:5", "osaka:5")
    it.refused(3, ["tokyo:0 has 8388608 bytes in blocks of 512", "osaka:6 has 8388608 in blocks of 4096"], "tokyo:0", "osaka:6")
    it.refused(3, ["volume fixed of tokyo is read-only"], "tokyo:7", "osaka:7")
    it.refused(3, ["volume orders of tokyo is a command device"], "tokyo:10", "osaka:10")
    it.refused(2, ["array tokyo has no volume 77", "kagami volumes"], "tokyo:77", "osaka:0")
    it.refused(2, ["same array"], "tokyo:0", "tokyo:1")
    it.refused(2, ["tokyo and osaka"], "tokyo:0", "osaka:0", "--primary", "osaka:1", "--secondary", "tokyo:1")
    it.refused(3, ["volume db of tokyo is no journal"], "tokyo:0", "osaka:0", "--journal", "tokyo:0")
    it.refused(2, ["journal osaka:20 is not on tokyo"], "tokyo:0", "osaka:0", "--journal", "osaka:20")
    it.refused(5, ["no array kyoto is known there"], "tokyo:0", "kyoto:0")
    site.say("volumes that make no pair are refused: in memory, of other sizes and blocks, read-only, for orders, not there")

    done = it.create("tokyo:3", "osaka:3", "--force")
    if done.returncode:
        raise Failed(f"--force does not make a pair of volumes in memory: {done.stderr}")
    tokyo.state("PAIR", group="crm")
    tokyo.kagami("pair", "delete", "crm")
    site.say("--force pairs volumes in memory")

    tokyo.kagami("pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0",
                 "--journal", "tokyo:20", "--secondary-journal", "osaka:20")
    tokyo.state("PAIR")
    it.refused(3, ["volume db of tokyo is in group erp already"], "tokyo:0", "osaka:1")
    it.refused(3, ["volume db of osaka is in group erp already", "nothing has changed"], "tokyo:1", "osaka:0")
    it.refused(3, ["journal jnl of tokyo belongs to group erp"], "tokyo:1", "osaka:1", "--journal", "tokyo:20")
    it.refused(3, ["journal jnl of osaka belongs to group erp", "nothing has changed"],
               "tokyo:1", "osaka:1", "--secondary-journal", "osaka:20")
    tokyo.state("PAIR", peer_error=None)
    site.say("what is in a pair already, volume or journal, is refused, and its group goes on")

    # Orders come through, and osaka could pull; but it could not be pulled from after a swap.
    it.site.relays[("osaka", "tokyo")].order("down")
    wait("osaka misses tokyo", 20, lambda: osaka.status()["peer_error"])
    it.refused(5, ["array osaka:", "array tokyo cannot be logged in to from osaka", "nothing has changed"], "tokyo:1", "osaka:1")
    it.site.relays[("osaka", "tokyo")].order("up")
    osaka.state("PAIR", peer_error=None, seconds=60)
    site.say("a peer that cannot log in back is refused")

    site.cut("down")
    wait("tokyo misses osaka", 20, lambda: tokyo.status()["peer_error"])
    it.refused(5, ["osaka"], "tokyo:1", "osaka:1", "--timeout", "8s")
    site.cut("up")
    tokyo.state("PAIR", peer_error=None, seconds=60)
    wait("the arrays meet again", 30, lambda: it.create("tokyo:1", "osaka:1").returncode == 0)
    tokyo.state("PAIR", group="crm")
    site.say("a peer out of reach is refused; and the same order is taken when it is back")


prove("refusals", run)
