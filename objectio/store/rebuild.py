"""Making the metadata anew from the journal on the devices.

The newest checkpoint that can be read in full is the base; the batches behind it are applied in
order, up to the first that no device has. What is left behind such a gap is counted, and reported as
lost: it is for the operator to go on without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import xxhash

from objectio.abc.shardstore import ShardStore, ShardStoreFactory
from objectio.errors import ChecksumMismatch, ConfigError, NotFound, ObjectIOError
from objectio.kv.outbox import Write, first_row
from objectio.kv.store import KVStore
from objectio.limits import MIB
from objectio.meta import keys
from objectio.meta.records import JournalRecord, decode_cluster, encode
from objectio.store.journalformat import Checkpoint, RowReader
from objectio.store.journalhistory import History, look_at

_log: Final = logging.getLogger("objectio.journal")

_JUMP: Final = 1_000_000
"""Batches of the rebuilt metadata are numbered from so far behind the last one that was found."""
_BATCH_WRITES: Final = 5000
_BATCH_BYTES: Final = 4 * MIB


class Disk(NamedTuple):
    osd: int
    path: str


@dataclass(slots=True)
class Disks:
    """The opened devices of one cluster, by OSD; and why others could not be read."""

    cluster_id: str
    stores: dict[int, ShardStore] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self.stores.values()))


@dataclass(slots=True)
class Rebuilt:
    """`lost` counts entries that were found and could not be applied; `problems` are sentences."""

    checkpoint: Checkpoint
    lineage: int
    number: int
    rows: int = 0
    entries: int = 0
    newest_ms: int = 0
    lost: int = 0
    damaged_copies: int = 0
    problems: list[str] = field(default_factory=list)


async def open_disks(factory: ShardStoreFactory, disks: Iterable[Disk]) -> Disks:
    """Open every device that can be. All must belong to one cluster."""
    clusters: dict[str, list[Disk]] = {}
    unread: dict[int, str] = {}
    for disk in disks:
        try:
            cluster = await asyncio.to_thread(factory.cluster_of, disk.path)
        except ObjectIOError as error:
            unread[disk.osd] = error.message
            continue
        if cluster is None:
            unread[disk.osd] = "absent or blank"
        else:
            clusters.setdefault(cluster, []).append(disk)
    if not clusters:
        raise NotFound("none of the configured disks holds data of a cluster", kind="journal")
    if len(clusters) > 1:
        found = "; ".join(
            f"{cluster}: {', '.join(disk.path for disk in held)}"
            for cluster, held in clusters.items()
        )
        raise ConfigError(f"the disks belong to different clusters. Leave out the others: {found}")
    [(cluster_id, held)] = clusters.items()
    opened = Disks(cluster_id, unread=unread)
    for disk in held:
        try:
            opened.stores[disk.osd] = await factory.open(disk.path, cluster_id=cluster_id)
        except ObjectIOError as error:
            opened.unread[disk.osd] = error.message
    return opened


async def read_history(stores: Mapping[int, ShardStore], unread: dict[int, str]) -> History:
    """What fails at being looked at is `unread`."""
    found = []
    for osd, store in sorted(stores.items()):
        try:
            found.append(await look_at(osd, store))
        except ObjectIOError as error:
            unread[osd] = error.message
    return History(found)


async def rebuild(history: History, fresh: Callable[[], KVStore]) -> tuple[Rebuilt, KVStore]:
    """Write what the history has into an empty store, of which `fresh` gives a new one for each
    attempt; it is not closed. Raises `NotFound` if there is no checkpoint that can be read."""
    problems: list[str] = []
    found = await history.checkpoints()
    for checkpoint in found:
        kv = fresh()
        try:
            made = await _restore(history, checkpoint, kv)
        except ChecksumMismatch as error:
            problems.append(f"checkpoint {checkpoint.number} cannot be used: {error.message}")
            _log.warning(problems[-1])
            kv.close_sync()
            continue
        made.problems[:0] = problems
        newer = [other for other in found if other.end > made.number]
        if newer and not made.lost:
            made.lost = max(other.end for other in newer) - made.number
        return made, kv
    raise NotFound(
        "the disks hold no complete checkpoint of the metadata that can be read"
        + "".join(f"; {problem}" for problem in problems),
        kind="journal",
    )


async def _restore(history: History, checkpoint: Checkpoint, kv: KVStore) -> Rebuilt:
    sink = _Sink(kv)
    made = Rebuilt(
        checkpoint,
        history.lineage + 1,
        checkpoint.number,
        rows=checkpoint.rows,
        newest_ms=checkpoint.written_ms,
    )
    await _restore_rows(history, checkpoint, sink)
    async for entry in history.entries_after(checkpoint.lineage, checkpoint.number):
        for key, value in entry.writes:
            sink.put(key, value)
        made.entries += 1
        made.number = entry.number
        made.newest_ms = max(made.newest_ms, entry.written_ms)
        await sink.flush_if_large()
    made.lost = await history.lost_behind(checkpoint.lineage, made.number)
    if made.lost:
        made.problems.append(
            f"batch {made.number + 1} is on no disk that can be read: {made.lost} batches behind it "
            "cannot be applied"
        )
    if made.number < checkpoint.end:
        made.lost = max(made.lost, checkpoint.end - made.number)
        made.problems.append(
            f"the checkpoint is consistent from batch {checkpoint.end} on, and the batches end at "
            f"{made.number}"
        )
    await _count_later_lineages(history, checkpoint, made)
    number = max(history.newest(checkpoint.lineage), made.number) + _JUMP
    sink.put(keys.JOURNAL, encode(JournalRecord(made.lineage, True, [])))
    sink.put(*first_row(number))
    await sink.flush()
    made.damaged_copies = len(history.damaged)
    return made


async def _restore_rows(history: History, checkpoint: Checkpoint, sink: _Sink) -> None:
    reader, checksum, rows = RowReader(), xxhash.xxh3_64(), 0
    async for piece in history.pieces(checkpoint):
        checksum.update(piece)
        for key, value in reader.feed(piece):
            sink.put(key, value)
            rows += 1
        await sink.flush_if_large()
    if checksum.intdigest() != checkpoint.checksum or not reader.done or rows != checkpoint.rows:
        raise ChecksumMismatch("its chunks do not fit together")


async def _count_later_lineages(history: History, checkpoint: Checkpoint, made: Rebuilt) -> None:
    """Batches from after a rebuild whose first checkpoint was never finished."""
    for lineage in range(checkpoint.lineage + 1, history.lineage + 1):
        later = len(history.numbers_after(lineage, 0))
        if later:
            made.lost += later
            made.problems.append(
                f"there are {later} batches of history {lineage}, which has no checkpoint that can "
                "be read"
            )


def check_cluster(kv: KVStore, cluster_id: str) -> None:
    """Whether the metadata are of the cluster whose disks they came from."""
    raw = kv.get(keys.CLUSTER)
    if raw is None or decode_cluster(raw).cluster_id != cluster_id:
        raise ConfigError(f"what the disks of cluster {cluster_id} hold is not its metadata")


class _Sink:
    """Writes rows in batches; the last value of a key counts."""

    def __init__(self, kv: KVStore) -> None:
        self._kv = kv
        self._writes: dict[bytes, bytes | None] = {}
        self._bytes = 0

    def put(self, key: bytes, value: bytes | None) -> None:
        self._writes[key] = value
        self._bytes += len(key) + len(value or b"")

    async def flush_if_large(self) -> None:
        if len(self._writes) >= _BATCH_WRITES or self._bytes >= _BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        writes: list[Write] = []
        size = 0
        for write in self._writes.items():
            writes.append(write)
            size += len(write[0]) + len(write[1] or b"")
            if len(writes) >= _BATCH_WRITES or size >= _BATCH_BYTES:
                await self._kv.commit([], writes)
                writes, size = [], 0
        if writes:
            await self._kv.commit([], writes)
        self._writes.clear()
        self._bytes = 0
