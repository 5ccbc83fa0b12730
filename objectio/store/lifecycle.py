"""Lifecycle: removing what the rules of buckets say is due.

A bucket is walked when its rules were changed, and once after each midnight UTC, for that is when
anything becomes due. How far a walk got stands in a row, so that a restart goes on there; what was done
twice does no harm, for each version is judged by itself, in the commit that removes it, by rules that
are those of the bucket in this very commit. What object lock holds, stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from objectio.abc.kv import Check, Equals, RangeEmpty
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.objects import Origin
from objectio.errors import AccessDenied, CommitConflict, NotFound, ObjectIOError
from objectio.kv.keys import prefix_end
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import Bucket
from objectio.meta.records import EndedUpload, ObjectRecord, encode
from objectio.model.bucket import LIFECYCLE, Lifecycle, decode_document
from objectio.model.lifecycle import DAY_SECONDS, LifecycleRules
from objectio.store.background import Background
from objectio.store.ended import clean_upload
from objectio.store.lifecycle_walk import DueUpload, DueVersion, Step, Walk, is_due
from objectio.store.presence import Upkeep
from objectio.store.repair_rate import TokenBucket
from objectio.store.versions import Versions

_log: Final = logging.getLogger("objectio.store")

ORIGIN: Final = Origin("LifecycleExpiration:Delete", "s3.amazonaws.com")
"""The principal is the one that S3 names."""
_AT_ONCE: Final = 32
"""Removals that share a group commit."""
_TURN_SECONDS: Final = 30.0
"""Then another bucket has its turn."""
_SAVE_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.2
_PAGE: Final = 500
_VERSIONS: Final = b"v"
_UPLOADS: Final = b"u"


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleSettings:
    """See `[store]` in the configuration. `clock` gives Unix seconds."""

    interval_seconds: float
    rows_per_second: float
    day_seconds: float = DAY_SECONDS
    turn_seconds: float = _TURN_SECONDS
    clock: Callable[[], float] = time.time


class LifecyclePass(msgspec.Struct, frozen=True, array_like=True):
    """The walk of a bucket: by which rules, when it began, and where it goes on; an empty `cursor`
    says that it is done."""

    rules: bytes
    begun_ms: int
    cursor: bytes


_decode_pass: Final = msgspec.msgpack.Decoder(LifecyclePass).decode


class _Changed(Exception):
    """The bucket is not as it was: look at it anew."""


class LifecycleWorker(Background):
    """Runs in the background."""

    def __init__(
        self,
        kv: KVStore,
        versions: Versions,
        upkeep: Upkeep,
        settings: LifecycleSettings,
        metrics: Metrics | None = None,
    ) -> None:
        self._kv = kv
        self._versions = versions
        self._upkeep = upkeep
        self._settings = settings
        self._pace = TokenBucket(settings.rows_per_second)
        self.done: Counter[str] = Counter()
        """What was removed since the start, by kind."""
        metrics = NullMetrics() if metrics is None else metrics
        for kind in ("current", "noncurrent", "marker", "upload"):
            metrics.counter_function(
                "objectio_lifecycle_removed_total",
                "What lifecycle rules removed.",
                lambda kind=kind: self.done[kind],  # type: ignore[misc]
                kind=kind,
            )

    async def _run(self) -> None:
        while True:
            more = False
            try:
                more = await self.look()
            except Exception as error:
                _log.warning("lifecycle: %s", error, exc_info=True)
            await asyncio.sleep(_AGAIN_SECONDS if more else self._settings.interval_seconds)

    # Which buckets.

    async def look(self) -> bool:
        """Give each bucket that is due its turn. Returns whether some are to have another one."""
        more, with_rules = False, set[bytes]()
        start, stop = keys.BUCKETS, prefix_end(keys.BUCKETS)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            buckets = [Bucket(row, raw) for row, raw in rows]
            wanted = [keys.document(bucket.id, LIFECYCLE) for bucket in buckets]
            documents = await self._kv.aget_many(wanted)
            for bucket, document in zip(buckets, documents, strict=True):
                if document is not None:
                    with_rules.add(bucket.id)
                    more |= await self._turn_or_log(bucket, document)
            start = rows[-1][0] + b"\0"
            await asyncio.sleep(0)
        await self._forget(with_rules)
        return more

    async def _forget(self, with_rules: set[bytes]) -> None:
        """Passes of buckets that have no rules any more, or are gone."""
        start, stop = keys.LIFECYCLES, prefix_end(keys.LIFECYCLES)
        while rows := await self._kv.ascan(start, stop, limit=_PAGE):
            gone = [row for row, _ in rows if row[len(keys.LIFECYCLES) :] not in with_rules]
            if gone:
                await self._kv.commit([], [(row, None) for row in gone])
            start = rows[-1][0] + b"\0"

    async def _turn_or_log(self, bucket: Bucket, document: bytes) -> bool:
        try:
            return await self._turn(bucket, document)
        except (_Changed, NotFound):
            return True
        except Exception as error:
            known = isinstance(error, ObjectIOError)
            name = bucket.record.name
            _log.warning("lifecycle of bucket %s: %s", name, error, exc_info=not known)
            return False

    async def _due(self, bucket: Bucket, document: bytes) -> LifecyclePass | None:
        """The pass to go on with."""
        settings, now_ms = self._settings, int(self._settings.clock() * 1000)
        said = (document, bucket.record.versioning, settings.day_seconds)
        rules = hashlib.sha256(repr(said).encode()).digest()[:16]
        fresh = LifecyclePass(rules, now_ms, _VERSIONS)
        raw = await self._kv.aget(keys.lifecycle(bucket.id))
        if raw is None:
            return fresh
        last = _decode_pass(raw)
        if last.rules != rules:
            return fresh
        if last.cursor:
            return last
        if settings.day_seconds != DAY_SECONDS:
            return fresh
        midnight_ms = now_ms - now_ms % (DAY_SECONDS * 1000)
        return fresh if last.begun_ms < midnight_ms else None

    # A turn.

    async def _turn(self, bucket: Bucket, document: bytes) -> bool:
        """Walk on, for a while. Returns whether there is more to do."""
        current = await self._due(bucket, document)
        if current is None:
            return False
        lifecycle = decode_document(document, Lifecycle)
        rules = LifecycleRules(lifecycle, day_seconds=self._settings.day_seconds)
        now_ms = self._settings.clock() * 1000
        began = saved = time.monotonic()
        async for step, cursor in _steps(Walk(self._kv, bucket, rules, now_ms), current.cursor):
            while delay := self._pace.wait_seconds():
                await asyncio.sleep(delay)
            self._pace.spend(step.rows)
            await self._act(bucket, rules, step.due)
            if cursor is None or time.monotonic() - saved < _SAVE_SECONDS:
                continue
            current = msgspec.structs.replace(current, cursor=cursor)
            await self._save(bucket, current)
            saved = time.monotonic()
            if saved - began >= self._settings.turn_seconds:
                return True
        await self._save(bucket, msgspec.structs.replace(current, cursor=b""))
        return False

    async def _save(self, bucket: Bucket, current: LifecyclePass) -> None:
        row = keys.lifecycle(bucket.id)
        try:
            await self._kv.commit([bucket.check], [(row, encode(current))])
        except CommitConflict:
            raise _Changed from None

    async def _act(
        self, bucket: Bucket, rules: LifecycleRules, due: Sequence[DueVersion | DueUpload]
    ) -> None:
        for at in range(0, len(due), _AT_ONCE):
            removals = [
                self._abort(bucket, each)
                if isinstance(each, DueUpload)
                else self._remove(bucket, rules, each)
                for each in due[at : at + _AT_ONCE]
            ]
            outcomes = await asyncio.gather(*removals, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _remove(self, bucket: Bucket, rules: LifecycleRules, version: DueVersion) -> None:
        judged = False

        def judge(record: ObjectRecord) -> bool:
            nonlocal judged
            judged = is_due(rules, version, record, self._settings.clock() * 1000)
            return judged

        checks: list[Check] = [bucket.check]
        if version.kind == "marker":
            others = keys.versions_of_key(bucket.id, version.key)
            checks.append(RangeEmpty(others, prefix_end(others)))
        try:
            await self._versions.delete(
                bucket,
                version.key,
                version.version_id,
                judge=judge,
                checks=checks,
                origin=ORIGIN,
            )
        except AccessDenied:
            return  # object lock holds it
        except msgspec.DecodeError as error:  # the list of its parts, say: others are due, too
            _log.warning("lifecycle: a version of %r cannot be read: %s", version.key, error)
            return
        except CommitConflict as conflict:
            if conflict.fields.get("check") == bucket.check:
                raise _Changed from None
            return  # the marker is not alone any more
        if judged:
            self.done[version.kind] += 1

    async def _abort(self, bucket: Bucket, upload: DueUpload) -> None:
        ended = EndedUpload([])
        writes = [(upload.row, None), (keys.ended(upload.upload_id), encode(ended))]
        try:
            await self._kv.commit([Equals(upload.row, upload.raw), bucket.check], writes)
        except CommitConflict as conflict:
            if conflict.fields.get("check") == bucket.check:
                raise _Changed from None
            return  # it ended otherwise
        await clean_upload(self._kv, upload.upload_id, ended)
        self._upkeep.garbage()
        self.done["upload"] += 1


async def _steps(walk: Walk, cursor: bytes) -> AsyncIterator[tuple[Step, bytes | None]]:
    """Each step with the cursor behind it."""
    kind, after = cursor[:1], cursor[1:]
    if kind == _VERSIONS:
        async for step in walk.versions(after):
            yield step, None if step.after is None else _VERSIONS + step.after
        after = b""
    async for step in walk.uploads(after):
        yield step, None if step.after is None else _UPLOADS + step.after
