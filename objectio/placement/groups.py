"""Blob → placement group. The number of groups of a pool is fixed for ever, so this never moves."""

from __future__ import annotations

import xxhash


def group_of(blob_id: bytes, groups: int) -> int:
    """The placement group of a blob, 0 … groups-1."""
    return xxhash.xxh3_64_intdigest(blob_id) % groups
