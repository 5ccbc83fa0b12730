"""Bounds on memory: how many bytes may be under way, and where incoming payloads are put."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from objectio.limits import GIB, KIB, MIB

CONNECTION_BYTES_MAX: Final = 32 * MIB
"""Calls of one connection that are not answered, as both ends count them; and its answers that have
not been sent. One frame may always be under way, however large."""
PEER_BYTES_MAX: Final = 256 * MIB
"""Payloads of calls from one node, over all its connections."""
SERVER_BYTES_MAX: Final = 1 * GIB
"""Payloads of calls from all nodes."""
SPARE_BYTES_MAX: Final = 64 * MIB
"""Memory that is kept for the next payloads."""
ANSWERS_BYTES_MAX: Final = 32 * MIB
"""Memory that a connection keeps for the next answers."""
_CLASS_BYTES_MIN: Final = 16 * KIB
_TRIES: Final = 4


def size_class(count: int) -> int:
    """The next size in steps of an eighth, so that memory can be used again and little is wasted."""
    step = max(_CLASS_BYTES_MIN, 1 << max(0, (count - 1).bit_length() - 4))
    return -(-count // step) * step


class Budget:
    """So many bytes, for several takers. Who finds nothing taken gets whatever they want, so that
    one item may be larger than the whole."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def has_room(self, count: int) -> bool:
        if self._waiting:
            return False
        return not self.used_bytes or self.used_bytes + count <= self.bytes_max

    def charge(self, count: int) -> None:
        """Count what is there already, even beyond the bound."""
        self.used_bytes += count

    async def take(self, count: int) -> None:
        """In order of asking."""
        if self.has_room(count):
            self.used_bytes += count
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((count, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(count)
            else:
                self._wake()
            raise

    def give(self, count: int) -> None:
        self.used_bytes -= count
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        waiting = self._waiting
        while waiting:
            count, future = waiting[0]
            if not future.done():
                if self.used_bytes and self.used_bytes + count > self.bytes_max:
                    return
                self.used_bytes += count
                future.set_result(None)
            waiting.popleft()


class Lease:
    """Memory for one payload; `give` it back once nobody looks at it any more."""

    __slots__ = ("_memory", "_peer", "_pool", "view")

    def __init__(self, pool: BufferPool, peer: Budget, memory: bytearray, count: int) -> None:
        self._pool: BufferPool | None = pool
        self._peer = peer
        self._memory = memory
        self.view = memoryview(memory)[:count]

    def give(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.take_back(self._memory, self.view.nbytes, self._peer)


class BufferPool:
    """Memory of one server for the payloads of calls, used again by classes of size."""

    def __init__(self, bytes_max: int = SERVER_BYTES_MAX) -> None:
        self._budget = Budget(bytes_max)
        self._spare: dict[int, list[bytearray]] = {}
        self._spare_bytes = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def used_bytes(self) -> int:
        return self._budget.used_bytes

    def lease(self, count: int, peer: Budget, wake: Callable[[], None]) -> Lease | None:
        """None if there is no room now; `wake` is then called once when it is worth a new try."""
        if not peer.has_room(count) or not self._budget.has_room(count):
            self._waiting[wake] = None
            return None
        peer.charge(count)
        self._budget.charge(count)
        size = size_class(count)
        spare = self._spare.get(size)
        if spare:
            self._spare_bytes -= size
            return Lease(self, peer, spare.pop(), count)
        return Lease(self, peer, bytearray(size), count)

    def forget(self, wake: Callable[[], None]) -> None:
        self._waiting.pop(wake, None)

    def take_back(self, memory: bytearray, count: int, peer: Budget) -> None:
        """Of a lease only."""
        peer.give(count)
        self._budget.give(count)
        if self._spare_bytes + len(memory) <= SPARE_BYTES_MAX:
            self._spare_bytes += len(memory)
            self._spare.setdefault(len(memory), []).append(memory)
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()


class Recycler:
    """Memory for answers, which goes to callers who never give it back: it is used again once no
    view of it is left. New memory is slow, since the system has to clear each of its pages."""

    def __init__(self, bytes_max: int = ANSWERS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: dict[int, deque[bytearray]] = {}
        self._kept_bytes = 0

    def take(self, count: int) -> memoryview:
        size = size_class(count)
        kept = self._kept.get(size)
        if kept is None:
            kept = self._kept[size] = deque()
        for _ in range(min(_TRIES, len(kept))):
            memory = kept[0]
            kept.rotate(-1)
            if _is_free(memory):
                return memoryview(memory)[:count]
        memory = bytearray(size + 1)
        del memory[-1]  # leaves room for `_is_free`
        if self._kept_bytes + size > self._bytes_max:
            self._kept.clear()  # other sizes are wanted now, or callers keep much
            self._kept_bytes = 0
            kept = self._kept[size] = deque()
        kept.append(memory)
        self._kept_bytes += size
        return memoryview(memory)[:count]


def _is_free(memory: bytearray) -> bool:
    """Whether there is no view of it: Python refuses to change the length of memory that is shown."""
    try:
        memory.append(0)
    except BufferError:
        return False
    del memory[-1]
    return True
