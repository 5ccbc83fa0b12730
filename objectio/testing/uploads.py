"""The uploads of `objectio.testing.objects`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from objectio import limits
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
    UploadListing,
)
from objectio.errors import InvalidRequest, NotFound
from objectio.testing.buckets import MemoryBuckets, MemoryObject, MemoryPart, MemoryUpload
from objectio.testing.object_rules import (
    check_customer_key,
    check_key,
    check_write,
    group,
    md5,
    receive,
    said_of,
)


class MemoryUploads(MemoryBuckets):
    """The calls of an `ObjectService` that are about uploads."""

    def __init__(
        self,
        part_size_bytes_min: int = limits.PART_SIZE_BYTES_MIN,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        super().__init__(now_ms)
        self._part_size_bytes_min = part_size_bytes_min
        self._upload_count = 0

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
        check_key(key)
        self._upload_count += 1
        info = UploadInfo(
            upload_id=f"upload{self._upload_count:010d}",
            key=key,
            initiated_ms=self._now_ms(),
            owner=owner,
            attributes=attributes,
            initiator=initiator,
            encryption=said_of(encryption),
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
        check_customer_key(self._upload(bucket, key, upload_id).info.encryption, customer_key)
        data, digests = await receive(payload)
        info = PartInfo(
            number=number,
            size=len(data),
            etag=digests.etag,
            modified_ms=self._now_ms(),
            checksums=dict(digests.checksums),
        )
        upload = self._upload(bucket, key, upload_id)
        upload.parts[number] = MemoryPart(info, data)
        return msgspec.structs.replace(info, encryption=upload.info.encryption)

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
        check_customer_key(upload.info.encryption, customer_key)
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
        current = held.current(key)
        check_write(None if current is None else current.info, conditions, bucket, key)
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
            part_numbers=tuple(numbers),
            part_checksums=tuple(part.info.checksums for part in chosen),
            encryption=upload.info.encryption,
        )
        stored = MemoryObject(info, data)
        held.put(stored)
        del held.uploads[key, upload_id]
        return held.shown(stored)

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
            rolled = group(key, prefix, delimiter)
            if rolled is not None:
                if rolled <= after_key or rolled in groups:
                    continue
            elif key < after_key or (key == after_key and (not after_id or upload_id <= after_id)):
                continue
            if len(found) + len(groups) >= limit:
                return UploadListing(found, groups, last)
            if rolled is None:
                found.append(upload.info)
                last = (key, upload_id)
            else:
                groups.append(rolled)
                last = (rolled, "")
        return UploadListing(found, groups, None)


def _chosen(upload: MemoryUpload, wanted: CompletePart) -> MemoryPart:
    part = upload.parts.get(wanted.number)
    if part is None or part.info.etag != wanted.etag or not _agree(part.info, wanted.checksums):
        raise InvalidRequest(
            "no such part", reason="InvalidPart", part_number=wanted.number, etag=wanted.etag
        )
    return part


def _agree(part: PartInfo, checksums: Mapping[str, str]) -> bool:
    return all(part.checksums.get(name) == value for name, value in checksums.items())


def _multipart_digests(parts: Sequence[PartInfo]) -> PayloadDigests:
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return PayloadDigests(f"{md5(joined)}-{len(parts)}")
