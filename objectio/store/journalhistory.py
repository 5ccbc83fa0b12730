"""What the devices have of the metadata journal: found by their indexes, read from any copy.

Looking reads no shard, only keys, and keeps runs of numbers, so that a long journal costs little.
What a device cannot read, or reads as something else, is taken from another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from objectio.abc.shardstore import ShardStore
from objectio.errors import ChecksumMismatch, ObjectIOError
from objectio.kv.outbox import Write, unpack_writes
from objectio.model.stripe import is_reserved
from objectio.store.journalformat import (
    CHECKPOINT,
    COMPLETE,
    ENTRY,
    Checkpoint,
    Chunk,
    Name,
    first_key,
    join,
    parse,
    unpack_checkpoint,
)

_PAGE: Final = 1000


class Runs:
    """Ascending numbers, as runs without a gap."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def add(self, number: int) -> None:
        """Not below any number that is there."""
        runs = self.runs
        if runs and runs[-1][1] >= number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])

    def __contains__(self, number: int) -> bool:
        return self.covers(number, number)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)

    @property
    def last(self) -> int:
        return self.runs[-1][1] if self.runs else 0

    def covers(self, first: int, last: int) -> bool:
        return first > last or any(run[0] <= first and last <= run[1] for run in self.runs)

    def next_after(self, number: int) -> int | None:
        for first, last in self.runs:
            if last > number:
                return max(first, number + 1)
        return None


@dataclass(slots=True)
class DeviceHistory:
    """What one device has, by lineage; checkpoints by lineage and number."""

    osd: int
    store: ShardStore
    entries: dict[int, Runs] = field(default_factory=dict)
    chunks: dict[tuple[int, int], Runs] = field(default_factory=dict)
    complete: set[tuple[int, int]] = field(default_factory=set)
    entry_bytes: int = 0

    @property
    def empty(self) -> bool:
        return not (self.entries or self.chunks or self.complete)

    def has_all_of(self, checkpoint: Checkpoint, last: int) -> bool:
        """The checkpoint and every entry behind it up to number `last`."""
        name = (checkpoint.lineage, checkpoint.number)
        chunks = self.chunks.get(name, Runs())
        entries = self.entries.get(checkpoint.lineage, Runs())
        return (
            name in self.complete
            and chunks.covers(0, checkpoint.chunks - 1)
            and entries.covers(checkpoint.number + 1, last)
        )


async def look_at(osd: int, store: ShardStore) -> DeviceHistory:
    found = DeviceHistory(osd, store)
    after = first_key
    while True:
        page = await store.scan(after, _PAGE)
        for info in page:
            if not is_reserved(info.key.blob):
                continue
            name = Name.of(info.key)
            if name.kind == ENTRY:
                found.entries.setdefault(name.lineage, Runs()).add(name.number)
                found.entry_bytes += info.length
            elif name.kind == CHECKPOINT:
                place = (name.lineage, name.number)
                found.chunks.setdefault(place, Runs()).add(info.key.stripe)
            elif name.kind == COMPLETE:
                found.complete.add((name.lineage, name.number))
        if len(page) < _PAGE:
            return found
        after = page[-1].key


async def look_at_all(stores: Mapping[int, ShardStore]) -> History:
    """A device that fails at this has nothing, as far as anybody knows."""
    devices = []
    for osd, store in sorted(stores.items()):
        try:
            devices.append(await look_at(osd, store))
        except ObjectIOError:
            continue
    return History(devices)


class Entry(NamedTuple):
    number: int
    first: int
    written_ms: int
    writes: list[Write]


