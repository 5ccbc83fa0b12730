"""The versions of a key: what each change of them reads, checks and writes, in one commit.

The current version is in row `o`, or in row `d` if it is a delete marker; those it replaced are in rows
`v`, newest first; row `n` says which of them is the one called "null". A bucket that never had
versioning has rows `o` only, and pays for nothing else.

Why any two changes of a key go one after the other: whoever changes which version is current checks
both `o` and `d` as they were read, and one of them is different afterwards, since no two versions are
alike in sequence and version id. Whoever takes a noncurrent version away checks its row, and so does
whoever makes it the current one. A noncurrent version appears only by a change of the current one. And
all but the removal of a noncurrent version check the bucket's row: no change is made by the rules of
another versioning status.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from objectio.abc.kv import Absent, Check, Equals
from objectio.abc.objects import (
    NULL_VERSION,
    Conditions,
    Deleted,
    ObjectAttributes,
    ObjectInfo,
    Origin,
)
from objectio.errors import CommitConflict, MethodNotAllowed, NotFound, Unavailable
from objectio.kv.keys import decode_uint, encode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import COMMIT_TRIES, Bucket, Buckets
from objectio.meta.records import BlobRow, ObjectRecord, decode_manifest, decode_object, encode
from objectio.model.bucket import LOCK
from objectio.store import locks
from objectio.store.conditions import check_delete, check_write
from objectio.store.documents import Documents
from objectio.store.events import event_rows, wants_events
from objectio.store.garbage import Write, garbage_row
from objectio.store.presence import Upkeep
from objectio.store.quota import Quotas
from objectio.store.write import Written

_SEQUENCE_DIGITS: Final = 16
_VERSION_ID_DIGITS: Final = 32


def now_ms() -> int:
    return int(time.time() * 1000)


class Found(NamedTuple):
    """A version as it was read. `record` is without what a manifest says."""

    row: bytes
    raw: bytes
    record: ObjectRecord
    latest: bool = True
    pointer: tuple[bytes, bytes] | None = None
    """The row `n` that leads to it, and its value."""


class Head:
    """The current version of a key as it was read, or that there is none, and the checks for it to
    be so still. `pointer` is the value of row `n`, where the next version will be called "null"."""

    __slots__ = ("checks", "found", "pointer")

    def __init__(
        self, rows: Sequence[bytes], raws: Sequence[bytes | None], pointer: bytes | None = None
    ) -> None:
        self.found: Found | None = None
        self.checks: list[Check] = []
        self.pointer = pointer
        for row, raw in zip(rows, raws, strict=True):
            if raw is None:
                self.checks.append(Absent(row))
            else:
                self.checks.append(Equals(row, raw))
                self.found = Found(row, raw, locks.decode_unlocked(raw))

    @property
    def record(self) -> ObjectRecord | None:
        return None if self.found is None else self.found.record


class Change:
    """What one commit does to a key.

    created     the version that it puts on top of the others: an object or a delete marker
    updated     the version of which it changes what is said
    removed     versions that are gone for good
    """

    __slots__ = (
        "bucket", "bypass", "checks", "created", "key", "origin", "removed", "updated", "writes",
    )  # fmt: skip

    def __init__(
        self, bucket: Bucket, key: bytes, origin: Origin | None, *, bypass: bool = False
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.origin = origin
        self.bypass = bypass
        self.checks: list[Check] = [bucket.check]
        self.writes: list[Write] = []
        self.created: ObjectRecord | None = None
        self.updated: ObjectRecord | None = None
        self.removed: list[ObjectRecord] = []


class Versions:
    def __init__(self, kv: KVStore, buckets: Buckets, documents: Documents, upkeep: Upkeep) -> None:
        self._kv = kv
        self._buckets = buckets
        self._documents = documents
        self._upkeep = upkeep
        self.quotas = Quotas(kv, documents)

    async def _commit(self, change: Change) -> None:
        """The one commit of a change, whatever made it: put, copy, the completion of an upload,
        delete, update, expiry. What else is to happen with a change, or not at all, goes in here."""
        if change.origin is not None and change.bucket.record.revision:  # it may have rules
            change.writes += await self._events(change, change.origin)
        await self._kv.commit(change.checks, change.writes)
        self.quotas.committed(change.bucket, change.created, change.removed)
        if change.removed:
            self._upkeep.garbage()

    async def _events(self, change: Change, origin: Origin) -> list[Write]:
        """What sinks are to be told of it."""
        documents = await self._documents.get(change.bucket.record.info())
        told = change.created or change.updated or next(iter(change.removed), None)
        if told is None or not wants_events(documents):
            return []
        now_us = time.time_ns() // 1000
        created = change.created
        sequence = 0 if created is None else created.sequence
        return event_rows(
            documents,
            change.bucket.record,
            change.key,
            told,
            origin,
            time_ms=now_us // 1000,
            sequence=sequence or max(now_us, told.sequence + 1),
            marked=created is not None and created.delete_marker,
        )

    # Reading.

    async def find(self, bucket: Bucket, key: bytes, version_id: str | None) -> Found:
        """With what the manifest says, if there is one. Raises `NotFound` and `MethodNotAllowed`, as
        `ObjectService.get_object`."""
        for _ in range(COMMIT_TRIES):
            if version_id is not None:
                found = await self._find_version(bucket, key, version_id)
            else:  # most often there is an object, and one read is enough
                row = keys.object(bucket.id, key)
                raw = await self._kv.aget(row)
                found = None if raw is None else Found(row, raw, decode_object(raw))
                if found is None and bucket.record.versioning:
                    found = (await self._head(bucket, key)).found
            if found is None or found.record.delete_marker:
                raise _not_there(bucket, key, version_id, found)
            if not found.record.manifest:
                return found
            record = await self.whole(found.record)
            if record is not None:
                return found._replace(record=record)
        raise _too_many_writers(key)

    async def whole(self, record: ObjectRecord) -> ObjectRecord | None:
        """The record with what its manifest says; None if it is gone since it was read."""
        if not record.manifest:
            return record
        raw = await self._kv.aget(keys.manifest(record.manifest))
        if raw is None:
            return None
        manifest = decode_manifest(raw)
        return msgspec.structs.replace(
            record,
            blobs=manifest.blobs,
            part_sizes=manifest.part_sizes,
            part_numbers=manifest.part_numbers,
            part_checksums=manifest.part_checksums,
        )

    async def _head(self, bucket: Bucket, key: bytes) -> Head:
        row = keys.object(bucket.id, key)
        if not bucket.record.versioning:
            return Head([row], [await self._kv.aget(row)])
        rows = [row, keys.marker(bucket.id, key)]
        if bucket.record.versioning == "Enabled":
            return Head(rows, await self._kv.aget_many(rows))
        *raws, pointer = await self._kv.aget_many([*rows, keys.null_version(bucket.id, key)])
        return Head(rows, raws, pointer)

    async def current(self, bucket: Bucket, key: bytes) -> ObjectRecord | None:
        """As it is in its row, be it an object or a delete marker."""
        return (await self._head(bucket, key)).record

    async def _find_version(self, bucket: Bucket, key: bytes, version_id: str) -> Found | None:
        """Wherever it is. A version that moves between rows while this looks is found nevertheless:
        either both places are read from one snapshot, or it is looked for again."""
        if not bucket.record.versioning:
            found = (await self._head(bucket, key)).found
            return found if version_id == NULL_VERSION else None
        rows = [keys.object(bucket.id, key), keys.marker(bucket.id, key)]
        sequence = _sequence_of(version_id)
        if sequence is not None:
            rows.append(keys.version(bucket.id, key, sequence))
        elif version_id == NULL_VERSION:
            rows.append(keys.null_version(bucket.id, key))
        else:
            return None
        for _ in range(COMMIT_TRIES):
            *raws, last = await self._kv.aget_many(rows)
            head = Head(rows[:2], raws).found
            if head is not None and head.record.version_id == version_id:
                return head
            if last is None:
                return None
            row, raw, pointer = rows[2], last, None
            if sequence is None:
                pointer = row, last
                row = keys.version(bucket.id, key, decode_uint(last))
                behind = await self._kv.aget(row)
                if behind is None:
                    continue
                raw = behind
            found = Found(row, raw, locks.decode_unlocked(raw), False, pointer)
            return found if found.record.version_id == version_id else None
        raise _too_many_writers(key)

    # Writing.

    async def put(
        self,
        bucket: Bucket,
        key: bytes,
        record: ObjectRecord,
        *,
        conditions: Conditions | None = None,
        origin: Origin | None = None,
        written: Sequence[Written] = (),
        checks: Sequence[Check] = (),
        writes: Sequence[Write] = (),
    ) -> ObjectRecord:
        """Make `record` the current version: all of it or nothing, whoever else writes the key. It
        gets its version id here, and the bucket's default retention. Returns it as it is now.

        A conflict over the key is tried again with what is there then; one over `checks` is the
        caller's to explain, and raises `CommitConflict`.
        """
        more = [*_rows_of(bucket, key, written), *writes]
        tried: ObjectRecord | None = None
        for _ in range(COMMIT_TRIES):
            if tried is not None and await self._has_come_through(tried):
                return tried  # an engine that tried again after a failure
            change = Change(bucket, key, origin)
            head = await self._head(bucket, key)
            if conditions is not None:
                check_write(conditions, head.record)
            new = await self._retained(bucket, record)
            if not await self._push(change, head, new):
                continue
            change.checks += checks
            change.writes += more
            tried = change.created
            try:
                await self._commit(change)
            except CommitConflict as conflict:
                bucket = await self._again(change, conflict, checks)
                continue
            if any(blob.missing for blob in written):
                self._upkeep.repairs()
            return tried or new
        raise _too_many_writers(key)

    async def _has_come_through(self, tried: ObjectRecord) -> bool:
        """Whether a commit did happen although it was said to conflict. Only where the record has
        rows that are its alone can that be told."""
        if tried.manifest:
            row = keys.manifest(tried.manifest)
        elif len(tried.blobs) == 1 and not tried.part_sizes:
            row = keys.blob(tried.blobs[0].blob)
        else:
            return False
        return await self._kv.aget(row) is not None

    async def _retained(self, bucket: Bucket, record: ObjectRecord) -> ObjectRecord:
        if not bucket.record.object_lock:
            locks.check_bucket(bucket.record, record)
            return record
        if record.retention is not None or record.delete_marker:
            return record
        documents = await self._documents.get(bucket.record.info())
        retention = locks.default_retention(documents.get(LOCK))
        return msgspec.structs.replace(record, retention=retention)

    async def _push(self, change: Change, head: Head, record: ObjectRecord) -> bool:
        """Put a version on top of the others. False if somebody else was faster."""
        bucket_id, key = change.bucket.id, change.key
        change.checks += head.checks
        status, old = change.bucket.record.versioning, head.found
        if status:
            record = _named(record, status, head.record)
        change.created = record
        new_row = (keys.marker if record.delete_marker else keys.object)(bucket_id, key)
        change.writes.append((new_row, encode(record)))
        if old is None:
            return True
        if old.row != new_row:
            change.writes.append((old.row, None))
        replaces_null = not status or record.version_id == NULL_VERSION
        if replaces_null and old.record.version_id == NULL_VERSION:
            return await self._let_go(change, old.record)
        behind = msgspec.structs.replace(old.record, since_ms=record.modified_ms)
        sequence = old.record.sequence
        change.writes.append((keys.version(bucket_id, key, sequence), encode(behind)))
        if old.record.version_id == NULL_VERSION:
            change.writes.append((keys.null_version(bucket_id, key), encode_uint(sequence)))
        elif replaces_null and head.pointer is not None:
            return await self._drop_null(change, head.pointer)
        return True

    async def _drop_null(self, change: Change, pointer: bytes) -> bool:
        """Of the two versions that would be called "null", only the new one stays."""
        row = keys.version(change.bucket.id, change.key, decode_uint(pointer))
        raw = await self._kv.aget(row)
        if raw is None:
            return False
        null_row = keys.null_version(change.bucket.id, change.key)
        found = Found(row, raw, locks.decode_unlocked(raw), False, (null_row, pointer))
        return await self._take_out(change, found)

    async def _take_out(self, change: Change, found: Found) -> bool:
        """Remove a noncurrent version. False if somebody else was faster."""
        change.checks.append(Equals(found.row, found.raw))
        change.writes.append((found.row, None))
        if found.pointer is not None:
            change.checks.append(Equals(*found.pointer))
            change.writes.append((found.pointer[0], None))
        return await self._let_go(change, found.record)

    async def _let_go(self, change: Change, record: ObjectRecord) -> bool:
        """Hand what a version held over to the collector. False if somebody else did so."""
        if record.legal_hold or record.retention is not None:
            locks.check_removal(record, bypass_governance=change.bypass)
        whole = await self.whole(record)
        if whole is None:
            return False
        if whole.blobs:
            change.writes.append(garbage_row(whole.blobs))
        if record.manifest:
            change.writes.append((keys.manifest(record.manifest), None))
        change.removed.append(whole)
        return True

    async def _again(
        self, change: Change, conflict: CommitConflict, theirs: Sequence[Check] = ()
    ) -> Bucket:
        """The bucket to try again with."""
        failed = conflict.fields.get("check")
        if failed in theirs:
            raise conflict
        bucket = change.bucket
        return bucket if failed != bucket.check else await self._buckets.find_again(bucket)

    async def update(
        self,
        bucket: Bucket,
        key: bytes,
        version_id: str | None,
        change_said: Callable[[ObjectInfo], ObjectAttributes],
        *,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        """Change what is said about a version, where it is."""
        versioned = bool(bucket.record.versioning)
        for _ in range(COMMIT_TRIES):
            found = await self.find(bucket, key, version_id)
            record = found.record
            said = change_said(record.info(key, latest=found.latest, versioned=versioned))
            locks.check_bucket(bucket.record, said)
            locks.check_change(record, said.retention)
            new = _saying(decode_object(found.raw), said)
            change = Change(bucket, key, origin)
            change.checks.append(Equals(found.row, found.raw))
            change.writes.append((found.row, encode(new)))
            change.updated = _saying(record, said)
            try:
                await self._commit(change)
            except CommitConflict as conflict:
                bucket = await self._again(change, conflict)
                continue
            return change.updated.info(key, latest=found.latest, versioned=versioned)
        raise _too_many_writers(key)

    # Deleting.

    async def delete(
        self,
        bucket: Bucket,
        key: bytes,
        version_id: str | None = None,
        *,
        conditions: Conditions | None = None,
        judge: Callable[[ObjectRecord], bool] | None = None,
        bypass_governance: bool = False,
        origin: Origin | None = None,
        checks: Sequence[Check] = (),
    ) -> Deleted:
        """As `ObjectService.delete_object`. `judge` is asked about the version that `version_id`
        names, or the current one, as it is when the commit happens: if it says no, or there is none,
        nothing is done. A conflict over `checks` raises `CommitConflict`."""
        for _ in range(COMMIT_TRIES):
            change = Change(bucket, key, origin, bypass=bypass_governance)
            if version_id is None:
                head = await self._head(bucket, key)
                found = head.found
            else:
                head = None
                found = await self._find_version(bucket, key, version_id)
            if found is None and (conditions is not None or judge is not None or head is None):
                return Deleted(version_id=version_id if bucket.record.versioning else None)
            if found is not None and conditions is not None:
                check_delete(conditions, found.record)
            if found is not None and judge is not None and not judge(found.record):
                return Deleted(version_id=version_id if bucket.record.versioning else None)
            if head is not None:
                done = await self._delete_current(change, head)
            else:
                assert found is not None
                done = await self._delete_version(change, found)
            if done is None:
                continue
            change.checks += checks
            try:
                if change.writes:
                    await self._commit(change)
            except CommitConflict as conflict:
                bucket = await self._again(change, conflict, checks)
                continue
            return done
        raise _too_many_writers(key)

    async def _delete_current(self, change: Change, head: Head) -> Deleted | None:
        """A delete marker on top, or the end of the only version; None if somebody was faster."""
        bucket, found = change.bucket.record, head.found
        if bucket.versioning:
            marker = _delete_marker(bucket.owner)
            if not await self._push(change, head, marker) or change.created is None:
                return None
            info = change.removed[0].info(change.key, versioned=True) if change.removed else None
            return Deleted(info, change.created.version_id, True)
        if found is None:
            return Deleted()
        change.checks += head.checks
        change.writes.append((found.row, None))
        if not await self._let_go(change, found.record):
            return None
        return Deleted(change.removed[0].info(change.key))

    async def _delete_version(self, change: Change, found: Found) -> Deleted | None:
        versioned = bool(change.bucket.record.versioning)
        if not found.latest:
            change.checks.clear()
            if not await self._take_out(change, found):
                return None
        else:
            change.checks.append(Equals(found.row, found.raw))
            if versioned:
                await self._promote(change, found)
            else:
                change.writes.append((found.row, None))
            if not await self._let_go(change, found.record):
                return None
        info = change.removed[0].info(change.key, latest=found.latest, versioned=versioned)
        if not versioned:
            return Deleted(info)
        return Deleted(info, info.version_id, info.is_delete_marker)

    async def _promote(self, change: Change, former: Found) -> None:
        """The newest of the noncurrent versions takes the place of the one that goes."""
        bucket_id, key = change.bucket.id, change.key
        newest = await self._kv.ascan_prefix(keys.versions_of_key(bucket_id, key), limit=1)
        if not newest:
            change.writes.append((former.row, None))
            return
        row, raw = newest[0]
        record = msgspec.structs.replace(locks.decode_unlocked(raw), since_ms=0)
        place = (keys.marker if record.delete_marker else keys.object)(bucket_id, key)
        change.checks.append(Equals(row, raw))
        change.writes += [(row, None), (place, encode(record))]
        if place != former.row:
            change.writes.append((former.row, None))
            change.checks.append(Absent(place))
        if record.version_id == NULL_VERSION:
            change.writes.append((keys.null_version(bucket_id, key), None))


def _named(record: ObjectRecord, status: str, head: ObjectRecord | None) -> ObjectRecord:
    """With its place behind all others of its key, and the id of it."""
    sequence = time.time_ns() // 1000
    if head is not None:
        sequence = max(sequence, head.sequence + 1)
    version_id = NULL_VERSION
    if status == "Enabled":
        version_id = f"{sequence:0{_SEQUENCE_DIGITS}x}{os.urandom(8).hex()}"
    return msgspec.structs.replace(record, version_id=version_id, sequence=sequence)


def _sequence_of(version_id: str) -> int | None:
    if len(version_id) != _VERSION_ID_DIGITS:
        return None
    try:
        raw = bytes.fromhex(version_id)
    except ValueError:
        return None
    return decode_uint(raw) if raw.hex() == version_id else None


def _rows_of(bucket: Bucket, key: bytes, written: Sequence[Written]) -> list[Write]:
    rows: list[Write] = []
    for blob in written:
        rows.append((keys.blob(blob.ref.blob), encode(BlobRow(blob.ref, bucket.id, key))))
        if blob.missing:
            rows.append((keys.repair(blob.ref.blob), encode(blob.missing)))
    return rows


def _saying(record: ObjectRecord, said: ObjectAttributes) -> ObjectRecord:
    return msgspec.structs.replace(
        record,
        headers=dict(said.headers),
        metadata=dict(said.metadata),
        storage_class=said.storage_class,
        tags=dict(said.tags),
        acl=said.acl,
        retention=said.retention,
        legal_hold=said.legal_hold,
    )


def _delete_marker(owner: str) -> ObjectRecord:
    return ObjectRecord(
        0, "", now_ms(), "STANDARD", owner, "", "", NULL_VERSION, {}, {}, {}, [], [],
        delete_marker=True,
    )  # fmt: skip


def _not_there(
    bucket: Bucket, key: bytes, version_id: str | None, found: Found | None
) -> NotFound | MethodNotAllowed:
    name = bucket.record.name
    if found is None and version_id is not None:
        return NotFound(
            "no such version", kind="version", bucket=name, key=key, version_id=version_id
        )
    if found is None:
        return NotFound("there is no such object", kind="object", bucket=name, key=key)
    marker = {"delete_marker": True, "version_id": found.record.version_id}
    if version_id is None:
        return NotFound("the object was deleted", kind="object", bucket=name, key=key, **marker)
    return MethodNotAllowed(
        "the version is a delete marker",
        bucket=name, key=key, modified_ms=found.record.modified_ms, **marker,
    )  # fmt: skip


def _too_many_writers(key: bytes) -> Unavailable:
    return Unavailable("too many writers of one key at once", key=key)
