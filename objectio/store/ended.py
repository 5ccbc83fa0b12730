"""Uploads that have ended: their part rows go, and parts that nobody took over become garbage.

The commit that ends an upload writes a row that says which parts the object took over. Whoever ended
it cleans up at once; what it did not get to, because it died, upkeep finishes: whatever row of that kind
stays for a while.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from objectio.abc.kv import Equals
from objectio.errors import CommitConflict
from objectio.kv.keys import decode_uint
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.records import BlobRef, EndedUpload, decode_ended, decode_part
from objectio.store.background import Background
from objectio.store.garbage import Write, garbage_row
from objectio.store.presence import Upkeep

_log: Final = logging.getLogger("objectio.store")

_PAGE: Final = 500
_LOOK_SECONDS: Final = 60.0
"""Between two looks. What both of them saw was not being cleaned in between, or it takes very long,
and then two who do it are no harm."""


async def clean_upload(kv: KVStore, upload_id: bytes, ended: EndedUpload) -> None:
    """Safe to be done by two at once."""
    keep = set(ended.keep)
    while rows := await kv.ascan_prefix(keys.parts(upload_id), limit=_PAGE):
        writes: list[Write] = [(row, None) for row, _ in rows]
        unused: list[BlobRef] = []
        for row, raw in rows:
            if decode_uint(row, len(row) - 2, 2) not in keep:
                unused += decode_part(raw).blobs
        if unused:
            writes.append(garbage_row(unused))
        try:
            await kv.commit([Equals(row, raw) for row, raw in rows], writes)
        except CommitConflict:
            continue  # somebody else cleans up, too; no blob may become garbage twice
    await kv.commit([], [(keys.ended(upload_id), None)])


class EndedUploads(Background):
    """Runs in the background: finishes what nobody else does any more."""

    def __init__(self, kv: KVStore, upkeep: Upkeep) -> None:
        self._kv = kv
        self._upkeep = upkeep
        self._looking = True

    @property
    def backlog(self) -> int:
        """1 as long as it is not known what the process before this one left."""
        return int(self._looking)

    async def _run(self) -> None:
        seen = await self._look_or_log(None)
        self._looking = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            seen = await self._look_or_log(seen)

    async def _look_or_log(self, seen: frozenset[bytes] | None) -> frozenset[bytes]:
        try:
            return await self.look(seen)
        except Exception as error:
            _log.warning("cleaning up after uploads: %s", error)
            return seen or frozenset()

    async def look(self, seen: frozenset[bytes] | None = None) -> frozenset[bytes]:
        """Clean up after those uploads that were `seen` before; None: after all. Returns those that
        are to be seen again."""
        there = await self._kv.ascan_prefix(keys.ENDED)
        for row, raw in there:
            if seen is None or row in seen:
                await clean_upload(self._kv, row[len(keys.ENDED) :], decode_ended(raw))
                self._upkeep.garbage()
        return frozenset(row for row, _ in there)
