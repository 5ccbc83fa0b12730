"""The source of a copy: its name, its conditions, and its bytes as the payload of a write."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from typing_extensions import Buffer

from objectio.abc.api import Wanted
from objectio.abc.objects import Conditions, ObjectInfo, ObjectReader, PayloadDigests
from objectio.errors import PreconditionFailed
from objectio_api_s3 import checksums
from objectio_api_s3.conditions import not_modified
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import arn

HEADER: Final = b"x-amz-copy-source"
RANGE: Final = b"x-amz-copy-source-range"
CONDITIONS: Final = b"x-amz-copy-source-"

_BUCKET: Final = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_RANGE: Final = re.compile(rb"bytes=([0-9]{1,19})-([0-9]{1,19})")
_VERSION: Final = b"?versionId="


class Source(NamedTuple):
    bucket: str
    key: bytes
    version_id: str | None

    @property
    def shown(self) -> str:
        """As policies name it: "bucket/key", and the version where one is meant."""
        version = "" if self.version_id is None else f"?versionId={self.version_id}"
        return f"{self.bucket}/{self.key.decode('utf-8')}{version}"

    @property
    def access(self) -> Wanted:
        """What the caller must be allowed to do."""
        return self.wanted("s3:GetObject", "s3:GetObjectVersion")

    @property
    def tagging(self) -> Wanted:
        return self.wanted("s3:GetObjectTagging", "s3:GetObjectVersionTagging")

    def wanted(self, action: str, version_action: str) -> Wanted:
        chosen = action if self.version_id is None else version_action
        return Wanted(chosen, arn(self.bucket, self.key), self.version_id, self._values)

    def _values(self) -> dict[str, tuple[str, ...]]:
        return {} if self.version_id is None else {"s3:VersionId": (self.version_id,)}


def parse_source(value: bytes) -> Source:
    """x-amz-copy-source: [/]bucket/key[?versionId=id], percent-encoded."""
    path, _, version = value.partition(_VERSION)
    name, _, key = unquote_to_bytes(path.removeprefix(b"/")).partition(b"/")
    if _BUCKET.fullmatch(name) is None or not key:
        refuse(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
        )
    try:
        key.decode("utf-8")
        version_id = unquote_to_bytes(version).decode("utf-8")
    except UnicodeDecodeError:
        refuse("InvalidArgument", "Invalid copy source encoding", ArgumentName="x-amz-copy-source")
    if _VERSION in value and not version_id:
        refuse("InvalidArgument", "Version id cannot be the empty string")
    return Source(name.decode("ascii"), key, version_id or None)


def parse_range(value: bytes | None, size: int) -> tuple[int, int]:
    """(start, length) of x-amz-copy-source-range, which has both ends and must lie within."""
    if value is None:
        return 0, size
    match = _RANGE.fullmatch(value)
    if match is None or int(match[1]) > int(match[2]):
        refuse(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value.decode("latin-1"),
        )
    first, last = int(match[1]), int(match[2])
    if last >= size:
        refuse(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size}",
            RangeRequested=value.decode("latin-1"),
            ActualObjectSize=str(size),
        )
    return first, last - first + 1


def check(info: ObjectInfo, conditions: Conditions | None) -> None:
    """Where a read would be answered 304, a copy fails."""
    if conditions is not None and not_modified(info, conditions):
        raise PreconditionFailed("the source is not modified")


class ReaderPayload:
    """What a reader reads, as the payload of a write."""

    def __init__(
        self, reader: ObjectReader, start: int, size: int, algorithm: checksums.Algorithm | None
    ) -> None:
        self.size = size
        self._pieces = reader.stream(start, size) if size else None
        self._digests = checksums.Digests(algorithm)

    async def read(self) -> bytes:
        if self._pieces is None:
            return b""
        return bytes(await anext(self._pieces, b""))

    def digest(self, data: Buffer) -> None:
        self._digests.update(data)

    def finish(self) -> PayloadDigests:
        return PayloadDigests(self._digests.etag(), self._digests.checksums())
