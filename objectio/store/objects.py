"""Objects: put, get, delete, copy. One commit makes a version visible, and lets go of the one
before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from typing_extensions import Buffer

from objectio.abc.kv import Absent, Check, Equals
from objectio.abc.objects import (
    NULL_VERSION,
    Conditions,
    Deleted,
    DeleteTarget,
    ObjectAttributes,
    ObjectInfo,
    Origin,
    Payload,
    PayloadDigests,
)
from objectio.errors import CommitConflict, InvalidRequest, NotFound, ObjectIOError, Unavailable
from objectio.kv.store import KVStore
from objectio.limits import OBJECT_KEY_BYTES_MAX
from objectio.meta import keys
from objectio.meta.buckets import COMMIT_TRIES, Bucket, Buckets
from objectio.meta.records import (
    BlobRef,
    BlobRow,
    ObjectRecord,
    decode_manifest,
    decode_object,
    encode,
)
from objectio.store.conditions import check_read, check_write
from objectio.store.copying import CopyPayload
from objectio.store.garbage import Write, garbage_row
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse, Upkeep
from objectio.store.read import BlobReads
from objectio.store.write import BlobWriter, Written


def now_ms() -> int:
    return int(time.time() * 1000)


class Objects:
    def __init__(
        self,
        kv: KVStore,
        buckets: Buckets,
        pools: Pools,
        writer: BlobWriter,
        reads: BlobReads,
        in_use: BlobsInUse,
        upkeep: Upkeep,
    ) -> None:
        self._kv = kv
        self._buckets = buckets
        self._pools = pools
        self._writer = writer
        self._reads = reads
        self._in_use = in_use
        self._upkeep = upkeep

    # Reading.

    async def _find(
        self, bucket: str, key: bytes, version_id: str | None
    ) -> tuple[bytes, bytes, ObjectRecord]:
        """The row, its value, and the record with the manifest's part if it has one."""
        found = await self._buckets.find(bucket)
        row = keys.object(found.id, key)
        for _ in range(COMMIT_TRIES):
            raw = await self._kv.aget(row)
            if version_id is not None and (raw is None or version_id != NULL_VERSION):
                raise NotFound("no such version", kind="version", bucket=bucket, key=key)
            if raw is None:
                raise _no_such_object(bucket, key)
            record = await self._whole(decode_object(raw))
            if record is not None:
                return row, raw, record
        raise Unavailable("too many writers of one key at once", key=key)

    async def _whole(self, record: ObjectRecord) -> ObjectRecord | None:
        """The record with blobs and part sizes; None if it was replaced since it was read."""
        if not record.manifest:
            return record
        raw = await self._kv.aget(keys.manifest(record.manifest))
        if raw is None:
            return None
        manifest = decode_manifest(raw)
        return msgspec.structs.replace(record, blobs=manifest.blobs, part_sizes=manifest.part_sizes)

    async def get(self, bucket: str, key: bytes, version_id: str | None) -> OpenObject:
        while True:
            row, raw, record = await self._find(bucket, key, version_id)
            self._in_use.pin(record.blobs)
            # Where reads wait, it may have been replaced, and collected, before it was pinned.
            if self._kv.fast_reads or await self._still(row, raw, record.blobs):
                return OpenObject(record.info(key), record.blobs, self._reads, self._in_use)

    async def _still(self, row: bytes, raw: bytes, pinned: Sequence[BlobRef]) -> bool:
        """Whether the row is as it was read; if not, what was pinned is let go."""
        same = False
        try:
            same = await self._kv.aget(row) == raw
        finally:
            if not same:
                self._in_use.unpin(pinned)
        return same

    async def head(self, bucket: str, key: bytes, version_id: str | None) -> ObjectInfo:
        _, _, record = await self._find(bucket, key, version_id)
        return record.info(key)

    # Writing.

    async def put(
        self,
        bucket: str,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        owner: str,
        conditions: Conditions | None,
    ) -> ObjectInfo:
        check_key(key)
        found = await self._buckets.find(bucket)
        if conditions is not None:  # again in the commit; here so that no body is sent for nothing
            check_write(conditions, await self._current(found, key))
        if payload.size == 0:
            return await self._put_empty(found, key, payload, attributes, owner, conditions)
        self._kv.check_ready()  # before a body is sent for nothing
        written = await self._writer.write(self._pools.current, payload)
        record = make_record(payload.size, written.digests, attributes, owner, [written.ref], ())
        try:
            await self.commit(found, key, record, conditions, [written], [], [])
        except BaseException:
            self._writer.give_up(written.ref)
            raise
        self._writer.done(written.ref)
        return record.info(key)

    async def _put_empty(
        self,
        bucket: Bucket,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        owner: str,
        conditions: Conditions | None,
    ) -> ObjectInfo:
        if await payload.read():
            raise InvalidRequest("a body where none was declared", reason="InvalidRequest")
        payload.digest(b"")
        record = make_record(0, payload.finish(), attributes, owner, [], ())
        await self.commit(bucket, key, record, conditions, [], [], [])
        return record.info(key)

    async def commit(
        self,
        bucket: Bucket,
        key: bytes,
        record: ObjectRecord,
        conditions: Conditions | None,
        written: Sequence[Written],
        more_checks: Sequence[Check],
        more_writes: Sequence[Write],
    ) -> None:
        """Make `record` the current version: all of it or nothing, whoever else writes the key.

        A conflict over the object's own row is tried again with what is there then; one over
        `more_checks` is the caller's to explain, and raises `CommitConflict`.
        """
        row = keys.object(bucket.id, key)
        new_rows: list[Write] = [(row, encode(record))]
        for blob in written:
            new_rows.append((keys.blob(blob.ref.blob), encode(BlobRow(blob.ref, bucket.id, key))))
            if blob.missing:
                new_rows.append((keys.repair(blob.ref.blob), encode(blob.missing)))
        for _ in range(COMMIT_TRIES):
            raw = await self._kv.aget(row)
            if raw == new_rows[0][1] and (written or record.manifest):  # names that are ours alone
                return  # an engine that tried again after a failure had been through before
            old = None if raw is None else decode_object(raw)
            if conditions is not None:
                check_write(conditions, old)
            check: Check = Absent(row) if raw is None else Equals(row, raw)
            writes = [*new_rows, *more_writes]
            if old is not None:
                gone = await self._let_go(old)
                if gone is None:
                    continue
                writes += gone
            try:
                await self._kv.commit([bucket.check, check, *more_checks], writes)
            except CommitConflict as conflict:
                if conflict.fields.get("check") == check:
                    continue
                if conflict.fields.get("check") == bucket.check:
                    bucket = await self._buckets.find(bucket.record.name)
                    if keys.object(bucket.id, key) != row:
                        raise _no_such_bucket(bucket) from None
                    continue
                raise
            if old is not None:
                self._upkeep.garbage()
            if any(blob.missing for blob in written):
                self._upkeep.repairs()
            return
        raise Unavailable("too many writers of one key at once", key=key)

    async def _let_go(self, old: ObjectRecord) -> list[Write] | None:
        """The writes that hand what an old version held over to the collector; None if somebody
        else did so meanwhile."""
        whole = await self._whole(old)
        if whole is None:
            return None
        writes: list[Write] = [garbage_row(whole.blobs)] if whole.blobs else []
        if old.manifest:
            writes.append((keys.manifest(old.manifest), None))
        return writes

    async def _current(self, bucket: Bucket, key: bytes) -> ObjectRecord | None:
        raw = await self._kv.aget(keys.object(bucket.id, key))
        return None if raw is None else decode_object(raw)

    async def update(
        self,
        bucket: str,
        key: bytes,
        change: Callable[[ObjectInfo], ObjectAttributes],
        version_id: str | None,
        origin: Origin | None,
    ) -> ObjectInfo:
        for _ in range(COMMIT_TRIES):
            row, raw, record = await self._find(bucket, key, version_id)
            said = change(record.info(key))
            new = msgspec.structs.replace(
                decode_object(raw),
                headers=dict(said.headers),
                metadata=dict(said.metadata),
                tags=dict(said.tags),
                acl=said.acl,
                retention=said.retention,
                legal_hold=said.legal_hold,
            )
            try:
                await self._kv.commit([Equals(row, raw)], [(row, encode(new))])
            except CommitConflict:
                continue
            return new.info(key)
        raise Unavailable("too many writers of one key at once", key=key)

    # Deleting.

    async def delete(
        self,
        bucket: str,
        target: DeleteTarget,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Deleted:
        key, version_id, conditions = target
        check_key(key)
        found = await self._buckets.find(bucket)
        row = keys.object(found.id, key)
        for _ in range(COMMIT_TRIES):
            raw = await self._kv.aget(row)
            if version_id is not None and version_id != NULL_VERSION:
                raw = None
            old = None if raw is None else decode_object(raw)
            if conditions is not None:
                check_write(conditions, old)
            if raw is None or old is None:
                return Deleted()
            gone = await self._let_go(old)
            if gone is None:
                continue
            try:
                await self._kv.commit([Equals(row, raw)], [(row, None), *gone])
            except CommitConflict:
                continue
            self._upkeep.garbage()
            return Deleted(old.info(key))
        raise Unavailable("too many writers of one key at once", key=key)

    async def delete_many(
        self,
        bucket: str,
        targets: Sequence[DeleteTarget],
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Sequence[Deleted | Exception]:
        await self._buckets.find(bucket)

        async def one(target: DeleteTarget) -> Deleted | Exception:
            try:
                return await self.delete(bucket, target, bypass_governance, origin)
            except ObjectIOError as error:
                return error

        return await asyncio.gather(*map(one, targets))

    # Copying.

    async def copy(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        owner: str,
        source_version_id: str | None,
        source_conditions: Conditions | None,
        attributes: ObjectAttributes | None,
    ) -> ObjectInfo:
        source = await self.get(source_bucket, source_key, source_version_id)
        try:
            if source_conditions is not None:
                check_read(source_conditions, source.info, copying=True)
            payload = CopyPayload(source)
            try:
                return await self.put(
                    bucket, key, payload, attributes or _kept(source.info.attributes), owner, None
                )
            finally:
                await payload.close()
        finally:
            source.close()


class OpenObject:
    """An `objectio.abc.objects.ObjectReader`."""

    __slots__ = ("_in_use", "_open", "_reads", "_refs", "info")

    def __init__(
        self, info: ObjectInfo, refs: Sequence[BlobRef], reads: BlobReads, in_use: BlobsInUse
    ) -> None:
        self.info = info
        self._refs = refs
        self._reads = reads
        self._in_use = in_use
        self._open = True

    def read_now(self, start: int, length: int) -> Buffer | None:
        if length == 0:
            return b""
        if len(self._refs) != 1:
            return None
        return self._reads.read_now(self._refs[0], start, length)

    def stream(self, start: int, length: int) -> AsyncGenerator[Buffer, None]:
        return self._reads.stream(self._refs, start, length)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._in_use.unpin(self._refs)


def check_key(key: bytes) -> None:
    if not key:
        raise InvalidRequest("a key has at least one byte", reason="InvalidArgument")
    if len(key) > OBJECT_KEY_BYTES_MAX:
        raise InvalidRequest(
            f"a key has at most {OBJECT_KEY_BYTES_MAX} bytes", reason="KeyTooLongError"
        )


def make_record(
    size: int,
    digests: PayloadDigests,
    attributes: ObjectAttributes,
    owner: str,
    blobs: Sequence[BlobRef],
    part_sizes: Sequence[int],
    manifest: bytes = b"",
) -> ObjectRecord:
    return ObjectRecord(
        size,
        digests.etag,
        now_ms(),
        attributes.storage_class,
        owner,
        attributes.checksum_algorithm,
        attributes.checksum_type,
        NULL_VERSION,
        dict(attributes.headers),
        dict(attributes.metadata),
        dict(digests.checksums),
        list(blobs),
        list(part_sizes),
        manifest,
        tags=dict(attributes.tags),
        acl=attributes.acl,
        retention=attributes.retention,
        legal_hold=attributes.legal_hold,
    )


def _kept(attributes: ObjectAttributes) -> ObjectAttributes:
    """What a copy keeps: a checksum made of those of parts means nothing for the copy."""
    if attributes.checksum_type != "COMPOSITE":
        return attributes
    return msgspec.structs.replace(attributes, checksum_algorithm="", checksum_type="")


def _no_such_object(bucket: str, key: bytes) -> NotFound:
    return NotFound("there is no such object", kind="object", bucket=bucket, key=key)


def _no_such_bucket(bucket: Bucket) -> NotFound:
    return NotFound(
        f"bucket {bucket.record.name} was deleted", kind="bucket", bucket=bucket.record.name
    )
