"""Calls on a shard store as tests make them: awaited, and checked on the way."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable

from typing_extensions import Buffer

from objectio.abc.shardstore import Done, ShardCoordinates, ShardStore, ShardWrite
from objectio.errors import DeviceFailed, NotFound
from objectio.model.stripe import BlobId, ShardKey

CLUSTER = str(uuid.UUID(int=0x0B1EC710))
OTHER_CLUSTER = str(uuid.UUID(int=0x0B1EC711))


def shard_key(number: int, stripe: int = 0, position: int = 0) -> ShardKey:
    return ShardKey(BlobId(number.to_bytes(16, "big")), stripe, position)


def noise(length: int, seed: int = 0) -> bytes:
    """Bytes that occur nowhere else."""
    return random.Random(f"{seed}:{length}").randbytes(length)


def submit(
    store: ShardStore,
    key: ShardKey,
    *payload: Buffer,
    sync: bool = True,
    generation: int = 0,
) -> asyncio.Future[None]:
    size = sum(memoryview(part).nbytes for part in payload)
    coordinates = ShardCoordinates("replicate", 1, 0, size, generation)
    return fate(lambda done: store.submit(ShardWrite(key, payload, coordinates, sync), done))


def submit_delete(store: ShardStore, *keys: ShardKey) -> asyncio.Future[None]:
    return fate(lambda done: store.submit_delete(keys, done))


def submit_sync(store: ShardStore) -> asyncio.Future[None]:
    return fate(store.submit_sync)


def fate(call: Callable[[Done], None]) -> asyncio.Future[None]:
    """What `done` is told, as a future; a store that has ended may also raise at once."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: BaseException | None) -> None:
        assert not future.done(), "done was called twice"
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    try:
        call(done)
    except DeviceFailed as error:
        future.set_exception(error)
    return future


async def read(store: ShardStore, key: ShardKey, *span: int) -> bytes:
    """Through all three ways, which must agree."""
    now = store.read_now(key, *span)
    slow = bytes(await store.read(key, *span))
    assert now is None or bytes(now) == slow
    plan = store.plan_read(key, *span)
    assert plan is None or bytes(await asyncio.to_thread(plan)) == slow
    return slow


async def missing(store: ShardStore, key: ShardKey) -> bool:
    """Whether no way finds the shard."""
    try:
        await store.read(key)
    except NotFound as error:
        if error.fields.get("kind") != "shard":
            raise
    else:
        return False
    with contextlib.suppress(NotFound):
        assert store.read_now(key) is None, "read_now finds a shard that read does not"
    with contextlib.suppress(NotFound):
        assert store.plan_read(key) is None, "plan_read finds a shard that read does not"
    return True


async def scan_all(store: ShardStore, limit: int = 1000) -> list[ShardKey]:
    found: list[ShardKey] = []
    while page := await store.scan(found[-1] if found else None, limit):
        assert len(page) <= limit
        found += [info.key for info in page]
        if len(page) < limit:
            break
    return found
