"""Objects: put, get, delete, copy. What becomes of the versions of a key, `objectio.store.versions`
says; here are the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from typing_extensions import Buffer

from objectio.abc.objects import (
    NULL_VERSION,
    Conditions,
    Deleted,
    DeleteTarget,
    Encryption,
    ObjectAttributes,
    ObjectInfo,
    Origin,
    Payload,
    PayloadDigests,
)
from objectio.errors import InvalidRequest, ObjectIOError
from objectio.kv.store import KVStore
from objectio.limits import OBJECT_KEY_BYTES_MAX
from objectio.meta.buckets import Bucket, Buckets
from objectio.meta.records import (
    BlobRef,
    EncryptionRecord,
    ObjectRecord,
)
from objectio.store.conditions import check_read, check_write
from objectio.store.copying import CopyPayload
from objectio.store.encryption import Reads
from objectio.store.locks import check_bucket
from objectio.store.pools import Pools
from objectio.store.presence import BlobsInUse
from objectio.store.sealing import Sealing
from objectio.store.versions import Versions, now_ms
from objectio.store.write import BlobWriter


class Objects:
    def __init__(
        self,
        kv: KVStore,
        buckets: Buckets,
        versions: Versions,
        pools: Pools,
        writer: BlobWriter,
        sealing: Sealing,
        in_use: BlobsInUse,
    ) -> None:
        self._kv = kv
        self._buckets = buckets
        self._versions = versions
        self._pools = pools
        self._writer = writer
        self._sealing = sealing
        self._in_use = in_use

    # Reading.

    async def get(
        self,
        bucket: str,
        key: bytes,
        version_id: str | None,
        customer_key: bytes | None = None,
    ) -> OpenObject:
        place = await self._buckets.find(bucket)
        while True:
            found = await self._versions.find(place, key, version_id)
            record = found.record
            self._in_use.pin(record.blobs)
            # Where reads wait, it may have been replaced, and collected, before it was pinned.
            if self._kv.fast_reads or await self._still(found.row, found.raw, record.blobs):
                info = record.info(
                    key,
                    latest=found.latest,
                    versioned=bool(place.record.versioning),
                    bucket=place.record,
                )
                try:
                    reads = await self._sealing.reads(record.encryption, place, key, customer_key)
                except BaseException:
                    self._in_use.unpin(record.blobs)
                    raise
                return OpenObject(info, record.blobs, reads, self._in_use)

    async def _still(self, row: bytes, raw: bytes, pinned: Sequence[BlobRef]) -> bool:
        """Whether the row is as it was read; if not, what was pinned is let go."""
        same = False
        try:
            same = await self._kv.aget(row) == raw
        finally:
            if not same:
                self._in_use.unpin(pinned)
        return same

    async def head(
        self,
        bucket: str,
        key: bytes,
        version_id: str | None,
        customer_key: bytes | None = None,
        check_key: bool = False,
    ) -> ObjectInfo:
        place = await self._buckets.find(bucket)
        found = await self._versions.find(place, key, version_id)
        if check_key:
            self._sealing.check(found.record.encryption, place, key, customer_key)
        return found.record.info(
            key,
            latest=found.latest,
            versioned=bool(place.record.versioning),
            bucket=place.record,
        )

    # Writing.

    async def put(
        self,
        bucket: str,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        owner: str,
        conditions: Conditions | None = None,
        encryption: Encryption | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        check_key(key)
        found = await self._buckets.find(bucket)
        check_bucket(found.record, attributes)
        if conditions is not None:  # again in the commit; here so that no body is sent for nothing
            check_write(conditions, await self._versions.current(found, key))
        with await self._versions.quotas.admit(found, payload.size, 1):
            return await self._put(
                found, key, payload, attributes, owner, conditions, encryption, origin
            )

    async def _put(
        self,
        found: Bucket,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        owner: str,
        conditions: Conditions | None,
        encryption: Encryption | None,
        origin: Origin | None,
    ) -> ObjectInfo:
        encrypted, sealer = await self._sealing.begin(found, key, encryption)
        if payload.size == 0:
            digests = await _empty_digests(payload)
            record = make_record(0, digests, attributes, owner, encryption=encrypted)
            record = await self._versions.put(
                found, key, record, conditions=conditions, origin=origin
            )
            return record.info(key, versioned=bool(found.record.versioning), bucket=found.record)
        self._kv.check_ready()  # before a body is sent for nothing
        written = await self._writer.write(self._pools.current, payload, sealer)
        record = make_record(
            payload.size, written.digests, attributes, owner, [written.ref], encrypted
        )
        try:
            record = await self._versions.put(
                found, key, record, conditions=conditions, origin=origin, written=[written]
            )
        except BaseException:
            self._writer.give_up(written.ref)
            raise
        self._writer.done(written.ref)
        return record.info(key, versioned=bool(found.record.versioning), bucket=found.record)

    async def update(
        self,
        bucket: str,
        key: bytes,
        change: Callable[[ObjectInfo], ObjectAttributes],
        version_id: str | None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        found = await self._buckets.find(bucket)
        return await self._versions.update(found, key, version_id, change, origin=origin)

    # Deleting.

    async def delete(
        self,
        bucket: str,
        target: DeleteTarget,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Deleted:
        check_key(target.key)
        return await self._versions.delete(
            await self._buckets.find(bucket),
            target.key,
            target.version_id,
            conditions=target.conditions,
            bypass_governance=bypass_governance,
            origin=origin,
        )

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
        conditions: Conditions | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        source = await self.get(source_bucket, source_key, source_version_id, source_customer_key)
        try:
            if source_conditions is not None:
                check_read(source_conditions, source.info, copying=True)
            kept = attributes or _kept(source.info.attributes)
            payload = CopyPayload(source)
            try:
                return await self.put(
                    bucket, key, payload, kept, owner, conditions, encryption, origin
                )
            finally:
                await payload.close()
        finally:
            source.close()


class OpenObject:
    """An `objectio.abc.objects.ObjectReader`."""

    __slots__ = ("_in_use", "_open", "_reads", "_refs", "info")

    def __init__(
        self, info: ObjectInfo, refs: Sequence[BlobRef], reads: Reads, in_use: BlobsInUse
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
    blobs: Sequence[BlobRef] = (),
    encryption: EncryptionRecord | None = None,
) -> ObjectRecord:
    """Of an object in one piece. Its version id is for `Versions.put` to give."""
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
        [],
        tags=dict(attributes.tags),
        acl=attributes.acl,
        retention=attributes.retention,
        legal_hold=attributes.legal_hold,
        encryption=encryption,
    )


def _kept(attributes: ObjectAttributes) -> ObjectAttributes:
    """What a copy keeps: a checksum made of those of parts means nothing for the copy, and what
    protects the source is for who copies to say anew."""
    kept = msgspec.structs.replace(attributes, acl=None, retention=None, legal_hold=False)
    if kept.checksum_type != "COMPOSITE":
        return kept
    return msgspec.structs.replace(kept, checksum_algorithm="", checksum_type="")


async def _empty_digests(payload: Payload) -> PayloadDigests:
    if await payload.read():
        raise InvalidRequest("a body where none was declared", reason="InvalidRequest")
    payload.digest(b"")
    return payload.finish()
