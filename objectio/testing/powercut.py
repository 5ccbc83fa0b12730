"""Power cuts at block level: a tape of what was done to devices, and what a cut may leave of it.

`recording` notes every write, sync and discard of every `Device` of the process, and every commit
of an index, in the order in which they began and ended; whoever drives the store notes on the same
tape what was promised when. A cut may then be made between any two notes of the tape:

- a write is *stable* when a sync that began after its end has ended, or, if it was durable itself,
  when it has ended: then it is on the device;
- any other write that has begun is *loose*: it is there, or not, or some of its sectors are;
- a discarded span reads as zeroes or as before.

    tape = Tape()
    with recording(tape):
        ...                                 # work; tape.note("acknowledged", ...) on the way
    player = Player(tape, path, before)     # before: the device's bytes when the tape began
    for cut in tape.moments(path):
        player.go_to(cut)
        image = player.image(torn(rng))
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from typing_extensions import Buffer

from objectio.osd.device import Device
from objectio.osd.index import Index

SECTOR_BYTES: Final = 512
_NEVER: Final = 1 << 62

Span = tuple[int, bytes]
"""Bytes at an offset of the device."""


class Note(NamedTuple):
    """`what` is "write", "discard", "sync" or "index" (begun) or the same with " ended", or a word of
    the driver's own; `where` the path of a device or an index. The end of something has the
    `number` of its begin; `value` is what was written, or what the index's file was like."""

    what: str
    where: str = ""
    number: int = 0
    offset: int = 0
    value: Any = None
    durable: bool = False


class Tape:
    """Notes in order; their places in `notes` are the moments of time."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._lock = threading.Lock()
        self._numbers = 0

    def note(self, what: str, value: Any = None) -> int:
        """A note of the driver's own. Returns its moment."""
        return self._add(Note(what, value=value))

    def begin(
        self, what: str, where: str, offset: int = 0, value: Any = None, durable: bool = False
    ) -> int:
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self.notes.append(Note(what, where, number, offset, value, durable))
        return number

    def end(self, what: str, where: str, number: int, value: Any = None) -> None:
        self._add(Note(f"{what} ended", where, number, value=value))

    def _add(self, note: Note) -> int:
        with self._lock:
            self.notes.append(note)
            return len(self.notes) - 1

    def moments(self, *where: str) -> list[int]:
        """Every cut that leaves something else of these paths (of all if none is given): the moments
        before one of their notes, and the end. A cut at moment n comes before note n."""
        among = set(where)
        found = [
            at
            for at, note in enumerate(self.notes)
            if (note.where in among if among else note.where)
        ]
        return [*found, len(self.notes)]

    def index_at(self, where: str, cut: int, *, begun: bool = False) -> bytes | None:
        """The file of an index as its last commit before the cut left it; None before the first.
        `begun`: as the commit under way leaves it, if there is one."""
        found: bytes | None = None
        for note in self.notes[:cut]:
            if note.where == where and note.what == "index ended":
                found = note.value
        if begun:
            open_ = {n.number for n in self.notes[:cut] if n.where == where and n.what == "index"}
            open_ -= {
                n.number for n in self.notes[:cut] if n.where == where and n.what == "index ended"
            }
            for note in self.notes[cut:]:
                if note.what == "index ended" and note.where == where and note.number in open_:
                    return bytes(note.value)
        return found


@contextlib.contextmanager
def recording(tape: Tape) -> Iterator[None]:
    """Note what is done to devices and indexes, until the end of the context. A device's `where` is
    its path, an index's its directory."""
    wrapped: list[tuple[type, str, Any]] = []

    def wrap(owner: type, name: str, make: Callable[[Any], Any]) -> None:
        wrapped.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, make(owner.__dict__[name]))

    wrap(Device, "pwritev", lambda inner: _recorded_write(tape, inner))
    wrap(Device, "sync", lambda inner: _recorded_sync(tape, inner))
    wrap(Device, "discard", lambda inner: _recorded_discard(tape, inner))
    for name in ("write", "clear"):
        wrap(Index, name, lambda inner: _recorded_commit(tape, inner))
    try:
        yield
    finally:
        for owner, name, inner in wrapped:
            setattr(owner, name, inner)


def _recorded_write(tape: Tape, inner: Any) -> Any:
    def pwritev(
        self: Device, buffers: Sequence[Buffer], offset: int, *, durable: bool = False
    ) -> Any:
        data = b"".join(buffers)
        number = tape.begin("write", str(self.path), offset, data, durable)
        written = inner(self, buffers, offset, durable=durable)
        tape.end("write", str(self.path), number)
        return written

    return pwritev


def _recorded_sync(tape: Tape, inner: Any) -> Any:
    def sync(self: Device) -> None:
        number = tape.begin("sync", str(self.path))
        inner(self)
        tape.end("sync", str(self.path), number)

    return sync


