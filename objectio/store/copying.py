"""The bytes of one object as the payload of another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Protocol

from typing_extensions import Buffer

from objectio.abc.objects import ObjectInfo, PayloadDigests


class Source(Protocol):
    """An `ObjectReader` whose stream can be ended early."""

    @property
    def info(self) -> ObjectInfo: ...

    def stream(self, start: int, length: int) -> AsyncGenerator[Buffer, None]: ...


class CopyPayload:
    """An `objectio.abc.objects.Payload`. The ETag is the MD5 of the whole; checksums of the source
    are carried over if they cover the full object."""

    def __init__(self, source: Source) -> None:
        self._info = source.info
        self._stream = source.stream(0, source.info.size)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._done = source.info.size == 0

    @property
    def size(self) -> int:
        return self._info.size

    async def read(self) -> bytes:
        if self._done:
            return b""
        async for piece in self._stream:
            return piece  # type: ignore[return-value]
        self._done = True
        return b""

    async def close(self) -> None:
        """Let go of what was read ahead."""
        await self._stream.aclose()

    def digest(self, data: Buffer) -> None:
        self._md5.update(data)

    def finish(self) -> PayloadDigests:
        whole = self._info.attributes.checksum_type != "COMPOSITE"
        return PayloadDigests(self._md5.hexdigest(), self._info.checksums if whole else {})
