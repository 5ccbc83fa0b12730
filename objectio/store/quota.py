"""Quotas: what a bucket, and all buckets of an account together, may hold.

Who keeps the store in order counts what those hold that have a quota (`usage_count`), and writes it
down. Each process that serves objects adds what it has itself committed since that count began, and
holds room for what it is about to commit. So one process alone never lets a quota be exceeded; of
several, each learns of the others' writes by the next count.

New bytes must fit beside those that they replace. What has no quota pays for a look into memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from objectio.abc.quotas import QuotaStatus
from objectio.errors import QuotaExceeded
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import Bucket, Buckets
from objectio.meta.records import ObjectRecord, encode
from objectio.model.bucket import QUOTA, Quota, decode_document, encode_document
from objectio.store.documents import Documents

_USAGE_SECONDS: Final = 1.0
"""How long a count is not looked for again; new ones come less often."""
_ACCOUNT_SECONDS: Final = 2.0
"""How long it is remembered which quota an account has."""


class UsageRecord(msgspec.Struct, frozen=True, array_like=True):
    """What was counted between two times."""

    begun_ms: int
    ended_ms: int
    bytes: int
    objects: int


encode_usage: Final = msgspec.msgpack.Encoder().encode
decode_usage: Final = msgspec.msgpack.Decoder(UsageRecord).decode
decode_quota: Final = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Held(NamedTuple):
    bytes: int = 0
    objects: int = 0


NOTHING: Final = Held()


class Tally:
    """What a row of usage says, and what has changed here since."""

    def __init__(self, row: bytes) -> None:
        self.row = row
        self.looked_at = float("-inf")
        self.held_bytes = 0
        self.held_objects = 0
        self._counted = UsageRecord(0, 0, 0, 0)
        self._changes: dict[int, list[int]] = {}
        """By second: bytes and objects that came, and those that went."""

    @property
    def bytes(self) -> int:
        return self._counted.bytes + self.held_bytes + self._changed(0)

    @property
    def objects(self) -> int:
        return self._counted.objects + self.held_objects + self._changed(1)

    def _changed(self, which: int) -> int:
        """What came while it was counted may be in the count or not, and is added; what went then
        is not taken off."""
        ended = self._counted.ended_ms // 1000
        return sum(
            each[which] - (each[2 + which] if second > ended else 0)
            for second, each in self._changes.items()
        )

    def change(self, came: Held, went: Held, now: float) -> None:
        each = self._changes.setdefault(int(now), [0, 0, 0, 0])
        for place, amount in enumerate((*came, *went)):
            each[place] += amount

    def counted(self, record: UsageRecord) -> None:
        self._counted = record
        begun = record.begun_ms // 1000
        for second in [each for each in self._changes if each < begun]:
            del self._changes[second]


class Quotas:
    """Those that concern what this process writes. `clock` gives Unix seconds."""

    def __init__(
        self, kv: KVStore, documents: Documents, clock: Callable[[], float] = time.time
    ) -> None:
        self._kv = kv
        self._documents = documents
        self._clock = clock
        self._accounts: dict[str, tuple[float, Quota | None]] = {}
        self._tallies: dict[bytes, Tally] = {}
        self._by_bucket: dict[bytes, list[tuple[Tally, Quota]]] = {}

    async def admit(self, bucket: Bucket, size_bytes: int, objects: int) -> Room:
        """Room for what is to be committed; raises `QuotaExceeded`. The caller leaves it, as a
        context manager, when it is committed or given up."""
        limits = await self._limits(bucket)
        for tally, _ in limits:
            await self._look(tally)
        for tally, quota in limits:  # and from here on nothing waits
            _check(bucket.record.name, tally, quota, size_bytes, objects)
        return Room([tally for tally, _ in limits], size_bytes, objects)

    def committed(
        self, bucket: Bucket, created: ObjectRecord | None, removed: Sequence[ObjectRecord]
    ) -> None:
        """The bytes of an upload's parts came with the parts."""
        if not self._by_bucket:
            return
        came, went = Held(), Held()
        if created is not None and not created.delete_marker:
            of_parts = bool(created.part_sizes or created.manifest)
            came = Held(0 if of_parts else created.size, 1)
        if removed:
            objects = [each for each in removed if not each.delete_marker]
            went = Held(sum(each.size for each in objects), len(objects))
        self.changed(bucket, came, went)

    def changed(self, bucket: Bucket, came: Held, went: Held = NOTHING) -> None:
        limits = self._by_bucket.get(bucket.id)
        if limits:
            now = self._clock()
            for tally, _ in limits:
                tally.change(came, went, now)

    async def _limits(self, bucket: Bucket) -> list[tuple[Tally, Quota]]:
        raw = None
        if bucket.record.revision:
            raw = (await self._documents.get(bucket.record.info())).get(QUOTA)
        of_account = await self._account(bucket.record.owner)
        if raw is None and of_account is None:
            self._by_bucket.pop(bucket.id, None)
            return []
        limits: list[tuple[Tally, Quota]] = []
        if raw is not None:
            tally = self._tally(keys.usage(bucket.id))
            limits.append((tally, decode_document(raw, Quota)))
        if of_account is not None:
            limits.append((self._tally(keys.account_usage(bucket.record.owner)), of_account))
        self._by_bucket[bucket.id] = limits
        return limits

    async def _account(self, owner: str) -> Quota | None:
        now = time.monotonic()
        remembered = self._accounts.get(owner)
        if remembered is None or now - remembered[0] > _ACCOUNT_SECONDS:
            remembered = now, await account_quota(self._kv, owner)
            self._accounts[owner] = remembered
        return remembered[1]

    def _tally(self, row: bytes) -> Tally:
        tally = self._tallies.get(row)
        if tally is None:
            tally = self._tallies[row] = Tally(row)
        return tally

    async def _look(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - tally.looked_at > _USAGE_SECONDS:
            tally.looked_at = now
            raw = await self._kv.aget(tally.row)
            if raw is not None:
                tally.counted(decode_usage(raw))


class Room:
    """What is held until it is committed, or given up. A context manager."""

    __slots__ = ("_objects", "_size_bytes", "_tallies")

    def __init__(self, tallies: list[Tally], size_bytes: int, objects: int) -> None:
        self._tallies = tallies
        self._size_bytes = size_bytes
        self._objects = objects
        for tally in tallies:
            tally.held_bytes += size_bytes
            tally.held_objects += objects

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        for tally in self._tallies:
            tally.held_bytes -= self._size_bytes
            tally.held_objects -= self._objects
        self._tallies = []


def _check(name: str, tally: Tally, quota: Quota, size_bytes: int, objects: int) -> None:
    if quota.bytes_max and tally.bytes + size_bytes > quota.bytes_max:
        raise QuotaExceeded(f"bucket {name}: no room for {size_bytes} bytes", bucket=name)
    if objects and quota.objects_max and tally.objects + objects > quota.objects_max:
        raise QuotaExceeded(f"bucket {name}: no room for another object", bucket=name)


class QuotaKeeper:
    """An `objectio.abc.quotas.QuotaAdmin`."""

    def __init__(self, kv: KVStore, buckets: Buckets, documents: Documents) -> None:
        self._kv = kv
        self._buckets = buckets
        self._documents = documents

    async def bucket_quota(self, bucket: str) -> QuotaStatus:
        found = await self._buckets.find(bucket)
        raw = (await self._documents.get(found.record.info())).get(QUOTA)
        quota = None if raw is None else decode_document(raw, Quota)
        return await self._status(quota, keys.usage(found.id))

    async def set_bucket_quota(self, bucket: str, bytes_max: int, objects_max: int) -> None:
        quota = Quota(bytes_max=bytes_max, objects_max=objects_max)
        bounded = bytes_max or objects_max
        await self._documents.put(bucket, QUOTA, encode_document(quota) if bounded else None)

    async def account_quota(self, owner: str) -> QuotaStatus:
        quota = await account_quota(self._kv, owner)
        return await self._status(quota, keys.account_usage(owner))

    async def set_account_quota(self, owner: str, bytes_max: int, objects_max: int) -> None:
        quota = Quota(bytes_max=bytes_max, objects_max=objects_max)
        bounded = bytes_max or objects_max
        await set_account_quota(self._kv, owner, quota if bounded else None)

    async def _status(self, quota: Quota | None, row: bytes) -> QuotaStatus:
        if quota is None:
            return QuotaStatus()
        raw = await self._kv.aget(row)
        usage = None if raw is None else decode_usage(raw)
        return QuotaStatus(
            bytes_max=quota.bytes_max,
            objects_max=quota.objects_max,
            bytes=None if usage is None else usage.bytes,
            objects=None if usage is None else usage.objects,
            counted_ms=None if usage is None else usage.begun_ms,
        )


async def account_quota(kv: KVStore, owner: str) -> Quota | None:
    """`owner` is the canonical id of an account."""
    raw = await kv.aget(keys.account_quota(owner))
    return None if raw is None else Quota(**dict(zip(_FIELDS, decode_quota(raw), strict=True)))


async def set_account_quota(kv: KVStore, owner: str, quota: Quota | None) -> None:
    raw = None if quota is None else encode((quota.bytes_max, quota.objects_max))
    await kv.commit([], [(keys.account_quota(owner), raw)])


_FIELDS: Final = ("bytes_max", "objects_max")
