"""Rows read from the files of a store that another process serves."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest
from objectio_kv_lmdb.plugin import DRIVER

from objectio.abc.kv import Absent
from objectio.errors import CommitConflict, ConfigError
from objectio.kv.store import KVStore
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv_service import KVService
from objectio.rpc.near_kv import NearKV
from objectio.rpc.server import Server
from objectio.testing.context import make_context

SECRET = bytes(range(32))
ROW = b"c/session/now"


def open_kv(directory: Path) -> KVStore:
    driver = DRIVER.open(DRIVER.config(), make_context(directory, name="lmdb"))
    return KVStore(driver, DRIVER.capabilities, DRIVER.threads)


async def _serve(directory, pipe):
    kv = open_kv(directory)
    server = Server(Identity(secret=SECRET, role="meta", node="m"), roles=["gateway"])
    KVService(server, kv)
    pipe.send(await server.listen(f"unix:{directory}.sock"))
    await asyncio.to_thread(pipe.recv)
    await server.close(0)
    await kv.close()


def serve(directory, pipe):
    asyncio.run(_serve(directory, pipe))


@pytest.fixture
def served(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    process = spawn.Process(target=serve, args=(tmp_path / "kv", far))
    process.start()
    assert near.poll(60)
    try:
        yield near.recv(), tmp_path / "kv"
    finally:
        near.send(None)
        process.join(20)
        assert process.exitcode == 0


@pytest.fixture
async def channel(served):
    channel = Channel(
        served[0], Identity(secret=SECRET, role="gateway", node="g"), wanted_role="meta"
    )
    await channel.connect()
    yield channel
    await channel.close()


async def test_what_was_committed_by_anybody_is_read_at_once(served, channel):
    kv = NearKV(channel, lambda: open_kv(served[1]))
    other = Channel(
        served[0], Identity(secret=SECRET, role="gateway", node="h"), wanted_role="meta"
    )
    await other.connect()
    writer = NearKV(other, lambda: open_kv(served[1]))
    await kv.commit([], [(ROW, b"1")])
    assert not kv.fast_reads
    await kv.trust(ROW)
    assert kv.fast_reads
    for number in range(300):
        value = b"%d" % number
        await (kv if number % 2 else writer).commit([], [(b"k", value), (b"n" + value, value)])
        assert kv.get(b"k") == await kv.aget(b"k") == value
        assert await kv.aget_many([b"k", b"none"]) == [value, None]
    assert len(await kv.ascan_prefix(b"n")) == 300
    with pytest.raises(CommitConflict):
        await kv.commit([Absent(b"k")], [(b"k", b"lost")])
    assert kv.get(b"k") == b"299"
    kv.distrust()
    assert not kv.fast_reads
    assert await kv.aget(b"k") == b"299"
    await other.close()


async def test_files_of_another_store_are_not_trusted(served, channel, tmp_path):
    kv = NearKV(channel, lambda: open_kv(tmp_path / "another"))
    await kv.commit([], [(ROW, b"1"), (b"k", b"right")])
    await kv.trust(ROW)
    assert not kv.fast_reads
    assert await kv.aget(b"k") == b"right"


async def test_without_files_everything_is_asked_for(served, channel):
    def nothing():
        raise ConfigError("there are no metadata")

    kv = NearKV(channel, nothing)
    await kv.commit([], [(ROW, b"1"), (b"k", b"right")])
    await kv.trust(ROW)
    assert not kv.fast_reads
    assert await kv.ascan_prefix(b"k") == [(b"k", b"right")]


async def test_files_that_cannot_be_read_any_more_are_opened_for_the_next_session(served, channel):
    kv = NearKV(channel, lambda: open_kv(served[1]))
    await kv.commit([], [(ROW, b"1"), (b"k", b"right")])
    for _ in range(3):
        await kv.trust(ROW)
        assert kv.fast_reads
        assert kv.get(b"k") == b"right"
