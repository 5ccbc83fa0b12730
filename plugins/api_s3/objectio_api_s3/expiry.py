"""When lifecycle rules of a bucket remove a version or abort an upload, as answers tell it."""

from __future__ import annotations

from functools import lru_cache

from objectio.abc.objects import ObjectInfo, ObjectService, UploadInfo
from objectio.model.bucket import LIFECYCLE, Lifecycle, decode_document
from objectio.model.lifecycle import abort_headers, expiration_header
from objectio_api_s3.headers import Headers, clean


@lru_cache(maxsize=256)
def _decode(raw: bytes) -> Lifecycle:
    return decode_document(raw, Lifecycle)


async def of_object(objects: ObjectService, info: ObjectInfo) -> Headers:
    """x-amz-expiration of a current version. Asks nothing of a bucket without documents."""
    if info.bucket is None or not info.is_latest:
        return []
    raw = (await objects.get_documents(info.bucket)).get(LIFECYCLE)
    if raw is None:
        return []
    tags = info.attributes.tags
    value = expiration_header(_decode(raw), info.key, info.size, tags, info.modified_ms)
    return [] if value is None else [(b"x-amz-expiration", clean(value))]


async def of_upload(objects: ObjectService, bucket: str, upload: UploadInfo) -> Headers:
    """x-amz-abort-date and x-amz-abort-rule-id."""
    raw = (await objects.get_documents(await objects.get_bucket(bucket))).get(LIFECYCLE)
    found = None if raw is None else abort_headers(_decode(raw), upload.key, upload.initiated_ms)
    if found is None:
        return []
    date, rule = found
    return [(b"x-amz-abort-date", clean(date)), (b"x-amz-abort-rule-id", clean(rule))]
