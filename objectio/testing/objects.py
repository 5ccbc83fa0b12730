"""An `ObjectService` in memory: the model that front ends are tested on, and stores compared with.

Every call is one step on plain dicts, so its answer is right by looking at it. It keeps the rules
that callers may rely on and leaves out everything else: nothing survives the process.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from typing_extensions import Buffer

from objectio import limits
from objectio.abc.objects import (
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
    Payload,
    PayloadDigests,
)
from objectio.errors import (
    AccessDenied,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ObjectIOError,
    PreconditionFailed,
)
from objectio.testing.buckets import MemoryBucket, MemoryObject
from objectio.testing.object_rules import (
    check_customer_key,
    check_delete,
    check_key,
    check_lock,
    check_write,
    group,
    holds,
    md5,
    receive,
    said_of,
)
from objectio.testing.uploads import MemoryUploads


class MemoryReader:
    """One object opened. It holds the bytes, so a later overwrite does not reach it."""

    def __init__(
        self,
        info: ObjectInfo,
        data: bytes,
        now_bytes_max: int,
        piece_size_bytes: int,
        on_close: Callable[[MemoryReader], None],
    ) -> None:
        self.info = info
        self._on_close = on_close
        self._data = data
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


class MemoryObjects(MemoryUploads):
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
        super().__init__(part_size_bytes_min, now_ms)
        self._read_now_bytes_max = read_now_bytes_max
        self._piece_size_bytes = piece_size_bytes
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
        self._check_attributes(bucket, attributes)
        check_key(key)
        data, digests = await receive(payload)
        held = self._check_attributes(bucket, attributes)
        current = held.current(key)
        check_write(None if current is None else current.info, conditions, bucket, key)
        info = ObjectInfo(
            key=key,
            size=len(data),
            etag=digests.etag,
            modified_ms=self._now_ms(),
            owner=owner,
            attributes=attributes,
            checksums=dict(digests.checksums),
            encryption=said_of(encryption),
        )
        stored = MemoryObject(info, data)
        held.put(stored)
        return held.shown(stored)

    async def get_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str | None = None,
        customer_key: bytes | None = None,
    ) -> ObjectReader:
        stored = self._object(bucket, key, version_id)
        check_customer_key(stored.info.encryption, customer_key)
        reader = MemoryReader(
            self._bucket(bucket).shown(stored),
            stored.data,
            self._read_now_bytes_max,
            self._piece_size_bytes,
            self.open_readers.discard,
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
        stored = self._object(bucket, key, version_id)
        if check_key:
            check_customer_key(stored.info.encryption, customer_key)
        return self._bucket(bucket).shown(stored)

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
        held = self._bucket(bucket)
        said = change(held.shown(stored))
        self._check_attributes(bucket, said)
        old = stored.info.attributes.retention
        if old is not None and old.mode == "COMPLIANCE" and old.until_ms > self._now_ms():
            new = said.retention
            if new is None or new.mode != "COMPLIANCE" or new.until_ms < old.until_ms:
                raise AccessDenied("retained in mode COMPLIANCE", reason="AccessDenied")
        stored.info = msgspec.structs.replace(stored.info, attributes=said)
        return held.shown(stored)

    def _check_attributes(self, bucket: str, said: ObjectAttributes) -> MemoryBucket:
        held = self._bucket(bucket)
        if not held.info.object_lock and (said.retention is not None or said.legal_hold):
            raise InvalidRequest("the bucket has no object lock", reason="InvalidRequest")
        return held

    def _object(self, bucket: str, key: bytes, version_id: str | None) -> MemoryObject:
        held = self._bucket(bucket)
        stored = held.current(key) if version_id is None else held.find(key, version_id)
        if stored is None:
            kind = "object" if version_id is None else "version"
            raise NotFound(f"no such {kind}", kind=kind, key=key, version_id=version_id)
        if not stored.info.is_delete_marker:
            return stored
        fields = {"delete_marker": True, "version_id": stored.info.version_id}
        if version_id is None:
            raise NotFound("the object was deleted", kind="object", key=key, **fields)
        raise MethodNotAllowed("it is a marker", modified_ms=stored.info.modified_ms, **fields)

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
        check_key(key)
        held = self._bucket(bucket)
        versioned = bool(held.info.versioning)
        stored = held.current(key) if version_id is None else held.find(key, version_id)
        if stored is None and (conditions is not None or version_id is not None or not versioned):
            return Deleted(version_id=version_id if versioned else None)
        if stored is not None and conditions is not None:
            check_delete(stored.info, conditions)
        if versioned and version_id is None:
            return self._put_delete_marker(held, key)
        assert stored is not None
        check_lock(stored.info, self._now_ms(), bypass_governance)
        info = held.shown(stored)
        held.remove(stored)
        if not versioned:
            return Deleted(info)
        return Deleted(info, info.version_id, info.is_delete_marker)

    def _put_delete_marker(self, held: MemoryBucket, key: bytes) -> Deleted:
        marker = MemoryObject(
            ObjectInfo(
                key=key,
                size=0,
                etag="",
                modified_ms=self._now_ms(),
                owner=held.info.owner,
                is_delete_marker=True,
            )
        )
        replaced = held.put(marker)
        info = None if replaced is None else msgspec.structs.replace(replaced.info, versioned=True)
        return Deleted(info, marker.info.version_id, True)

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
                    bucket,
                    key,
                    version_id=version_id,
                    conditions=conditions,
                    bypass_governance=bypass_governance,
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
        conditions: Conditions | None = None,
        attributes: ObjectAttributes | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
        origin: Origin | None = None,
    ) -> ObjectInfo:
        source = self._object(source_bucket, source_key, source_version_id)
        check_customer_key(source.info.encryption, source_customer_key)
        held = self._bucket(bucket)
        check_key(key)
        if source_conditions is not None and not holds(source.info, source_conditions):
            raise PreconditionFailed("the source is not as demanded", bucket=bucket, key=key)
        kept, checksums = source.info.attributes, source.info.checksums
        kept = msgspec.structs.replace(kept, acl=None, retention=None, legal_hold=False)
        if kept.checksum_type == "COMPOSITE":  # that of parts, which the copy has not
            kept = msgspec.structs.replace(kept, checksum_algorithm="", checksum_type="")
            checksums = {}
        current = held.current(key)
        check_write(None if current is None else current.info, conditions, bucket, key)
        self._check_attributes(bucket, kept if attributes is None else attributes)
        info = msgspec.structs.replace(
            source.info,
            key=key,
            owner=owner,
            modified_ms=self._now_ms(),
            attributes=kept if attributes is None else attributes,
            checksums=checksums,
            part_sizes=(),
            part_numbers=(),
            part_checksums=(),
            etag=md5(source.data) if source.info.part_sizes else source.info.etag,
            encryption=said_of(encryption),
        )
        stored = MemoryObject(info, source.data)
        held.put(stored)
        return held.shown(stored)

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
        current = [
            info
            for info in self._shown(held, prefix)
            if info.is_latest and not info.is_delete_marker and info.key > after
        ]
        return _page(current, prefix, delimiter, after, limit)._replace(next_version=None)

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
        held = self._bucket(bucket)
        ids = [each.info.version_id for each in held.versions.get(after, [])]
        behind = len(ids) if after_version is None else 0
        if after_version in ids:
            behind = ids.index(after_version) + 1
        found = [info for info in self._shown(held, prefix) if info.key >= after]
        while found and found[0].key == after and behind:
            found.pop(0)
            behind -= 1
        return _page(found, prefix, delimiter, after, limit)

    def _shown(self, held: MemoryBucket, prefix: bytes) -> list[ObjectInfo]:
        at = bisect_left(held.keys, prefix)
        keys = itertools.takewhile(lambda key: key.startswith(prefix), held.keys[at:])
        return [held.shown(stored) for key in keys for stored in held.versions[key]]


def _page(
    infos: Sequence[ObjectInfo], prefix: bytes, delimiter: bytes, after: bytes, limit: int
) -> Listing:
    found: list[ListedObject] = []
    groups: list[bytes] = []
    last: bytes | None = None
    version: str | None = None
    for info in infos:
        rolled = group(info.key, prefix, delimiter)
        if rolled is not None and (rolled <= after or (groups and rolled == groups[-1])):
            continue  # `after` is this group or lies in it, or it was shown
        if len(found) + len(groups) >= limit:
            return Listing(found, groups, last, version)
        if rolled is None:
            found.append(_listed(info))
            last, version = info.key, info.version_id
        else:
            groups.append(rolled)
            last, version = rolled, None
    return Listing(found, groups, None)


def _listed(info: ObjectInfo) -> ListedObject:
    shared = {name: getattr(info, name) for name in ListedObject._fields if hasattr(info, name)}
    return ListedObject(
        **shared,
        storage_class=info.attributes.storage_class,
        checksum_algorithm=info.attributes.checksum_algorithm,
        checksum_type=info.attributes.checksum_type,
    )


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
