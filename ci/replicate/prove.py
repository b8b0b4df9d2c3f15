#!/usr/bin/env python3
"""Proves pairs of volumes with real arrays on loopback.

    prove.py KAGAMID KAGAMI

Two arrays, the link between them through relays that cut it. A group is made and filled while it is copied; split, written
on, resynchronised; each side is killed under load; the link is cut; the sides are exchanged and exchanged back; the primary
is killed and its secondary taken over, and the old primary comes back. After each step both images are compared with what
was written.
"""

import json
import signal
import sys
import time

sys.dont_write_bytecode = True
from arrays import MIB, Failed, Host, Load, prove, same  # noqa: E402


class Proof:
    def __init__(self, site):
        self.site, self.say, self.cut = site, site.say, site.cut
        self.tokyo, self.osaka = (site.array(name, journal=32 * MIB) for name in ("tokyo", "osaka"))
        site.link(self.tokyo, self.osaka)
        for here, there in ((self.tokyo, self.osaka), (self.osaka, self.tokyo)):
            here.groups["erp"] = (there.name, "")
            here.write()
            here.start()
        self.primary, self.secondary = self.tokyo, self.osaka
        self.hosts = [Host(self.tokyo, 0), Host(self.tokyo, 1)]

    def load(self, seconds=1.0):
        loads = [Load(host, 7 + n) for n, host in enumerate(self.hosts)]
        time.sleep(seconds)
        return sum(load.good() for load in loads)

    def settle(self):
        """Until the secondary has all: then both images are equal and hold what was written."""
        try:
            self.primary.kagami("marker", "erp", f"m{time.monotonic_ns()}", "--wait")
        except Failed as failed:
            both = "\n".join(json.dumps(array.status()) for array in (self.primary, self.secondary))
            raise Failed(f"{failed}\n{both}") from None

    def flushed(self, what):
        """Both arrays end and come back, so that their files hold everything; the files are compared."""
        self.settle()
        for array in (self.primary, self.secondary):
            array.end()
        same(what, self.primary, self.secondary, (0, 1))
        for host in self.hosts:
            host.check(what, self.secondary, self.secondary.image(host.lun))
        self.secondary.start()
        self.primary.start()
        self.primary.state("PAIR", role="primary", recovering=False)
        self.secondary.state("PAIR", role="secondary", recovering=False)

    def exchange(self):
        self.primary, self.secondary = self.secondary, self.primary
        for host in self.hosts:
            host.array = self.primary

    def run(self):
        self.load(0.5)
        self.site.meet()
        create = ["pair", "create", "--group", "erp", "--primary", "tokyo:0", "--secondary", "osaka:0",
                  "--primary", "tokyo:1", "--secondary", "osaka:1"]
        self.tokyo.kagami(*create)
        self.tokyo.kagami(*create, codes=(12,))
        self.load(1.0)
        self.tokyo.state("PAIR")
        self.osaka.state("PAIR", role="secondary")
        self.say("made and copied under load")
        count = self.load()
        self.say(f"{count} writes while paired")
        self.flushed("after the copy")
        self.say("both restarted, equal")

        self.tokyo.kagami("pair", "split", "erp")
        self.tokyo.state("PSUS")
        self.load(0.5)
        self.tokyo.kagami("pair", "resync", "erp")
        self.tokyo.state("PAIR")
        self.say("split, written, resynchronised")
        self.flushed("after the resync")

        for victim in (self.secondary, self.primary):
            for host in self.hosts:
                host.fua = victim is self.primary
            loads = [Load(host, 31 + n, pause=0.002) for n, host in enumerate(self.hosts)]
            time.sleep(0.5)
            victim.end(signal.SIGKILL)
            time.sleep(0.3)
            victim.start()
            for load in loads:
                load.stop()
                if load.trouble and victim is self.secondary:
                    raise Failed(f"a host of the primary was refused: {load.trouble}")
            self.primary.state("PAIR", "PSUE", recovering=False)
            self.say(f"{victim.name} killed under load and back")
        self.flushed("after the kills")
        for host in self.hosts:
            host.fua = False

        loads = [Load(host, 57 + n, pause=0.002) for n, host in enumerate(self.hosts)]
        for _ in range(3):
            time.sleep(0.3)
            self.cut()
        for load in loads:
            load.good()
        self.flushed("after the cuts")
        self.say("links cut, equal")

        for _ in range(2):
            self.primary.kagami("pair", "swap", "erp", "--dry-run")
            self.primary.kagami("pair", "swap", "erp", codes=(10,))
            self.exchange()
            self.primary.state("PAIR", role="primary")
            self.secondary.state("PAIR", role="secondary")
            self.load(0.5)
            self.say(f"swapped: {self.primary.name} is primary")
        self.flushed("after the swaps")

        self.load(0.3)
        self.settle()
        self.primary.end(signal.SIGKILL)
        self.secondary.kagami("pair", "takeover", "erp", "--dry-run")
        self.secondary.kagami("pair", "takeover", "erp", codes=(11,))
        self.exchange()
        self.load(0.5)
        self.say(f"taken over by {self.primary.name}")
        self.secondary.start()
        self.secondary.state("PSUE", "PSUS", "SSWS", "PAIR", seconds=30, overtaken=True)
        self.primary.kagami("pair", "resync", "erp", "--discard", self.secondary.name)
        self.primary.state("PAIR", role="primary", seconds=60)
        self.secondary.state("PAIR", role="secondary")
        self.flushed("after the failback")
        self.say("the old primary follows")
        self.primary.kagami("pair", "delete", "erp")
        if self.secondary.knows():
            raise Failed("the group is still there")
        self.primary.kagami("pair", "delete", "erp", codes=(12,))
        # Where it ended at one array only, that one ends it at the other.
        self.primary.kagami("pair", "create", "--group", "erp", "--primary", f"{self.primary.name}:0",
                            "--secondary", f"{self.secondary.name}:0", "--wait")
        self.primary.kagami("pair", "delete", "erp", "--here")
        self.primary.kagami("pair", "delete", "erp", "--here", codes=(12,))
        self.primary.kagami("pair", "delete", "erp")
        if self.secondary.knows():
            raise Failed("the group is still there where the order was not given")
        self.load(0.2)
        self.say("ended")


if __name__ == "__main__":
    prove("pairs", lambda site: Proof(site).run())
