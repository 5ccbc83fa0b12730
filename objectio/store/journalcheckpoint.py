"""Checkpoints: whole copies of the metadata on the journal's members, so that the journal can end.

A checkpoint is *fuzzy*: it is read page by page while commits go on, so that it is of no single
moment. It is begun after batch `number` and its last page is read before batch `end` + 1; whoever
restores it applies the batches behind `number`, and has a consistent state from `end` on. The record
that makes it count is written when all that is there, and only then is what it replaces deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import xxhash

from objectio.abc.shardstore import ShardStore, ShardWrite
from objectio.errors import ObjectIOError
from objectio.kv.keys import KEY_END
from objectio.kv.outbox import PREFIX, PREFIX_END
from objectio.kv.store import KVStore
from objectio.limits import MIB
from objectio.meta import keys
from objectio.model.stripe import ShardKey, is_reserved
from objectio.store.answers import answered, submitted
from objectio.store.journalformat import (
    CHECKPOINT,
    CHUNK_BYTES,
    COMPLETE,
    ENTRY,
    Checkpoint,
    Name,
    Row,
    coordinates,
    cut,
    first_key,
    pack_checkpoint,
    pack_piece,
    pack_rows,
)
from objectio.store.journalmembers import Member

if TYPE_CHECKING:
    from objectio.store.journal import Journal

_PAGE_BYTES: Final = MIB // 4
_PAGE_ROWS_MIN: Final = 8
_PAGE_ROWS_MAX: Final = 500
_AHEAD_MAX: Final = 4
"""Chunks that are on their way to devices at a time."""
_REST_FACTOR: Final = 3
"""Times as long as a page took that nothing is done about the next one."""
_SYNC_CHUNKS: Final = 16
"""A sync that comes after more would hold up others for long."""
_ANSWER_SECONDS_MAX: Final = 30.0
_SCAN_PAGE: Final = 1000


class Interrupted(Exception):
    """The journal's members changed: the checkpoint must be written to the new ones."""


class _Fan:
    """Hands the same shards to all members, a few at a time."""

    def __init__(self, journal: Journal, members: Sequence[Member]) -> None:
        self._journal = journal
        self._members = members
        self._waiting: dict[tuple[int, Member], float] = {}
        self._count = 0
        self._changed = asyncio.Event()

    def submit(self, key: ShardKey, payload: bytes, *, sync: bool) -> None:
        self._count += 1
        loop = asyncio.get_running_loop()
        write = ShardWrite(key, (payload,), coordinates(len(payload)), sync, reserve=True)
        for member in self._members:
            place = (self._count, member)
            self._waiting[place] = loop.time()
            member.outstanding += 1
            done = partial(self._done, place)
            try:
                member.store.submit(write, done)
            except ObjectIOError as error:
                loop.call_soon(done, error)

    def _done(self, place: tuple[int, Member], error: BaseException | None) -> None:
        member = place[1]
        member.outstanding -= 1
        self._waiting.pop(place, None)
        if error is not None:
            self._journal.drop(member, str(error))
        self._changed.set()

    async def until_left(self, chunks: int) -> None:
        """Wait until at most so many chunks are unanswered. Raises `Interrupted` if one of the
        members is none any more."""
        while True:
            self._check()
            if len({count for count, _ in self._waiting}) <= chunks:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            except TimeoutError:
                self._drop_the_silent()

    def _check(self) -> None:
        for member in self._members:
            if self._journal.members.get(member.osd) is not member:
                raise Interrupted(f"OSD {member.osd} left the journal")
        if len(self._journal.members) != len(self._members):
            raise Interrupted("another device joined the journal")

    def _drop_the_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for (_, member), since in list(self._waiting.items()):
            if now - since > _ANSWER_SECONDS_MAX:
                self._journal.drop(member, "it does not answer")


async def write_checkpoint(
    kv: KVStore, journal: Journal, members: Sequence[Member], number: int
) -> Checkpoint:
    """All rows, durably on all members. Every batch up to `number` is in the engine."""
    name = Name(CHECKPOINT, journal.lineage, number)
    written_ms = int(time.time() * 1000)
    fan = _Fan(journal, members)
    checksum = xxhash.xxh3_64()
    chunks = rows = size = 0
    rest = bytearray()

    async def send(piece: bytes) -> None:
        nonlocal chunks, size
        checksum.update(piece)
        payload = pack_piece(name, chunks, written_ms, piece)
        chunks += 1
        size += len(piece)
        fan.submit(name.key(chunks - 1), payload, sync=chunks % _SYNC_CHUNKS == 0)
        await fan.until_left(_AHEAD_MAX)

    loop = asyncio.get_running_loop()
    turn = loop.time()
    async for page in _pages(kv):
        rows += len(page)
        rest += pack_rows(page)
        while len(rest) >= CHUNK_BYTES:
            piece = bytes(rest[:CHUNK_BYTES])
            del rest[:CHUNK_BYTES]
            await send(piece)
        # A million rows are seconds of work: clients have the loop for most of the time.
        await asyncio.sleep(_REST_FACTOR * (loop.time() - turn))
        turn = loop.time()
    if rest:
        await send(bytes(rest))
    await fan.until_left(0)
    await kv.barrier()  # every batch that a page may have shown is in the journal now
    made = Checkpoint(
        journal.lineage,
        number,
        journal.acknowledged,
        chunks,
        rows,
        size,
        checksum.intdigest(),
        sorted(member.osd for member in members),
        written_ms,
    )
    end = Name(COMPLETE, journal.lineage, number)
    for key, payload in cut(end, number, written_ms, pack_checkpoint(made)):
        fan.submit(key, payload, sync=True)
    await fan.until_left(0)
    return made


async def _pages(kv: KVStore) -> AsyncIterator[list[Row]]:
    """All rows but the engine's own and the journal's, in pages of limited size."""
    limit = _PAGE_ROWS_MIN
    for start, stop in ((b"", PREFIX), (PREFIX_END, KEY_END)):
        while True:
            page = await kv.ascan(start, stop, limit=limit)
            if page:
                yield [row for row in page if row[0] != keys.JOURNAL]
            if len(page) < limit:
                break
            start = page[-1][0] + b"\0"
            size = sum(len(key) + len(value) for key, value in page) or 1
            wanted = limit * _PAGE_BYTES // size
            limit = min(max(wanted, _PAGE_ROWS_MIN), 2 * limit, _PAGE_ROWS_MAX)


async def clean(osd: int, store: ShardStore, current: Checkpoint) -> None:
    """Delete what the checkpoint replaces. A device that fails at it is cleaned another time."""
    after = first_key
    try:
        while True:
            page = await store.scan(after, _SCAN_PAGE)
            doomed = [info.key for info in page if _is_replaced(osd, info.key, current)]
            if doomed:
                await answered(submitted(partial(store.submit_delete, doomed)))
            if len(page) < _SCAN_PAGE:
                return
            after = page[-1].key
    except ObjectIOError:
        return


def _is_replaced(osd: int, key: ShardKey, current: Checkpoint) -> bool:
    if not is_reserved(key.blob):
        return False
    name = Name.of(key)
    if name.lineage != current.lineage:
        return name.lineage < current.lineage
    if name.kind == ENTRY:
        return name.number <= current.number
    if name.number != current.number:
        return name.number < current.number
    return osd not in current.osds or (name.kind == CHECKPOINT and key.stripe >= current.chunks)
