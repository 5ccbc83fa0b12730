"""Documents of buckets: values under a name, each change atomic with the bucket's row.

Whoever changes a document changes the bucket's row, and whoever writes into a bucket checks that row in
its commit: no write is decided by documents that were replaced before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from objectio.abc.objects import BucketInfo
from objectio.errors import CommitConflict, InvalidRequest, Unavailable
from objectio.kv.store import KVStore
from objectio.limits import KV_VALUE_BYTES_MAX, MIB
from objectio.meta import keys
from objectio.meta.buckets import COMMIT_TRIES, Buckets
from objectio.meta.records import encode
from objectio.model.bucket import LOCK
from objectio.model.remembered import Remembered

_REMEMBERED_BYTES_MAX: Final = 16 * MIB
"""Of most buckets there are no documents, or a few hundred bytes."""


class Documents:
    def __init__(self, kv: KVStore, buckets: Buckets) -> None:
        self._kv = kv
        self._buckets = buckets
        self._remembered: Remembered[bytes, tuple[int, Mapping[str, bytes]]] = Remembered(
            _REMEMBERED_BYTES_MAX
        )

    async def get(self, bucket: BucketInfo) -> Mapping[str, bytes]:
        """As they were at the bucket's revision, or as they are since."""
        if not bucket.revision:
            return {}  # it never had any
        remembered = self._remembered.get(bucket.id)
        if remembered is not None and remembered[0] == bucket.revision:
            return remembered[1]
        table = keys.documents(bucket.id)
        rows = await self._kv.ascan_prefix(table)
        found = {row[len(table) :].decode("utf-8"): raw for row, raw in rows}
        remembered = self._remembered.get(bucket.id)
        if remembered is None or remembered[0] < bucket.revision:
            weight = sum(len(raw) for raw in found.values())
            self._remembered.put(bucket.id, (bucket.revision, found), weight)
        return found

    async def put(
        self, bucket: str, name: str, value: bytes | None, judged: BucketInfo | None = None
    ) -> None:
        if value is not None and len(value) > KV_VALUE_BYTES_MAX:
            raise InvalidRequest(
                f"a document has at most {KV_VALUE_BYTES_MAX} bytes", reason="InvalidRequest"
            )
        for _ in range(COMMIT_TRIES):
            found = await self._buckets.find(bucket)
            if judged is not None and (found.id, found.record.revision) != (
                judged.id,
                judged.revision,
            ):
                raise CommitConflict("the bucket's documents changed meanwhile", bucket=bucket)
            record = msgspec.structs.replace(found.record, revision=found.record.revision + 1)
            if name == LOCK:
                if record.versioning != "Enabled":
                    raise InvalidRequest(
                        "object lock needs a bucket with versioning", reason="InvalidBucketState"
                    )
                record = msgspec.structs.replace(record, object_lock=True)
            try:
                await self._kv.commit(
                    [found.check],
                    [
                        (keys.document(found.id, name), value),
                        (keys.bucket(bucket), encode(record)),
                    ],
                )
            except CommitConflict:
                continue
            return
        raise Unavailable("too many changes of one bucket at once", bucket=bucket)
