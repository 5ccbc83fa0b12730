"""Disks that are removed, emptied or gone: any two of six cost nothing but repair."""

from __future__ import annotations

import itertools
import shutil
import time
import xml.etree.ElementTree as ET

import pytest
import requests
from botocore.exceptions import ClientError

PAIRS = list(itertools.combinations(range(6), 2))
SIZES = [1, 700, 4096, 65_536, 65_537, 200_000, 1_000_000, 5_000_000]
OFTEN = {"osd.check_seconds": "0.1"}


def refills(server):
    return server.log_text().count(" is refilled")


def losses(server):
    return server.log_text().count(" is down: ")


def osds_up(server):
    """As many as one of its processes knows of at least; others may learn of it a moment later."""
    return server.metric("objectio_store_osds_up")


def serves(ask, *args):
    """Whether a call is served, by whichever gateway has its turn."""
    try:
        ask(*args)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
            raise
        return False
    return True


@pytest.fixture
def filled(open_store, objects_of, blob_of_bytes):
    """Objects of many sizes, in a store whose disks are looked at often."""
    objects = objects_of(open_store(settings=OFTEN))
    for size in SIZES:
        for number in range(2):
            objects.put(f"{size}/{number}", blob_of_bytes(size))
    return objects


@pytest.mark.usefixtures("one_process")  # others say too that a disk is down
def test_any_two_disks_removed_while_it_runs(filled, eventually, assert_clean, blob_of_bytes):
    """All fifteen pairs, one after the other: each is made good before the next."""
    store, server = filled.store, filled.store.server
    for turn, pair in enumerate(PAIRS):
        before = refills(server)
        for number in pair:
            shutil.rmtree(server.disk(number))
        filled.check()
        eventually(lambda turn=turn: losses(server) == 2 * (turn + 1))
        eventually(lambda: osds_up(server) == 6)  # two blank ones among them
        filled.put(f"during/{turn}", blob_of_bytes(20_000))
        eventually(lambda before=before: refills(server) == before + 2, 30, f"refill of {pair}")
        store.wait_repaired()
        filled.check()
    assert_clean(store)


def test_any_two_disks_emptied_while_it_is_down(filled, rng, eventually, assert_clean):
    store, server = filled.store, filled.store.server
    for pair in rng.sample(PAIRS, 6):
        server.stop()
        before = refills(server)
        for number in pair:
            (server.disk(number) / "log").unlink()
        server.start()
        filled.check()
        eventually(lambda before=before: refills(server) == before + 2, 30, f"refill of {pair}")
        store.wait_repaired()
    filled.check()
    assert_clean(store)


def test_killed_while_two_disks_are_refilled(filled, rng, eventually, assert_clean):
    """The refill goes on where it was; meanwhile everything can be read."""
    store, server = filled.store, filled.store.server
    for pair in rng.sample(PAIRS, 3):
        server.kill()
        for number in pair:
            shutil.rmtree(server.disk(number))
        server.start()
        time.sleep(rng.uniform(0, 0.1))  # the moment of the power cut
        server.kill()
        server.start()
        filled.check()
        eventually(lambda: osds_up(server) == 6)
        store.wait_repaired()
    filled.check()
    assert_clean(store)


@pytest.fixture
def without_replacement(filled):
    """Blank disks are not taken into service: a missing one may only not be mounted."""
    server = filled.store.server
    server.stop()
    path = server.data_dir / "objectio.toml"
    text = path.read_text()
    assert "replace_blank = true" in text
    path.write_text(text.replace("replace_blank = true", "replace_blank = false"))
    server.start()
    return filled


def hide(server, number):
    server.disk(number).rename(server.data_dir / f"away{number}")


def bring_back(server, number):
    (server.data_dir / f"away{number}").rename(server.disk(number))


def test_three_disks_gone_and_one_comes_back(
    without_replacement, eventually, error_of, blob_of_bytes, assert_clean
):
    objects = without_replacement
    store, server = objects.store, objects.store.server
    large = f"{SIZES[-1]}/0"
    for number in (0, 2, 5):
        hide(server, number)
    eventually(lambda: osds_up(server) == 3)
    started = time.monotonic()
    assert error_of(store.get, large) == (503, "SlowDown")
    assert error_of(store.put, "new", blob_of_bytes(5_000_000)) == (503, "ServiceUnavailable")
    assert time.monotonic() - started < 5, "an answer took its time"
    assert not server.healthy()
    assert store.keys() == sorted(objects.digests), "metadata must be readable"
    assert store.s3.head_object(Bucket=store.bucket, Key=large)["ContentLength"] == SIZES[-1]
    url = store.s3.generate_presigned_url("get_object", {"Bucket": store.bucket, "Key": large})
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/xml")
    assert ET.fromstring(answer.content).findtext("Code") == "SlowDown"
    bring_back(server, 2)
    eventually(lambda: osds_up(server) == 4)
    eventually(lambda: serves(objects.check))
    assert server.healthy()
    assert error_of(store.put, "new", b"x" * 5_000_000) == (503, "ServiceUnavailable")
    bring_back(server, 0)
    eventually(lambda: osds_up(server) == 5)
    data = blob_of_bytes(5_000_000)
    eventually(lambda: serves(objects.put, "new", data))
    objects.delete(f"{SIZES[2]}/0")
    bring_back(server, 5)
    eventually(lambda: osds_up(server) == 6)
    store.wait_repaired()
    objects.check()
    assert_clean(store)


def test_a_blank_disk_is_not_taken_into_service_unless_allowed(without_replacement, eventually):
    server = without_replacement.store.server
    shutil.rmtree(server.disk(1))
    eventually(lambda: "objectio disk replace" in server.log_text())
    without_replacement.check()
    assert osds_up(server) == 5
    assert not (server.disk(1) / "log").exists()


def test_swapped_disks_are_not_mixed_up(without_replacement, eventually, assert_clean):
    objects, server = without_replacement, without_replacement.store.server
    server.stop()
    hide(server, 1)
    server.disk(4).rename(server.disk(1))
    server.data_dir.joinpath("away1").rename(server.disk(4))
    server.start()
    assert "Were disks swapped?" in server.log_text()
    objects.check()
    hide(server, 1)
    server.disk(4).rename(server.disk(1))
    server.data_dir.joinpath("away1").rename(server.disk(4))
    eventually(lambda: osds_up(server) == 6)
    objects.check()
    assert_clean(objects.store)
