#!/usr/bin/env python3
"""The LUN map by orders: a virtual volume is added, used, there after SIGKILL, and taken out again.

    ci/orders/map.py KAGAMID
"""

import json
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
from kill import IQN, Array, orders  # noqa: E402

failures = []


def check(what, right):
    if not right:
        failures.append(what)


def host(array, lun=0, key=True, tries=200):
    """A host at a LUN, as soon as that is there."""
    while True:
        try:
            device = orders.open_device(f"iscsi://127.0.0.1:{array.port}/{IQN}/{lun}")
            return orders.Host(device, operator="ops", key=array.key if key else None)
        except (orders.Problem, OSError):
            tries -= 1
            if not tries:
                raise
            time.sleep(0.05)


def main():
    with tempfile.TemporaryDirectory(prefix="kagami-orders-") as name:
        array = Array(sys.argv[1], Path(name))
        far = Array(sys.argv[1], Path(name) / "far", "far", array)
        # The first array knows the peer, and has no way to it in its file.
        text = array.config.read_text()
        array.config.write_text(text[:text.index("[[virtual]]")].replace("luns = [0, 30]", "luns = [0]"))
        far.start()
        array.start()
        one = host(array)

        def give(order, *parameters):
            result, data = one.give(order, list(parameters))
            return result.word, json.loads(data) if data else {}

        def luns():
            return {row["lun"]: row for row in give("luns")[1]["luns"]}

        added = [("name", "there"), ("peer", "far"), ("mapped_lun", 0), ("lun", 30), ("role", "command"),
                 ("initiator", "iqn.2026-11.io.kagami:host")]
        check("a peer that is not known", give("lun-map-add", *added[:1], ("peer", "x"), *added[2:])[0] == "bad-parameter")
        check("it was not added", give("lun-map-add", *added)[0] == "done")
        check("it was added twice", give("lun-map-add", *added)[0] == "refused")
        row = luns().get(30, {})
        check(f"the map has it not right: {row}", (row.get("target_array"), row.get("mapped_lun")) == ("far", 0))
        result, data = host(array, 30).give("volumes")
        check("orders do not go through it", result.code == 0 and result.array != one.give("arrays")[0].array)
        array.kill()
        array.start()
        one = host(array)
        check("it is gone after a crash", 30 in luns())
        user = host(array, 30)
        check("the far array is not met", user.give("arrays")[0].code == 0)
        uuid = None
        for _ in range(200):
            uuid = {row["array"]: row["uuid"] for row in give("tables")[1]["command_devices"]}.get("far")
            if uuid:
                break
            time.sleep(0.05)
        check("the table does not say who is there", uuid is not None)
        if uuid:
            result, _ = one.give("volumes", target=bytes.fromhex(uuid.replace("-", "")))
            check(f"an order is not passed on: {result.word} {result.message}", result.code == 0)
        check("it was taken from who uses it", give("lun-map-remove", ("volume", "there"))[0] == "refused")
        check("it was not taken out", give("lun-map-remove", ("volume", "there"), ("force", True))[0] == "done")
        check("the map has it still", set(luns()) == {0})
        try:
            user.give("arrays")
            check("it is still there for who had it", False)
        except (orders.Problem, OSError):
            pass
        # The same LUN again, and again after an ordinary stop.
        check("it was not added again", give("lun-map-add", *added)[0] == "done")
        check("the new one does not work", host(array, 30).give("arrays")[0].code == 0)
        array.stop()
        array.start()
        one = host(array)
        check("it is gone after a stop", 30 in luns() and host(array, 30).give("arrays")[0].code == 0)
        array.stop()
        far.stop()
        print("the LUN map by orders: added, used, kept over SIGKILL, taken out")
        if failures:
            print("\n".join(failures), file=sys.stderr)
            print((Path(name) / "kagamid.log").read_text()[-4000:], file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
