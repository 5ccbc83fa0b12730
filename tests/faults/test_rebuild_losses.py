"""Disks that are lost while others are still being refilled, at random points of that: never more than
two at a time are short of anything, so nothing is lost."""

from __future__ import annotations

import shutil
import time

import pytest
from botocore.exceptions import ClientError

SETTINGS = {
    "osd.check_seconds": "0.05",
    "store.repair_bytes_per_second": str(3 << 20),
    "store.scrub_interval_seconds": "0",
    # A write that leaves a slow disk out may lose one disk less until repair has made up for it.
    "store.write_straggler_seconds": "30",
}


def refills(server, number):
    return server.log_text().count(f"OSD {number} is refilled")


def put(objects, key, data):
    """False if it was refused: with two disks out at the same moment there is no quorum."""
    try:
        objects.put(key, data)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
            raise
        return False
    return True


@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_wipe_after_wipe(
    open_store, objects_of, blob_of_bytes, rng, eventually, assert_clean, rounds
):
    objects = objects_of(open_store(settings=SETTINGS))
    store, server = objects.store, objects.store.server
    for number in range(60):
        objects.put(f"small/{number}", blob_of_bytes(rng.randrange(1, 50_000)))
    for number in range(4):
        objects.put(f"large/{number}", blob_of_bytes(9_000_000))
    short = []
    caught = turn = 0
    # On a machine that is busy elsewhere a refill may be over before the next disk goes.
    while turn < rounds or (not caught and turn < rounds + 6):
        turn += 1
        if len(short) == 2:  # a third may go only when the first is whole
            number, before = short.pop(0)
            eventually(lambda n=number, b=before: refills(server, n) > b, 60, f"refill of {number}")
        doomed = rng.choice([n for n in range(6) if n not in [each for each, _ in short]])
        short = [(n, before) for n, before in short if refills(server, n) == before]
        caught += bool(short)
        short.append((doomed, refills(server, doomed)))
        shutil.rmtree(server.disk(doomed))
        data = blob_of_bytes(rng.choice([100, 30_000, 1_000_000]))
        eventually(lambda turn=turn, data=data: put(objects, f"turn/{turn}", data))
        if rng.random() < 0.3:
            server.kill()
            server.start()
        objects.check_some(rng, 8)
        time.sleep(rng.uniform(0, 2))  # the random point
    assert caught, "every refill was done before the next disk went"
    for number, before in short:
        eventually(lambda n=number, b=before: refills(server, n) > b, 60, f"refill of {number}")
    store.wait_repaired()
    objects.check()
    assert_clean(store)
