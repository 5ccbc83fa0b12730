"""Which bytes are encrypted with what: from what a request says to sealed payloads and open reads."""

from __future__ import annotations

from concurrent.futures import Executor

from objectio.abc.objects import Encryption
from objectio.meta.buckets import Bucket
from objectio.meta.records import EncryptionRecord
from objectio.store.datakeys import DataKeys, check_not_wanted, default_encryption
from objectio.store.documents import Documents
from objectio.store.encryption import OpeningReads, Reads, Sealer
from objectio.store.memory import ByteBudget
from objectio.store.read import BlobReads


class Sealing:
    """`budget` is memory for what writers hold of their own beside stripes: nobody ever waits for
    it, so it must be one that nobody who holds some waits for."""

    def __init__(
        self,
        keys: DataKeys,
        documents: Documents,
        reads: BlobReads,
        executor: Executor,
        budget: ByteBudget,
    ) -> None:
        self._keys = keys
        self._documents = documents
        self._reads = reads
        self._executor = executor
        self._budget = budget

    async def begin(
        self, bucket: Bucket, key: bytes, wanted: Encryption | None
    ) -> tuple[EncryptionRecord | None, Sealer | None]:
        """For a new version or upload: what is kept of its encryption, and what seals its bytes. Both
        are None where neither the writer nor the bucket asks for any."""
        if wanted is None and bucket.record.revision:
            wanted = default_encryption(await self._documents.get(bucket.record.info()))
        if wanted is None:
            return None, None
        record, cipher = await self._keys.make(wanted, bucket.id, key)
        return record, Sealer(cipher, self._executor, self._budget)

    async def resume(
        self,
        record: EncryptionRecord | None,
        bucket: Bucket,
        key: bytes,
        customer_key: bytes | None,
    ) -> Sealer | None:
        """For more bytes of what was begun: parts of an upload."""
        if record is None:
            check_not_wanted(customer_key)
            return None
        cipher = await self._keys.open(record, bucket.id, key, customer_key)
        return Sealer(cipher, self._executor, self._budget)

    async def reads(
        self,
        record: EncryptionRecord | None,
        bucket: Bucket,
        key: bytes,
        customer_key: bytes | None,
    ) -> Reads:
        """What a version's blobs are read with."""
        if record is None:
            check_not_wanted(customer_key)
            return self._reads
        cipher = await self._keys.open(record, bucket.id, key, customer_key)
        return OpeningReads(self._reads, cipher, self._executor)

    def check(
        self,
        record: EncryptionRecord | None,
        bucket: Bucket,
        key: bytes,
        customer_key: bytes | None,
    ) -> None:
        """Raises what `reads` would of the customer's key."""
        self._keys.check(record, bucket.id, key, customer_key)
