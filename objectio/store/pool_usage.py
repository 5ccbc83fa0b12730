"""Counting what the pools hold, for the metrics.

Nothing that a client waits for keeps a count, so the rows of all blobs are walked now and then, a page
at a time, in a small share of the time: with many blobs the numbers are older.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Final, NamedTuple

from objectio.abc.metrics import Gauge, Metrics
from objectio.errors import ObjectIOError
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import decode_blob_row
from objectio.store.background import Background
from objectio.store.pools import Pool, Pools

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500
_PAUSE_SECONDS_MIN: Final = 30.0
_SHARE: Final = 0.02


class _Shown(NamedTuple):
    blobs: Gauge
    bytes: Gauge
    raw_bytes: Gauge


class PoolUsage(Background):
    """Runs in the background of the process that keeps the store in order."""

    def __init__(self, kv: KVStore, pools: Pools, metrics: Metrics) -> None:
        self._kv = kv
        self._pools = pools
        self._metrics = metrics
        self._shown: dict[int, _Shown] = {}

    async def _run(self) -> None:
        while True:
            try:
                await self.count()
            except ObjectIOError as error:
                _log.info("counting what the pools hold: %s", error)
            except Exception:
                _log.exception("counting what the pools hold")
            await asyncio.sleep(_PAUSE_SECONDS_MIN)

    async def count(self) -> None:
        """Once, all that is stored."""
        blobs: Counter[int] = Counter()
        sizes: Counter[int] = Counter()
        raw: Counter[int] = Counter()
        start, stop = keys.BLOBS, prefix_end(keys.BLOBS)
        began = time.monotonic()
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            for _, row in rows:
                ref = decode_blob_row(row).ref
                blobs[ref.pool] += 1
                sizes[ref.pool] += ref.size
                raw[ref.pool] += raw_bytes(self._pools.get(ref.pool), ref.size)
            start = rows[-1][0] + b"\0"
            took = time.monotonic() - began
            await asyncio.sleep(took / _SHARE - took)
            began = time.monotonic()
        for pool in self._pools.all():
            shown = self._gauges(pool)
            shown.blobs.set(blobs[pool.id])
            shown.bytes.set(sizes[pool.id])
            shown.raw_bytes.set(raw[pool.id])

    def _gauges(self, pool: Pool) -> _Shown:
        shown = self._shown.get(pool.id)
        if shown is None:
            gauge = self._metrics.gauge
            number, profile = str(pool.id), str(pool.code.profile)
            shown = self._shown[pool.id] = _Shown(
                gauge(
                    "objectio_pool_blobs",
                    "Versions and parts with bytes of their own in a pool, as counted last.",
                    pool=number,
                    profile=profile,
                ),
                gauge("objectio_pool_bytes", "Bytes of these.", pool=number, profile=profile),
                gauge(
                    "objectio_pool_raw_bytes",
                    "Bytes of these on devices, parity included, if every shard is there.",
                    pool=number,
                    profile=profile,
                ),
            )
        return shown


def raw_bytes(pool: Pool, size: int) -> int:
    """What a blob of this size takes on devices, without headers."""
    stripes = pool.stripes(size)
    if not stripes:
        return 0
    full = pool.code.shard_length(pool.stripe_bytes(size, 0)) * (stripes - 1)
    return pool.code.width * (full + pool.code.shard_length(pool.stripe_bytes(size, stripes - 1)))
