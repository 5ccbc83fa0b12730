"""Shards and stripes: how the bytes of a blob are named and cut.

A *blob* is the stored bytes of one written version or part; it has a fresh 16-byte id that is never
used again. Its bytes are cut into stripes of `stripe_size_bytes` (the last one shorter), each stripe
into k equal data shards plus m parity shards.
"""

from __future__ import annotations

import os
import struct
import time
from typing import NamedTuple, NewType

BlobId = NewType("BlobId", bytes)
BLOB_ID_BYTES = 16

RESERVED_PREFIX = b"\xff" * 6
"""Blob ids that begin so name what the store keeps for itself (the metadata journal): no object owns
them, and no new blob id begins so for 8,900 years."""

_SHARD_KEY = struct.Struct(">16sIB")
SHARD_KEY_BYTES = _SHARD_KEY.size


def new_blob_id() -> BlobId:
    """Six bytes of Unix milliseconds, ten of randomness: fresh, and ascending in time."""
    return BlobId(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))


def is_reserved(blob: bytes) -> bool:
    return blob.startswith(RESERVED_PREFIX)


class ShardKey(NamedTuple):
    """The name of one shard; sorts by blob, stripe, position.

    `position` is the shard's index in its stripe: 0 … k-1 data, k … k+m-1 parity.
    """

    blob: BlobId
    stripe: int
    position: int

    def pack(self) -> bytes:
        return _SHARD_KEY.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> ShardKey:
        blob, stripe, position = _SHARD_KEY.unpack(raw)
        return cls(BlobId(blob), stripe, position)
