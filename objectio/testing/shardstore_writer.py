"""Writes to a shard store until it is killed: the other process of `ShardStoreConformance`.

    python -m objectio.testing.shardstore_writer MAKE DATA_DIR DEVICE CLUSTER_ID

Operation i is the same in every run, so that whoever killed the process can compute what must be on
the device from the acknowledgements alone: a line "i" for each `done(None)`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from objectio.abc.shardstore import (
    ShardCoordinates,
    ShardStore,
    ShardStoreFactory,
    ShardWrite,
)
from objectio.model.stripe import BLOB_ID_BYTES, BlobId, ShardKey

KEYS: Final = 97
IN_FLIGHT: Final = 24
_LENGTHS: Final = (0, 1, 100, 4096, 4096, 5000, 70_000, 300_000)


class Operation(NamedTuple):
    """`payload` None deletes."""

    key: ShardKey
    payload: bytes | None
    sync: bool


def operation(i: int) -> Operation:
    source = random.Random(i)
    key = ShardKey(BlobId(source.randrange(KEYS).to_bytes(BLOB_ID_BYTES, "big")), 0, 0)
    if source.random() < 0.2:
        return Operation(key, None, True)
    return Operation(key, source.randbytes(source.choice(_LENGTHS)), source.random() < 0.7)


def make_factory(make: str, data_dir: Path) -> ShardStoreFactory:
    module, _, name = make.partition(":")
    data_dir.mkdir(parents=True, exist_ok=True)
    factory: ShardStoreFactory = getattr(importlib.import_module(module), name)(data_dir)
    return factory


def start(store: ShardStore, i: int, done: Callable[[BaseException | None], None]) -> None:
    key, payload, sync = operation(i)
    if payload is None:
        store.submit_delete([key], done)
    else:
        coordinates = ShardCoordinates("replicate", 1, 0, len(payload), i)
        store.submit(ShardWrite(key, [payload], coordinates, sync), done)


async def write_until_killed(make: str, data_dir: str, device: str, cluster_id: str) -> None:
    store = await make_factory(make, Path(data_dir)).open(device, cluster_id=cluster_id)
    room = asyncio.Semaphore(IN_FLIGHT)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    i = 0

    def acknowledge(i: int, error: BaseException | None) -> None:
        if error is not None:
            if not failed.done():
                failed.set_exception(error)
            return
        os.write(1, f"{i}\n".encode())
        room.release()

    while not failed.done():
        await room.acquire()
        start(store, i, lambda error, i=i: acknowledge(i, error))  # type: ignore[misc]
        i += 1
    failed.result()


if __name__ == "__main__":
    asyncio.run(write_until_killed(*sys.argv[1:5]))