def _recorded_discard(tape: Tape, inner: Any) -> Any:
    def discard(self: Device, offset: int, length: int) -> None:
        number = tape.begin("discard", str(self.path), offset, length)
        inner(self, offset, length)
        tape.end("discard", str(self.path), number)

    return discard


def _recorded_commit(tape: Tape, inner: Any) -> Any:
    def commit(self: Index, *arguments: Any) -> None:
        where = self._path
        number = tape.begin("index", str(where))
        inner(self, *arguments)
        tape.end("index", str(where), number, (where / "data.mdb").read_bytes())

    return commit


# What a cut leaves.


@dataclass(slots=True)
class Operation:
    """A write or a discard (`data` is None). `stable` is the moment from which it is sure to be on the
    device."""

    number: int
    begun: int
    offset: int
    length: int
    data: bytes | None
    stable: int = _NEVER


Choice = Callable[[Operation], list[Span]]
"""What the device has of a loose write or discard."""


def everything(operation: Operation) -> list[Span]:
    data = bytes(operation.length) if operation.data is None else operation.data
    return [(operation.offset, data)]


def nothing(operation: Operation) -> list[Span]:
    return []


def torn(source: random.Random) -> Choice:
    """All, nothing, or some sectors: the first ones, the last ones, or any."""

    def choose(operation: Operation) -> list[Span]:
        sectors = list(_sectors(operation))
        cut = source.randrange(len(sectors) + 1)
        match source.randrange(6):
            case 0 | 1:
                return sectors
            case 2 | 3:
                return []
            case 4:
                return sectors[:cut] if source.random() < 0.7 else sectors[cut:]
            case _:
                share = source.random()
                return [sector for sector in sectors if source.random() < share]

    return choose


def _sectors(operation: Operation) -> Iterator[Span]:
    """A write cut at the device's sectors, of which each is written whole or not at all."""
    ((at, data),) = everything(operation)
    begin, stop = at, at + len(data)
    while begin < stop:
        end = min(stop, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield begin, data[begin - at : end - at]
        begin = end


class Player:
    """One device of a tape, from its beginning on. `lies`: writes that the device has acknowledged as
    stable and does not have, by number. `discards` says whether stable ones read as zeroes."""

    def __init__(
        self,
        tape: Tape,
        where: str,
        before: bytes,
        *,
        discards: Callable[[int], bool] = lambda number: True,
        lies: Iterable[int] = (),
    ) -> None:
        self.operations = _operations(tape, where, set(lies))
        self._discards = discards
        self._base = bytearray(before)
        self._applied = 0
        self._cut = 0

    def go_to(self, cut: int) -> None:
        """Forward to a moment of the tape."""
        assert cut >= self._cut, "a tape plays forward"
        self._cut = cut
        while self._applied < len(self.operations):
            operation = self.operations[self._applied]
            if operation.stable >= cut:
                break
            self._put(self._base, operation)
            self._applied += 1

    def image(self, choice: Choice) -> bytearray:
        """The device's bytes after a cut at this moment."""
        image = bytearray(self._base)
        for operation in self.operations[self._applied :]:
            if operation.begun >= self._cut:
                break
            if operation.stable < self._cut:
                self._put(image, operation)
            else:
                for offset, data in choice(operation):
                    _put(image, offset, data)
        return image

    def loose(self) -> list[Operation]:
        """What a cut at this moment may take away."""
        return [
            each
            for each in self.operations[self._applied :]
            if each.begun < self._cut <= each.stable
        ]

    def _put(self, image: bytearray, operation: Operation) -> None:
        if operation.data is None and not self._discards(operation.number):
            return
        ((offset, data),) = everything(operation)
        _put(image, offset, data)


def _put(image: bytearray, offset: int, data: bytes) -> None:
    if data and len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def _operations(tape: Tape, where: str, lies: set[int]) -> list[Operation]:
    """Writes and discards in the order in which they began, each with when it became stable."""
    found: dict[int, Operation] = {}
    durable: set[int] = set()
    ended: list[Operation] = []
    covered: dict[int, list[Operation]] = {}
    for at, note in enumerate(tape.notes):
        if note.where != where:
            continue
        match note.what:
            case "write":
                found[note.number] = Operation(
                    note.number, at, note.offset, len(note.value), note.value
                )
                if note.durable:
                    durable.add(note.number)
            case "discard":
                found[note.number] = Operation(note.number, at, note.offset, note.value, None)
            case "write ended" | "discard ended":
                operation = found[note.number]
                if note.number in durable and note.number not in lies:
                    operation.stable = at
                else:
                    ended.append(operation)
            case "sync":
                covered[note.number] = list(ended)
            case "sync ended":
                for operation in covered.pop(note.number):
                    if operation.number not in lies:
                        operation.stable = min(operation.stable, at)
                ended = [operation for operation in ended if operation.stable == _NEVER]
            case _:
                pass
    return list(found.values())


def write_image(path: Path, image: bytes | bytearray) -> None:
    """Put a device's bytes where a store will open them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
