"""An `ObjectService` in memory: the model that front ends are tested on, and stores compared with.

Every call is one step on plain dicts, so its answer is right by looking at it. It keeps the rules
that callers may rely on and leaves out everything else: nothing survives the process.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec
from typing_extensions import Buffer

from objectio import limits
from objectio.abc.objects import (
    NULL_VERSION,
    CompletePart,
    Conditions,
    Deleted,
    DeleteTarget,
    Encryption,
    ListedObject,
    Listing,
    ObjectAttributes,
    ObjectInfo,
    ObjectReader,
    Origin,
    PartInfo,
    PartListing,
    Payload,
    PayloadDigests,
    UploadInfo,
    UploadListing,
)
from objectio.errors import (
    InvalidRequest,
    NotFound,
    ObjectIOError,
    PayloadIncomplete,
    PreconditionFailed,
)
from objectio.testing.buckets import (
    MemoryBuckets,
    MemoryObject,
    MemoryPart,
    MemoryUpload,
)


class MemoryReader:
    """One object opened. It holds the bytes, so a later overwrite does not reach it."""

    def __init__(
        self,
        stored: MemoryObject,
        now_bytes_max: int,
        piece_size_bytes: int,
        on_close: Callable[[MemoryReader], None],
    ) -> None:
        self.info = stored.info
        self._on_close = on_close
        self._data = stored.data
        self._now_bytes_max = now_bytes_max
        self._piece_size_bytes = piece_size_bytes

    def read_now(self, start: int, length: int) -> Buffer | None:
        if length > self._now_bytes_max:
            return None
        return self._data[start : start + length]

    async def stream(self, start: int, length: int) -> AsyncIterator[Buffer]:
        stop = start + length
        for at in range(start, stop, self._piece_size_bytes):
            yield self._data[at : min(stop, at + self._piece_size_bytes)]

    def close(self) -> None:
        self._on_close(self)


class MemoryObjects(MemoryBuckets):
    """See the module. `read_now_bytes_max` 0 makes every read a stream; `part_size_bytes_min` is
    what `complete_upload` demands of all parts but the last."""

    def __init__(
        self,
        *,
        part_size_bytes_min: int = limits.PART_SIZE_BYTES_MIN,
        read_now_bytes_max: int = limits.MIB,
        piece_size_bytes: int = 64 * limits.KIB,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        super().__init__(now_ms)
        self._part_size_bytes_min = part_size_bytes_min
        self._read_now_bytes_max = read_now_bytes_max
        self._piece_size_bytes = piece_size_bytes
        self._upload_count = 0
        self.open_readers: set[MemoryReader] = set()

    # Objects.

    async def put_object(
        self,
        bucket: str,
        key: bytes,
        payload: Payload,
        attributes: ObjectAttributes,
        *,
        owner: str,
        conditions: Conditions | None = None,
        encryption: Encryption | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        self._bucket(bucket)
        _check_key(key)
        data, digests = await _receive(payload)
        held = self._bucket(bucket)
        _check_write(held.objects.get(key), conditions, bucket, key)
        info = ObjectInfo(
            key=key,
            size=len(data),
            etag=digests.etag,
            modified_ms=self._now_ms(),
            owner=owner,
            attributes=attributes,
            checksums=dict(digests.checksums),
        )
        held.put(MemoryObject(info, data))
        return info

    async def get_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
    ) -> ObjectReader:
        stored = self._object(bucket, key, version_id)
        reader = MemoryReader(
            stored, self._read_now_bytes_max, self._piece_size_bytes, self.open_readers.discard
        )
        self.open_readers.add(reader)
        return reader

    async def head_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
        check_key: bool = True,
    ) -> ObjectInfo:
        return self._object(bucket, key, version_id).info

    async def update_object(
        self,
        bucket: str,
        key: bytes,
        change: Callable[[ObjectInfo], ObjectAttributes],
        *,
        version_id: str | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        stored = self._object(bucket, key, version_id)
        stored.info = msgspec.structs.replace(stored.info, attributes=change(stored.info))
        return stored.info

    def _object(self, bucket: str, key: bytes, version_id: str | None) -> MemoryObject:
        stored = self._bucket(bucket).objects.get(key)
        if version_id is not None and (stored is None or version_id != stored.info.version_id):
            raise NotFound("no such version", kind="version", key=key, version_id=version_id)
        if stored is None:
            raise NotFound("no such object", kind="object", key=key)
        return stored

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        conditions: Conditions | None = None,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Deleted:
        _check_key(key)
        held = self._bucket(bucket)
        stored = held.objects.get(key)
        if stored is not None and version_id not in (None, stored.info.version_id):
            stored = None
        _check_write(stored, conditions, bucket, key)
        return Deleted() if stored is None else Deleted(held.pop(key).info)

    async def delete_objects(
        self,
        bucket: str,
        targets: Sequence[DeleteTarget],
        *,
        bypass_governance: bool = False,
        origin: Origin | None = None,
    ) -> Sequence[Deleted | Exception]:
        self._bucket(bucket)
        fates: list[Deleted | Exception] = []
        for key, version_id, conditions in targets:
            try:
                done = await self.delete_object(
                    bucket, key, version_id=version_id, conditions=conditions
                )
                fates.append(done)
            except ObjectIOError as refusal:
                fates.append(refusal)
        return fates

    async def copy_object(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        *,
        owner: str,
        source_version_id: str | None = None,
        source_conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        source = self._object(source_bucket, source_key, source_version_id)
        held = self._bucket(bucket)
        _check_key(key)
        if source_conditions is not None and not _holds(source.info, source_conditions):
            raise PreconditionFailed("the source is not as demanded", bucket=bucket, key=key)
        kept, checksums = source.info.attributes, source.info.checksums
        if kept.checksum_type == "COMPOSITE":  # that of parts, which the copy has not
            kept = msgspec.structs.replace(kept, checksum_algorithm="", checksum_type="")
            checksums = {}
        info = msgspec.structs.replace(
            source.info,
            key=key,
            owner=owner,
            modified_ms=self._now_ms(),
            attributes=kept if attributes is None else attributes,
            checksums=checksums,
            part_sizes=(),
            etag=_md5(source.data) if source.info.part_sizes else source.info.etag,
        )
        held.put(MemoryObject(info, source.data))
        return info

    # Listings.

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        held = self._bucket(bucket)
        found: list[ListedObject] = []
        groups: list[bytes] = []
        last: bytes | None = None
        at = bisect_left(held.keys, prefix) if after < prefix else bisect_right(held.keys, after)
        while at < len(held.keys) and held.keys[at].startswith(prefix):
            key = held.keys[at]
            group = _group(key, prefix, delimiter)
            if group is not None and group <= after:
                at = _behind(held.keys, group, at)  # `after` is this group, or lies in it
                continue
            if len(found) + len(groups) >= limit:
                return Listing(found, groups, last)
            if group is None:
                found.append(_listed(held.objects[key].info))
                last = key
                at += 1
            else:
                groups.append(group)
                last = group
                at = _behind(held.keys, group, at)
        return Listing(found, groups, None)

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        after_version: str | None = None,
        limit: int = 1000,
    ) -> Listing:
        """Each object has one version here, so that continuing after it is continuing after its
        key."""
        page = await self.list_objects(
            bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        cut_at_object = page.objects and page.objects[-1].key == page.next_after
        return page._replace(next_version=NULL_VERSION if cut_at_object else None)

    # Multipart uploads.

    async def create_upload(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        *,
        owner: str,
        initiator: str = "",
        encryption: Encryption | None = None,
    ) -> UploadInfo:
        held = self._bucket(bucket)
        _check_key(key)
        self._upload_count += 1
        info = UploadInfo(
            upload_id=f"upload{self._upload_count:010d}",
            key=key,
            initiated_ms=self._now_ms(),
            owner=owner,
            attributes=attributes,
            initiator=initiator,
        )
        held.uploads[key, info.upload_id] = MemoryUpload(info)
        return info

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> UploadInfo:
        return self._upload(bucket, key, upload_id).info

    def _upload(self, bucket: str, key: bytes, upload_id: str) -> MemoryUpload:
        try:
            return self._bucket(bucket).uploads[key, upload_id]
        except KeyError:
            raise NotFound("no such upload", kind="upload", upload_id=upload_id) from None

    async def put_part(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        number: int,
        payload: Payload,
        *,
        customer_key: bytes | None = None,
    ) -> PartInfo:
        self._upload(bucket, key, upload_id)
        data, digests = await _receive(payload)
        info = PartInfo(
            number=number,
            size=len(data),
            etag=digests.etag,
            modified_ms=self._now_ms(),
            checksums=dict(digests.checksums),
        )
        self._upload(bucket, key, upload_id).parts[number] = MemoryPart(info, data)
        return info

    async def complete_upload(
        self,
        bucket: str,
        key: bytes,
        upload_id: str,
        parts: Sequence[CompletePart],
        *,
        conditions: Conditions | None = None,
        check: Callable[[Sequence[PartInfo]], PayloadDigests] | None = None,
        customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        upload = self._upload(bucket, key, upload_id)
        held = self._bucket(bucket)
        numbers = [wanted.number for wanted in parts]
        if not parts:
            raise InvalidRequest("an object has at least one part", reason="MalformedXML")
        if numbers != sorted(set(numbers)):
            raise InvalidRequest("parts are not in ascending order", reason="InvalidPartOrder")
        chosen = [_chosen(upload, wanted) for wanted in parts]
        for part in chosen[:-1]:
            if part.info.size < self._part_size_bytes_min:
                raise InvalidRequest(
                    "a part is too small",
                    reason="EntityTooSmall",
                    part_number=part.info.number,
                    size=part.info.size,
                    size_min=self._part_size_bytes_min,
                )
        digests = (check or _multipart_digests)([part.info for part in chosen])
        _check_write(held.objects.get(key), conditions, bucket, key)
        data = b"".join(part.data for part in chosen)
        info = ObjectInfo(
            key=key,
            size=len(data),
            etag=digests.etag,
            modified_ms=self._now_ms(),
            owner=upload.info.owner,
            attributes=upload.info.attributes,
            checksums=dict(digests.checksums),
            part_sizes=tuple(part.info.size for part in chosen),
        )
        held.put(MemoryObject(info, data))
        del held.uploads[key, upload_id]
        return info

    async def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> None:
        self._upload(bucket, key, upload_id)
        del self._bucket(bucket).uploads[key, upload_id]

    async def list_parts(
        self, bucket: str, key: bytes, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartListing:
        upload = self._upload(bucket, key, upload_id)
        numbers = sorted(number for number in upload.parts if number > after)
        page = [upload.parts[number].info for number in numbers[:limit]]
        cut = len(numbers) > len(page) and page
        return PartListing(upload.info, page, page[-1].number if cut else None)

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: tuple[bytes, str] = (b"", ""),
        limit: int = 1000,
    ) -> UploadListing:
        """By key, then by upload id. An empty id in `after` stands for every upload of its key."""
        after_key, after_id = after
        found: list[UploadInfo] = []
        groups: list[bytes] = []
        last: tuple[bytes, str] | None = None
        for (key, upload_id), upload in sorted(self._bucket(bucket).uploads.items()):
            if not key.startswith(prefix):
                continue
            group = _group(key, prefix, delimiter)
            if group is not None:
                if group <= after_key or group in groups:
                    continue
            elif key < after_key or (key == after_key and (not after_id or upload_id <= after_id)):
                continue
            if len(found) + len(groups) >= limit:
                return UploadListing(found, groups, last)
            if group is None:
                found.append(upload.info)
                last = (key, upload_id)
            else:
                groups.append(group)
                last = (group, "")
        return UploadListing(found, groups, None)


async def _receive(payload: Payload) -> tuple[bytes, PayloadDigests]:
    pieces = []
    while piece := await payload.read():
        payload.digest(piece)
        pieces.append(piece)
    data = b"".join(pieces)
    if len(data) != payload.size:
        raise PayloadIncomplete("not as many bytes as announced", got=len(data), size=payload.size)
    return data, payload.finish()


def _check_key(key: bytes) -> None:
    if not 1 <= len(key) <= limits.OBJECT_KEY_BYTES_MAX:
        raise InvalidRequest("the key is too long", reason="KeyTooLongError", size=len(key))


def _matches(etag: str, wanted: Sequence[str]) -> bool:
    return "*" in wanted or etag in wanted


def _check_write(
    stored: MemoryObject | None, conditions: Conditions | None, bucket: str, key: bytes
) -> None:
    if conditions is None:
        return
    if conditions.if_match:
        if stored is None:
            raise NotFound("no such object", kind="object", key=key)
        if not _matches(stored.info.etag, conditions.if_match):
            raise PreconditionFailed("another object", condition="If-Match", bucket=bucket, key=key)
    if (
        conditions.if_none_match
        and stored is not None
        and _matches(stored.info.etag, conditions.if_none_match)
    ):
        raise PreconditionFailed("it exists", condition="If-None-Match", bucket=bucket, key=key)


def _holds(info: ObjectInfo, conditions: Conditions) -> bool:
    """RFC 9110 §13.2.2, where a failed If-None-Match is a failure too."""
    modified = info.modified_ms // 1000
    if conditions.if_match:
        if not _matches(info.etag, conditions.if_match):
            return False
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        return False
    if conditions.if_none_match:
        return not _matches(info.etag, conditions.if_none_match)
    return conditions.if_modified_since is None or modified > conditions.if_modified_since


def _group(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that `key` is rolled into, if it is."""
    cut = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if cut < 0 else key[: cut + len(delimiter)]


