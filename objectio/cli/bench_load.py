"""The load of `objectio bench`: objects that are put, and read and compared, over many connections at
once, by several processes, of which Python needs one for each processor that it is to use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from objectio.cli.client import Connection, Keys
from objectio.cli.s3 import PIECE_BYTES, S3, Where

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe

Method = Literal["PUT", "GET"]

KEYS_PER_CONNECTION_MAX: Final = 4
"""Of large objects, so that a run fills no disk: the next one takes the place of the first."""
LARGE_BYTES: Final = 1 << 20
_START_SECONDS: Final = 0.2
"""For all processes to be there before the first request."""


@dataclass(frozen=True, slots=True)
class Target:
    endpoint: str
    keys: Keys | None
    bucket: str
    prefix: str

    def where(self, size: int, connection: int, number: int) -> Where:
        return Where(self.bucket, f"{self.prefix}{size}/{connection}/{number}")


class Phase(NamedTuple):
    """`there`: how many objects of this size each connection has put before."""

    method: Method
    payload: bytes
    digest: bytes
    connections: int
    processes: int
    seconds: float
    there: Mapping[int, int]


@dataclass(slots=True)
class Seen:
    """What requests took, in seconds; `errors` says what went wrong. `puts`: objects by connection."""

    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    puts: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0


def run_phase(target: Target, phase: Phase) -> Seen:
    """Blocking. What a process has seen is lost if it is killed, and said."""
    import multiprocessing

    context = multiprocessing.get_context("fork")  # nothing else runs in this process
    begin = time.monotonic() + _START_SECONDS
    children = []
    for number in range(phase.processes):
        reader, writer = context.Pipe(duplex=False)
        mine = range(number, phase.connections, phase.processes)
        process = context.Process(target=_child, args=(writer, target, phase, mine, begin))
        process.start()
        writer.close()
        children.append((process, reader))
    total = Seen()
    try:
        for _, reader in children:
            _add(total, reader)
    finally:
        for process, reader in children:
            reader.close()
            if process.is_alive():
                process.terminate()
            process.join()
    return total


def _add(total: Seen, reader: Pipe) -> None:
    try:
        seen: Seen = reader.recv()
    except EOFError:
        total.errors.append("a process of the load ended before it could say what it has seen")
        return
    total.took += seen.took
    total.errors += seen.errors
    total.puts |= seen.puts
    total.seconds = max(total.seconds, seen.seconds)


def _child(
    writer: Pipe, target: Target, phase: Phase, connections: Sequence[int], begin: float
) -> None:
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    found = [Seen() for _ in connections]
    threads = [
        threading.Thread(target=_work, args=(seen, target, phase, connection, begin))
        for seen, connection in zip(found, connections, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Seen(seconds=time.monotonic() - begin)
    for seen in found:
        total.took += seen.took
        total.errors += seen.errors
        total.puts |= seen.puts
    writer.send(total)


def _work(seen: Seen, target: Target, phase: Phase, connection: int, begin: float) -> None:
    """One connection, until the time is over or something goes wrong. At least one request."""
    opened = Connection(target.endpoint, target.keys)
    request = _Requests(opened, phase)
    count = 0
    try:
        time.sleep(max(0.0, begin - time.monotonic()))
        while count == 0 or time.monotonic() < begin + phase.seconds:
            number = count % _keys_of(phase, connection)
            where = target.where(len(phase.payload), connection, number)
            started = time.perf_counter()
            request.make(where)
            seen.took.append(time.perf_counter() - started)
            count += 1
    except Exception as error:  # to be counted; the others go on
        seen.errors.append(str(error) or type(error).__name__)
    finally:
        opened.close()
    if phase.method == "PUT":
        seen.puts[connection] = min(count, _keys_of(phase, connection))


def _keys_of(phase: Phase, connection: int) -> int:
    if phase.method == "GET":
        return max(1, phase.there.get(connection, 0))
    return KEYS_PER_CONNECTION_MAX if len(phase.payload) >= LARGE_BYTES else 1 << 30


class _Requests:
    def __init__(self, connection: Connection, phase: Phase) -> None:
        self._connection = connection
        self._s3 = S3(connection)
        self._payload = memoryview(phase.payload)
        self._digest = phase.digest
        self.make: Callable[[Where], Any] = self._put if phase.method == "PUT" else self._get

    def _put(self, where: Where) -> None:
        size = len(self._payload)
        headers = [(b"content-length", b"%d" % size)]
        self._connection.begin("PUT", where.path, "", headers, content_sha256=self._digest)
        for start in range(0, size, PIECE_BYTES):
            if not self._connection.send(self._payload[start : start + PIECE_BYTES]):
                break
        answer = self._connection.answer()
        with self._connection.guarded():
            said = answer.read()
        if answer.status != 200:
            raise self._s3.failure(answer.status, said, where)

    def _get(self, where: Where) -> None:
        from objectio.errors import ChecksumMismatch

        self._connection.begin("GET", where.path)
        answer = self._connection.answer()
        done = 0
        with self._connection.guarded():
            if answer.status != 200:
                raise self._s3.failure(answer.status, answer.read(), where)
            while piece := answer.read(PIECE_BYTES):
                if self._payload[done : done + len(piece)] != piece:
                    break
                done += len(piece)
        if done != len(self._payload):
            raise ChecksumMismatch(f"object {where.key} is not what was put")
