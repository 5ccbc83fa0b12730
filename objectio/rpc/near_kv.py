"""A remote key-value store whose rows are read from its files, where those are on this machine.

Some engines let several processes open the same files. Then a gateway beside the process with the
metadata reads a row in microseconds, where a call to that process takes some fifty; commits go to
that process as ever, so that fences, group commit, watches and the journal keep their meaning. The engine
shows each commit to all processes before it is acknowledged to anyone, so what is read here is as
new as what a call would give.

It may be other files than those that process has open: a metadata directory can be moved away and
rebuilt. So they are trusted only after a row that was just committed by a call was found in
them, and only as long as the session holds for which it was committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from objectio.errors import ObjectIOError
from objectio.kv.keys import KEY_END
from objectio.kv.store import KVStore
from objectio.limits import KV_SCAN_ROWS_MAX
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV, Row

_log: Final = logging.getLogger("objectio.rpc")


class NearKV(RemoteKV):
    """`open_near` opens the engine's files here; blocking. It is called anew for each session."""

    def __init__(self, channel: Channel, open_near: Callable[[], KVStore]) -> None:
        super().__init__(channel)
        self._open_near = open_near
        self._near: KVStore | None = None

    @property
    def fast_reads(self) -> bool:
        return self._near is not None and self._near.fast_reads

    async def trust(self, row: bytes) -> None:
        """Read here from now on, if the row is there, which was committed a moment ago."""
        self.distrust()
        try:
            near = await asyncio.to_thread(self._open_near)
        except ObjectIOError as error:
            _log.warning("the metadata cannot be read from their files: %s", error)
            return
        try:
            same = near.fast_reads and near.get(row) is not None
        except ObjectIOError:
            same = False
        if same:
            self._near = near
        else:
            _log.warning("the metadata here are not those that are in use: they are asked for")
            near.close_sync()

    def distrust(self) -> None:
        near, self._near = self._near, None
        if near is not None:
            near.close_sync()  # at once: its reads are made on this loop, none is under way

    # Reads.

    def get(self, key: bytes) -> bytes | None:
        """Only while `fast_reads` says so."""
        assert self._near is not None
        return self._near.get(key)

    async def aget(self, key: bytes) -> bytes | None:
        near = self._near
        return await (super().aget(key) if near is None else near.aget(key))

    async def aget_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        near = self._near
        return await (super().aget_many(keys) if near is None else near.aget_many(keys))

    async def ascan(
        self,
        start: bytes = b"",
        stop: bytes = KEY_END,
        *,
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        if self._near is None:
            return await super().ascan(start, stop, reverse=reverse, limit=limit)
        return await self._near.ascan(start, stop, reverse=reverse, limit=limit)
