"""What buckets and accounts may hold, for operators."""

from __future__ import annotations

from typing import Protocol

import msgspec


class QuotaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds, of which 0 is none, and what was counted last: None until there was a count, and where
    there is no quota."""

    bytes_max: int = 0
    objects_max: int = 0
    bytes: int | None = None
    objects: int | None = None
    counted_ms: int | None = None


class QuotaAdmin(Protocol):
    """Without bounds there is no quota. Accounts are named by their canonical ids. Raises `NotFound`
    (kind bucket)."""

    async def bucket_quota(self, bucket: str) -> QuotaStatus: ...

    async def set_bucket_quota(self, bucket: str, bytes_max: int, objects_max: int) -> None: ...

    async def account_quota(self, owner: str) -> QuotaStatus: ...

    async def set_account_quota(self, owner: str, bytes_max: int, objects_max: int) -> None: ...