class History:
    def __init__(self, devices: Iterable[DeviceHistory]) -> None:
        self.devices = list(devices)
        self.damaged: set[tuple[int, Name, int]] = set()
        """(OSD, name, chunk) of copies that could not be read."""

    # What there is.

    @property
    def empty(self) -> bool:
        return all(device.empty for device in self.devices)

    @property
    def lineage(self) -> int:
        """The highest one; 0 if there is none."""
        seen = [lineage for device in self.devices for lineage in device.entries]
        for device in self.devices:
            seen += [lineage for lineage, _ in (*device.chunks, *device.complete)]
        return max(seen, default=0)

    def newest(self, lineage: int) -> int:
        """The highest number that anything of the lineage has, whole or not. Each was the engine's
        before it was a device's."""
        last = max((self._runs(device, lineage).last for device in self.devices), default=0)
        return max(last, self.newest_checkpoint(lineage))

    def newest_checkpoint(self, lineage: int) -> int:
        """The highest number of one, whole or not: all batches up to it were acknowledged."""
        numbers = [
            number
            for device in self.devices
            for each, number in (*device.chunks, *device.complete)
            if each == lineage
        ]
        return max(numbers, default=0)

    @staticmethod
    def _runs(device: DeviceHistory, lineage: int) -> Runs:
        return device.entries.get(lineage) or Runs()

    def numbers_after(self, lineage: int, number: int) -> list[int]:
        found: set[int] = set()
        for device in self.devices:
            found.update(each for each in self._runs(device, lineage) if each > number)
        return sorted(found)

    # Checkpoints.

    async def checkpoints(self) -> list[Checkpoint]:
        """Those that are complete on any device, the newest first."""
        found = []
        places = {place for device in self.devices for place in device.complete}
        for lineage, number in sorted(places, reverse=True):
            body = await self._body(Name(COMPLETE, lineage, number))
            if body is not None:
                found.append(unpack_checkpoint(body[0]))
        return found

    async def pieces(self, checkpoint: Checkpoint) -> AsyncIterator[memoryview]:
        """Raises `ChecksumMismatch` at the first one that no device can read."""
        place = (checkpoint.lineage, checkpoint.number)
        name = Name(CHECKPOINT, *place)
        for chunk in range(checkpoint.chunks):
            for device in self.devices:
                if chunk in device.chunks.get(place, Runs()):
                    found = await self._read(device, name, chunk)
                    if found is not None:
                        yield found.piece
                        break
            else:
                raise ChecksumMismatch(
                    f"no device has a copy of chunk {chunk} of checkpoint {checkpoint.number} that "
                    "can be read"
                )

    # Entries.

    async def entry(self, lineage: int, number: int) -> Entry | None:
        """None if no device, and no devices together, have the whole of it."""
        found = await self._body(Name(ENTRY, lineage, number))
        if found is None:
            return None
        body, head = found
        return Entry(number, head.first, head.written_ms, unpack_writes(body))

    async def entries_after(self, lineage: int, number: int) -> AsyncIterator[Entry]:
        """In order, as far as they go without a gap. An entry may stand for several batches."""
        while True:
            found = await self.entry(lineage, number + 1)
            if found is None:
                found = await self._entry_across(lineage, number)
            if found is None:
                return
            yield found
            number = found.number

    async def _entry_across(self, lineage: int, number: int) -> Entry | None:
        """One with a higher number that stands for the next batch, too."""
        for later in self.numbers_after(lineage, number + 1):
            found = await self.entry(lineage, later)
            if found is not None and found.first <= number + 1:
                return found
        return None

    async def lost_behind(self, lineage: int, number: int) -> int:
        """How many entries there are that cannot be reached from this batch on. A last batch that was
        cut off while it was written does not count: nobody was told that it is done."""
        later = self.numbers_after(lineage, number)
        for each in later:
            if not await self._is_cut_off(lineage, each):
                return len(later)
        return 0

    async def _is_cut_off(self, lineage: int, number: int) -> bool:
        """Chunks of it were never written; those that were can be read."""
        name = Name(ENTRY, lineage, number)
        if await self._body(name) is not None:
            return False
        return not any(bad == name for _, bad, _ in self.damaged)

    # Reading.

    async def _body(self, name: Name) -> tuple[bytes, Chunk] | None:
        """The body of an entry or a complete record, from whatever devices have its chunks."""
        tried: set[int] = set()
        for device in self.devices:
            if not self._may_have(device, name):
                continue
            head = await self._read(device, name, 0)
            if head is None or head.checksum in tried:
                continue
            tried.add(head.checksum)
            pieces = [head.piece]
            for chunk in range(1, head.chunks):
                piece = await self._piece(name, chunk, head)
                if piece is None:
                    break
                pieces.append(piece)
            if len(pieces) == head.chunks:
                try:
                    return join(pieces, head.checksum), head
                except ChecksumMismatch:
                    continue
        return None

    async def _piece(self, name: Name, chunk: int, head: Chunk) -> memoryview | None:
        for device in self.devices:
            if self._may_have(device, name):
                found = await self._read(device, name, chunk)
                if found is not None and found.checksum == head.checksum:
                    return found.piece
        return None

    @staticmethod
    def _may_have(device: DeviceHistory, name: Name) -> bool:
        if name.kind == COMPLETE:
            return (name.lineage, name.number) in device.complete
        return name.number in device.entries.get(name.lineage, Runs())

    async def _read(self, device: DeviceHistory, name: Name, chunk: int) -> Chunk | None:
        key = name.key(chunk)
        try:
            (info,) = await device.store.stat([key])
            if info is None:
                return None
            payload = device.store.read_now(key)
            if payload is None:
                payload = await device.store.read(key)
            return parse(key, payload)
        except ObjectIOError:
            self.damaged.add((device.osd, name, chunk))
            return None
