"""The cache of a device under a zipfian load, with a scan in the middle, beside an LRU of its size."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from objectio.abc.shardstore import ShardCoordinates, ShardStore, ShardWrite
from objectio.limits import KIB, MIB
from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.cache import ENTRY_BYTES
from objectio.osd.config import LogStoreConfig
from objectio.osd.store import LogStoreFactory
from objectio.testing.context import make_context

SHARDS: Final = 100_000
SHARD_BYTES: Final = 4 * KIB
THETA: Final = 0.99
CACHE_SHARE: Final = 0.1
_CLUSTER: Final = str(uuid.UUID(int=1))
_BATCH: Final = 256


class Lru:
    """The same trace with the same memory."""

    def __init__(self, capacity_bytes: int) -> None:
        self.hits = self.misses = 0
        self._entries = capacity_bytes // (SHARD_BYTES + ENTRY_BYTES)
        self._held: OrderedDict[int, None] = OrderedDict()

    def look(self, number: int) -> None:
        if number in self._held:
            self._held.move_to_end(number)
            self.hits += 1
            return
        self.misses += 1
        self._held[number] = None
        if len(self._held) > self._entries:
            self._held.popitem(last=False)


def measure(work_dir: Path, scale: float) -> Iterator[str]:
    """Lines of the report."""
    count = max(1000, int(SHARDS * scale))
    rows, best = asyncio.run(_run(work_dir, count))
    yield f"{count:,} shards of 4 KiB, zipf {THETA}, cache of {CACHE_SHARE:.0%} of the data"
    yield f"{'reads':<34} {'cache':>7} {'LRU':>7}"
    for name, ours, lru in rows:
        yield f"{name:<34} {ours:>7.1%} {lru:>7.1%}"
    yield f"{'(the most read ones, always held)':<34} {best:>7.1%}"


async def _run(work_dir: Path, count: int) -> tuple[list[tuple[str, float, float]], float]:
    capacity = int(count * SHARD_BYTES * CACHE_SHARE)
    config = LogStoreConfig(direct="always", cache_bytes=capacity)
    factory = LogStoreFactory(config, make_context(work_dir))
    path = str(work_dir / "image")
    # A record is padded; the rest is room that stays free.
    factory.prepare(path, cluster_id=_CLUSTER, size_bytes=256 * MIB + count * 3 * SHARD_BYTES)
    store = await factory.open(path, cluster_id=_CLUSTER)
    try:
        await _fill(store, count)
        source = random.Random(1)
        order = source.sample(
            range(count), count
        )  # which are read most has nothing to do with where
        weights = list(itertools.accumulate((rank + 1) ** -THETA for rank in range(count)))

        def zipfian(reads: int) -> Sequence[int]:
            return [order[i] for i in source.choices(range(count), cum_weights=weights, k=reads)]

        lru, rows = Lru(capacity), []
        for name, trace in (
            ("first, with nothing held", zipfian(2 * count)),
            ("before the scan", zipfian(count)),
            ("the scan: each shard once", range(count)),
            ("behind the scan: a tenth as many", zipfian(count // 10)),
            ("behind the scan", zipfian(count)),
        ):
            rows.append((name, *await asyncio.to_thread(_look, store, lru, trace)))
        held = int(count * CACHE_SHARE)
        return rows, weights[held - 1] / weights[-1]
    finally:
        await store.close()


async def _fill(store: ShardStore, count: int) -> None:
    payload = random.Random(2).randbytes(SHARD_BYTES)
    at = ShardCoordinates("replicate", 1, 0, SHARD_BYTES)
    loop = asyncio.get_running_loop()
    for start in range(0, count, _BATCH):
        wait: asyncio.Future[BaseException | None] = loop.create_future()
        last = min(start + _BATCH, count) - 1
        for number in range(start, last + 1):
            write = ShardWrite(_key(number), (payload,), at, number == last)
            store.submit(write, wait.set_result if number == last else _ignore)
        error = await wait
        if error is not None:
            raise error


def _look(store: ShardStore, lru: Lru, trace: Iterable[int]) -> tuple[float, float]:
    """Hit rates of both."""
    before, lru_before = store.usage(), (lru.hits, lru.misses)
    for number in trace:
        read = store.plan_read(_key(number))
        if read is None or memoryview(read()).nbytes != SHARD_BYTES:
            raise RuntimeError("a shard is not what was written")
        lru.look(number)
    now = store.usage()
    hits = now.cache_hits - before.cache_hits
    misses = now.cache_misses - before.cache_misses
    lru_hits, lru_misses = lru.hits - lru_before[0], lru.misses - lru_before[1]
    return hits / max(1, hits + misses), lru_hits / max(1, lru_hits + lru_misses)


def _key(number: int) -> ShardKey:
    return ShardKey(BlobId(number.to_bytes(16, "big")), 0, 0)


def _ignore(error: BaseException | None) -> None:
    if error is not None:
        raise error
