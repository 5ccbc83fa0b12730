"""Counting what buckets with a quota hold, and those of accounts with one: see `objectio.store.quota`.

All versions count, and the parts of uploads that have not ended. After each page of rows it pauses, so
that a count takes a tenth of the time at most, however much there is to count.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import msgspec

from objectio.kv.keys import prefix_end, unescape
from objectio.kv.store import KVStore, Row, Write
from objectio.meta import keys
from objectio.meta.buckets import Bucket
from objectio.meta.records import decode_listed, decode_object, decode_part
from objectio.model.bucket import QUOTA
from objectio.store.background import Background
from objectio.store.quota import UsageRecord, encode_usage

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500
_SHARE: Final = 0.1

T = TypeVar("T")


class UsageCounter(Background):
    """Runs in the background. `clock` gives Unix seconds."""

    def __init__(
        self, kv: KVStore, interval_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._kv = kv
        self._interval_seconds = interval_seconds
        self._clock = clock

    async def _run(self) -> None:
        while True:
            try:
                await self.count()
            except Exception as error:
                _log.warning("counting what buckets hold: %s", error, exc_info=True)
            await asyncio.sleep(self._interval_seconds)

    async def count(self) -> None:
        """Once, all that is to be counted."""
        rows = await self._kv.ascan_prefix(keys.ACCOUNT_QUOTAS)
        accounts = {row[len(keys.ACCOUNT_QUOTAS) :].decode("utf-8") for row, _ in rows}
        begun: dict[str, int] = dict.fromkeys(accounts, self._now_ms())
        totals: dict[str, Counter[str]] = defaultdict(Counter)
        written: set[bytes] = set()
        start, stop = keys.BUCKETS, prefix_end(keys.BUCKETS)
        while page := await self._kv.ascan(start, stop, limit=_PAGE):
            buckets = [Bucket(row, raw) for row, raw in page]
            quotas = await self._kv.aget_many(
                [keys.document(bucket.id, QUOTA) for bucket in buckets]
            )
            for bucket, quota in zip(buckets, quotas, strict=True):
                owner = bucket.record.owner
                if quota is None and owner not in accounts:
                    continue
                begun_ms = self._now_ms()
                found = await self._count(bucket.id)
                totals[owner] += found
                if quota is not None:
                    row = keys.usage(bucket.id)
                    await self._write(row, begun_ms, found)
                    written.add(row)
            start = page[-1][0] + b"\0"
        for owner, begun_ms in begun.items():
            row = keys.account_usage(owner)
            await self._write(row, begun_ms, totals[owner])
            written.add(row)
        await self._forget(written)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def _write(self, row: bytes, begun_ms: int, found: Counter[str]) -> None:
        usage = UsageRecord(begun_ms, self._now_ms(), found["bytes"], found["objects"])
        await self._kv.commit([], [(row, encode_usage(usage))])

    async def _forget(self, written: set[bytes]) -> None:
        """Counts of what has no quota any more."""
        for table in (keys.USAGES, keys.ACCOUNT_USAGES):
            async for row, _ in self._kv.arows(table, prefix_end(table)):
                if row not in written:
                    gone: list[Write] = [(row, None)]
                    await self._kv.commit([], gone)

    async def _count(self, bucket_id: bytes) -> Counter[str]:
        found: Counter[str] = Counter()
        table = keys.objects(bucket_id)
        async for _, raw in self._rows(table):
            listed = _read(raw, decode_listed)
            found["objects"] += 1
            found["bytes"] += 0 if listed is None else listed.size
        table = keys.versions(bucket_id)
        async for _, raw in self._rows(table):
            record = _read(raw, decode_object)
            if record is not None:
                found["objects"] += not record.delete_marker
                found["bytes"] += record.size
        table = keys.uploads(bucket_id)
        async for row, _ in self._rows(table):
            _, end = unescape(row, len(table))
            async for _, raw in self._rows(keys.parts(row[end:])):
                part = _read(raw, decode_part)
                found["bytes"] += 0 if part is None else part.size
        return found

    async def _rows(self, table: bytes) -> AsyncIterator[Row]:
        start, stop = table, prefix_end(table)
        while True:
            began = time.monotonic()
            page = await self._kv.ascan(start, stop, limit=_PAGE)
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            took = time.monotonic() - began
            await asyncio.sleep(took / _SHARE - took)
            start = page[-1][0] + b"\0"


def _read(raw: bytes, decode: Callable[[bytes], T]) -> T | None:
    """None for what cannot be read: it counts for nothing, and holds up no count."""
    try:
        return decode(raw)
    except msgspec.DecodeError as error:
        _log.warning("counting what buckets hold: a row cannot be read: %s", error)
        return None
