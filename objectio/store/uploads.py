"""Multipart uploads. Completing one moves no bytes: the object takes over the parts' blobs."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

import msgspec

from objectio.abc.kv import Absent, Check, Equals
from objectio.abc.objects import (
    CompletePart,
    Conditions,
    Encryption,
    ObjectAttributes,
    ObjectInfo,
    Origin,
    PartInfo,
    PartListing,
    Payload,
    PayloadDigests,
    UploadInfo,
)
from objectio.errors import CommitConflict, InvalidRequest, NotFound, Unavailable
from objectio.kv.keys import decode_uint, prefix_end
from objectio.kv.store import KVStore
from objectio.limits import KV_SCAN_ROWS_MAX, PART_NUMBER_MAX
from objectio.meta import keys
from objectio.meta.buckets import COMMIT_TRIES, Bucket, Buckets
from objectio.meta.records import (
    BlobRef,
    BlobRow,
    EndedUpload,
    Manifest,
    ObjectRecord,
    PartRecord,
    UploadRecord,
    decode_ended,
    decode_part,
    decode_upload,
    encode,
)
from objectio.store.encryption import Sealer
from objectio.store.ended import clean_upload
from objectio.store.garbage import Write, garbage_row
from objectio.store.locks import check_bucket
from objectio.store.objects import check_key, make_record
from objectio.store.pools import Pools
from objectio.store.presence import Upkeep
from objectio.store.quota import Held
from objectio.store.sealing import Sealing
from objectio.store.versions import Versions, now_ms
from objectio.store.write import BlobWriter

_log: Final = logging.getLogger("objectio.store")

_UPLOAD_ID_BYTES: Final = 16
_PARTS_INLINE_MAX: Final = 16
"""An object of more parts keeps their list in a row of its own, so that listings stay light."""


class _Upload:
    """An upload as it was read."""

    __slots__ = ("check", "id", "record", "row")

    def __init__(self, upload_id: bytes, row: bytes, raw: bytes) -> None:
        self.id = upload_id
        self.row = row
        self.record = decode_upload(raw)
        self.check = Equals(row, raw)


class Uploads:
    def __init__(
        self,
        kv: KVStore,
        buckets: Buckets,
        pools: Pools,
        writer: BlobWriter,
        upkeep: Upkeep,
        versions: Versions,
        sealing: Sealing,
        part_size_bytes_min: int,
    ) -> None:
        self._kv = kv
        self._buckets = buckets
        self._pools = pools
        self._writer = writer
        self._upkeep = upkeep
        self._versions = versions
        self._sealing = sealing
        self._part_size_bytes_min = part_size_bytes_min
        self._cleaning: set[asyncio.Task[None]] = set()

    @property
    def cleaning(self) -> int:
        """Uploads that ended and whose rows are being dropped."""
        return len(self._cleaning)

    async def stop(self) -> None:
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    async def _find(self, bucket: str, key: bytes, upload_id: str) -> tuple[Bucket, _Upload]:
        found = await self._buckets.find(bucket)
        try:
            raw_id = bytes.fromhex(upload_id)
        except ValueError:
            raise _no_such_upload(upload_id) from None
        if len(raw_id) != _UPLOAD_ID_BYTES or raw_id.hex() != upload_id:
            raise _no_such_upload(upload_id)
        row = keys.upload(found.id, key, raw_id)
        raw = await self._kv.aget(row)
        if raw is None:
            raise _no_such_upload(upload_id)
        return found, _Upload(raw_id, row, raw)

    async def create(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        owner: str,
        initiator: str = "",
        encryption: Encryption | None = None,
    ) -> UploadInfo:
        check_key(key)
        found = await self._buckets.find(bucket)
        check_bucket(found.record, attributes)
        encrypted, _ = await self._sealing.begin(found, key, encryption)
        upload_id = os.urandom(_UPLOAD_ID_BYTES)
        record = UploadRecord(
            now_ms(),
            owner,
            dict(attributes.headers),
            dict(attributes.metadata),
            attributes.storage_class,
            attributes.checksum_algorithm,
            attributes.checksum_type,
            initiator,
            dict(attributes.tags),
            attributes.acl,
            attributes.retention,
            attributes.legal_hold,
            encrypted,
        )
        row, raw = keys.upload(found.id, key, upload_id), encode(record)
        for _ in range(COMMIT_TRIES):
            try:
                await self._kv.commit([found.check, Absent(row)], [(row, raw)])
            except CommitConflict:  # what is said about the bucket changed
                found = await self._buckets.find_again(found)
                continue
            return record.info(key, upload_id.hex())
        raise Unavailable("too many changes of one bucket at once", bucket=bucket)

    async def get(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo:
        _, upload = await self._find(bucket, key, upload_id)
        return upload.record.info(key, upload_id)

    # Parts.

    async def put_part(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        number: int,
        payload: Payload,
        customer_key: bytes | None = None,
    ) -> PartInfo:
        if not 1 <= number <= PART_NUMBER_MAX:
            raise InvalidRequest(
                f"part numbers are 1 to {PART_NUMBER_MAX}", reason="InvalidArgument"
            )
        found, upload = await self._find(bucket, key, upload_id)
        encrypted = upload.record.encryption
        sealer = await self._sealing.resume(encrypted, found, key, customer_key)
        if payload.size == 0:
            await payload.read()
            payload.digest(b"")
            record = _part_record(0, payload.finish(), [])
            await self._commit_part(upload, number, record, [])
            return record.info(number, encrypted)
        self._kv.check_ready()  # before a body is sent for nothing
        with await self._versions.quotas.admit(found, payload.size, 0):
            record = await self._write_part(found, upload, key, number, payload, sealer)
            self._versions.quotas.changed(found, Held(payload.size))
        return record.info(number, encrypted)

    async def _write_part(
        self,
        found: Bucket,
        upload: _Upload,
        key: bytes,
        number: int,
        payload: Payload,
        sealer: Sealer | None,
    ) -> PartRecord:
        written = await self._writer.write(self._pools.current, payload, sealer)
        record = _part_record(payload.size, written.digests, [written.ref])
        rows: list[Write] = [
            (keys.blob(written.ref.blob), encode(BlobRow(written.ref, found.id, key)))
        ]
        if written.missing:
            rows.append((keys.repair(written.ref.blob), encode(written.missing)))
        try:
            await self._commit_part(upload, number, record, rows)
        except BaseException:
            self._writer.give_up(written.ref)
            raise
        self._writer.done(written.ref)
        if written.missing:
            self._upkeep.repairs()
        return record

    async def _commit_part(
        self, upload: _Upload, number: int, record: PartRecord, rows: Sequence[Write]
    ) -> None:
        row = keys.part(upload.id, number)
        for _ in range(COMMIT_TRIES):
            raw = await self._kv.aget(row)
            writes: list[Write] = [(row, encode(record)), *rows]
            if raw == writes[0][1] and record.blobs:
                return  # an engine that tried again after a failure had been through before
            if raw is not None and (old := decode_part(raw).blobs):
                writes.append(garbage_row(old))
            check: Check = Absent(row) if raw is None else Equals(row, raw)
            try:
                await self._kv.commit([upload.check, check], writes)
            except CommitConflict as conflict:
                if conflict.fields.get("check") == upload.check:
                    raise _no_such_upload(upload.id.hex()) from None
                continue
            if raw is not None:
                self._upkeep.garbage()
            return
        raise Unavailable("too many writers of one part at once")

    async def list_parts(
        self, bucket: str, key: bytes, upload_id: str, after: int, limit: int
    ) -> PartListing:
        _, upload = await self._find(bucket, key, upload_id)
        info = upload.record.info(key, upload_id)
        if limit <= 0 or after >= PART_NUMBER_MAX:
            return PartListing(info, [], None)
        limit = min(limit, KV_SCAN_ROWS_MAX - 1)
        rows = await self._kv.ascan(
            keys.part(upload.id, after + 1), prefix_end(keys.parts(upload.id)), limit=limit + 1
        )
        parts = [decode_part(raw).info(_number(row)) for row, raw in rows[:limit]]
        return PartListing(info, parts, parts[-1].number if len(rows) > limit else None)

    # Ends.

    async def complete(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        parts: Sequence[CompletePart],
        conditions: Conditions | None,
        check: Callable[[Sequence[PartInfo]], PayloadDigests] | None,
        customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        found, upload = await self._find(bucket, key, upload_id)
        self._sealing.check(upload.record.encryption, found, key, customer_key)
        numbers = [part.number for part in parts]
        if not parts or len(parts) > PART_NUMBER_MAX:
            raise InvalidRequest("an object has 1 to 10,000 parts", reason="MalformedXML")
        if any(one >= two for one, two in itertools.pairwise(numbers)):
            raise InvalidRequest("parts must ascend by number", reason="InvalidPartOrder")
        records, checks = await self._read_parts(upload, parts)
        infos = [record.info(number) for number, record in zip(numbers, records, strict=True)]
        digests = (check or multipart_digests)(infos)
        record, writes = _assemble(upload.record, numbers, records, digests)
        ended = EndedUpload(numbers)
        writes += [(upload.row, None), (keys.ended(upload.id), encode(ended))]
        try:
            with await self._versions.quotas.admit(found, 0, 1):
                record = await self._versions.put(
                    found,
                    key,
                    record,
                    conditions=conditions,
                    origin=origin,
                    checks=[upload.check, *checks],
                    writes=writes,
                )
        except asyncio.CancelledError:
            self._in_background(self._clean_if_ended(upload.id))
            raise
        except CommitConflict as conflict:
            if conflict.fields.get("check") == upload.check:
                raise _no_such_upload(upload_id) from None
            raise InvalidRequest("a part was replaced meanwhile", reason="InvalidPart") from None
        self._in_background(self._clean(upload.id, ended))
        whole = msgspec.structs.replace(
            record,
            part_sizes=[each.size for each in records],
            part_numbers=numbers,
            part_checksums=[
                _checksum_kept(each, upload.record.checksum_algorithm) for each in records
            ],
        )
        return whole.info(key, versioned=bool(found.record.versioning), bucket=found.record)

    async def _read_parts(
        self, upload: _Upload, parts: Sequence[CompletePart]
    ) -> tuple[list[PartRecord], list[Check]]:
        rows = [keys.part(upload.id, part.number) for part in parts]
        raws = await self._kv.aget_many(rows)
        records: list[PartRecord] = []
        checks: list[Check] = []
        for row, raw, part in zip(rows, raws, parts, strict=True):
            record = None if raw is None else decode_part(raw)
            if raw is None or record is None or not _agree(record, part):
                raise InvalidRequest(
                    f"part {part.number} was not uploaded with this ETag and these checksums",
                    reason="InvalidPart",
                    part_number=part.number,
                    etag=part.etag,
                )
            records.append(record)
            checks.append(Equals(row, raw))
        for part, record in zip(parts[:-1], records, strict=False):
            if record.size < self._part_size_bytes_min:
                raise InvalidRequest(
                    f"part {part.number} has {record.size} bytes, every part but the last must "
                    f"have {self._part_size_bytes_min}",
                    reason="EntityTooSmall",
                    part_number=part.number,
                    size=record.size,
                    size_min=self._part_size_bytes_min,
                    etag=record.etag,
                )
        return records, checks

    async def abort(self, bucket: str, key: bytes, upload_id: str) -> None:
        _, upload = await self._find(bucket, key, upload_id)
        ended = EndedUpload([])
        try:
            await self._kv.commit(
                [upload.check], [(upload.row, None), (keys.ended(upload.id), encode(ended))]
            )
        except asyncio.CancelledError:
            self._in_background(self._clean_if_ended(upload.id))
            raise
        except CommitConflict:
            raise _no_such_upload(upload_id) from None
        await asyncio.shield(self._in_background(self._clean(upload.id, ended)))

    def _in_background(self, cleaning: Coroutine[None, None, None]) -> asyncio.Task[None]:
        async def logged() -> None:
            try:
                await cleaning
            except Exception as error:  # it is written down; upkeep finishes it
                _log.warning("cleaning up after an upload: %s", error)

        task = asyncio.get_running_loop().create_task(logged())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        return task

    async def _clean_if_ended(self, upload_id: bytes) -> None:
        """For a caller who was cancelled during the commit that ends an upload."""
        await self._kv.commit([], [])  # when this is through, so is that one
        raw = await self._kv.aget(keys.ended(upload_id))
        if raw is not None:
            await self._clean(upload_id, decode_ended(raw))

    async def _clean(self, upload_id: bytes, ended: EndedUpload) -> None:
        await clean_upload(self._kv, upload_id, ended)
        self._upkeep.garbage()


def multipart_digests(parts: Sequence[PartInfo]) -> PayloadDigests:
    """S3's ETag of a multipart object: the MD5 of the parts' MD5s, and how many there were."""
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digest.update(bytes.fromhex(part.etag))
    return PayloadDigests(f"{digest.hexdigest()}-{len(parts)}")


def _assemble(
    upload: UploadRecord,
    numbers: list[int],
    parts: Sequence[PartRecord],
    digests: PayloadDigests,
) -> tuple[ObjectRecord, list[Write]]:
    """The object of these parts, and what is to be written besides it."""
    manifest = Manifest(
        [ref for part in parts for ref in part.blobs],
        [part.size for part in parts],
        numbers,
        [_checksum_kept(part, upload.checksum_algorithm) for part in parts],
    )
    record = make_record(
        sum(manifest.part_sizes),
        digests,
        upload.attributes(),
        upload.owner,
        encryption=upload.encryption,
    )
    if len(parts) > _PARTS_INLINE_MAX:
        manifest_id = os.urandom(_UPLOAD_ID_BYTES)
        record = msgspec.structs.replace(record, manifest=manifest_id)
        return record, [(keys.manifest(manifest_id), encode(manifest))]
    record = msgspec.structs.replace(
        record,
        blobs=manifest.blobs,
        part_sizes=manifest.part_sizes,
        part_numbers=manifest.part_numbers,
        part_checksums=manifest.part_checksums,
    )
    return record, []


def _checksum_kept(part: PartRecord, algorithm: str) -> dict[str, str]:
    """One for each part: the list of 10,000 parts must fit into a row."""
    wanted = algorithm if algorithm in part.checksums else next(iter(part.checksums), "")
    return {wanted: part.checksums[wanted]} if wanted else {}


def _agree(record: PartRecord, part: CompletePart) -> bool:
    return record.etag == part.etag and all(
        record.checksums.get(name) == value for name, value in part.checksums.items()
    )


def _part_record(size: int, digests: PayloadDigests, blobs: list[BlobRef]) -> PartRecord:
    return PartRecord(size, digests.etag, now_ms(), dict(digests.checksums), blobs)


def _number(row: bytes) -> int:
    return decode_uint(row, len(row) - 2, 2)


def _no_such_upload(upload_id: str) -> NotFound:
    return NotFound("there is no such upload", kind="upload", upload_id=upload_id)
