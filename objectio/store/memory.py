"""Bounded memory for stripes under way: a budget in bytes, and buffers that are used again.

Fresh memory costs the kernel a page fault for each 4 KiB, more than the arithmetic that is done on
it; so stripe buffers are kept.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque


class ByteBudget:
    """At most `limit_bytes` are out at a time; whoever comes first is served first.

    One request may take more than the whole limit when nothing else is out, so that a large stripe
    never waits for ever. Call from the event loop only.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Those whose turn has not come."""
        return len(self._waiting)

    def try_acquire(self, size_bytes: int) -> bool:
        if self._waiting or not self._fits(size_bytes):
            return False
        self.used_bytes += size_bytes
        return True

    async def acquire(self, size_bytes: int) -> None:
        if self.try_acquire(size_bytes):
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size_bytes)  # it was our turn, and we are not there any more
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
            raise

    def release(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        self._serve()

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes == 0 or self.used_bytes + size_bytes <= self.limit_bytes

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self.used_bytes += size_bytes
            turn.set_result(None)


class BufferPool:
    """Page-aligned buffers of one size. `take` and `give` from the event loop only."""

    def __init__(self, size_bytes: int, keep: int) -> None:
        self.size_bytes = size_bytes
        self._keep = keep
        self._idle: list[memoryview] = []

    def take(self) -> memoryview:
        if self._idle:
            return self._idle.pop()
        return memoryview(mmap.mmap(-1, self.size_bytes))

    def give(self, buffer: memoryview) -> None:
        if len(self._idle) < self._keep:
            self._idle.append(buffer)
