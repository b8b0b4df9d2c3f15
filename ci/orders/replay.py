#!/usr/bin/env python3
"""A record that is given again after SIGKILL is answered from what the array remembers, and not executed again.

    ci/orders/replay.py KAGAMID

The same bytes: first executed; then answered as they were, marked as a replay, with the generation and the audit log as they
were; and by an array that lost what it remembered (its log of tables, mended so that results are not in it) not
answered so. The last shows that the second answer came from there and from nowhere else.
"""

import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
from kill import Array, audit, forget, orders  # noqa: E402
from map import host as host_of  # noqa: E402


def main():
    with tempfile.TemporaryDirectory(prefix="kagami-orders-") as name:
        array = Array(sys.argv[1], Path(name))
        array.start()
        log = array.folder / "data" / "tables.log"

        def host():
            return host_of(array)

        def generation():
            return host().give("arrays")[0].generation

        def give(record, request_id):
            """Those very bytes, and the result that they get."""
            one = host()
            slot = orders.FIRST_SLOT + orders.SLOT * secrets.randbelow(one.slots)
            one.device.write(slot, record + bytes(-len(record) % one.device.block))
            return one.wait(slot, request_id, time.monotonic() + 20)

        def restart(work=lambda: 0):
            array.kill()
            done = work()
            array.start()
            return done

        one = host()
        looked = one.give("arrays")[0]
        changes = (("volume-create", [("name", "once"), ("size_bytes", 1 << 20)]),
                   ("volume-resize", [("volume", "once"), ("size_bytes", 2 << 20)]),
                   ("volume-delete", [("volume", "once")]))
        records = []
        for order, parameters in changes:
            request_id = secrets.token_bytes(16)
            record = orders.encode(orders.ORDERS[order], request_id, one.id, parameters, generation=generation(), operator="ops",
                                   key=array.key, executing=looked.array, expires=int(time.time() * 1000) + 600_000)
            first = give(record, request_id)
            assert (first.word, first.flags & orders.REPLAYED) == ("done", 0), (order, first.word, first.message)
            records.append((order, record, request_id, first))
            restart()
            now = generation()
            again = give(record, request_id)
            assert again.word == "done" and again.flags & orders.REPLAYED, (order, again.word, again.message)
            assert generation() == now, f"{order} was executed again"
        # All of them, the volume long gone, some in an array that was told more than once.
        for order, record, request_id, first in records:
            again = give(record, request_id)
            assert again.word == "done" and again.flags & orders.REPLAYED, (order, again.word, again.message)
        before = audit(array.folder)
        assert all(len(generations) == 1 for generations in before.values()), before
        lost = restart(lambda: forget(log))
        assert lost >= len(records), f"{lost} results were in the log"
        for order, record, request_id, first in records:
            again = give(record, request_id)
            # The generation still keeps it from being done twice; but nothing is known of the first time.
            assert again.word == "stale" and not again.flags & orders.REPLAYED, (order, again.word, again.message)
        array.stop()
    print(f"{len(records)} changes repeated after SIGKILL are answered as they were; without what is remembered they are not")


if __name__ == "__main__":
    sys.exit(main())