def _behind(keys: Sequence[bytes], group: bytes, at: int) -> int:
    """Where the keys that start with `group` end, if `at` is one of them."""
    return bisect_left(keys, True, at, key=lambda key: not key.startswith(group))


def _listed(info: ObjectInfo) -> ListedObject:
    shared = {name: getattr(info, name) for name in ListedObject._fields if hasattr(info, name)}
    return ListedObject(
        **shared,
        storage_class=info.attributes.storage_class,
        checksum_algorithm=info.attributes.checksum_algorithm,
        checksum_type=info.attributes.checksum_type,
    )


def _chosen(upload: MemoryUpload, wanted: CompletePart) -> MemoryPart:
    part = upload.parts.get(wanted.number)
    if part is None or part.info.etag != wanted.etag or not _agree(part.info, wanted.checksums):
        raise InvalidRequest(
            "no such part", reason="InvalidPart", part_number=wanted.number, etag=wanted.etag
        )
    return part


def _agree(part: PartInfo, checksums: Mapping[str, str]) -> bool:
    return all(part.checksums.get(name) == value for name, value in checksums.items())


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _multipart_digests(parts: Sequence[PartInfo]) -> PayloadDigests:
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return PayloadDigests(f"{_md5(joined)}-{len(parts)}")


class BytesPayload:
    """A payload made of bytes at hand, with S3's ETag: for tests that call a service directly."""

    def __init__(self, data: bytes, *, piece_size_bytes: int = 64 * limits.KIB) -> None:
        self.size = len(data)
        self._pieces = [
            data[at : at + piece_size_bytes] for at in range(0, len(data), piece_size_bytes)
        ][::-1]
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    def digest(self, data: Buffer) -> None:
        self._md5.update(data)

    def finish(self) -> PayloadDigests:
        return PayloadDigests(self._md5.hexdigest())
