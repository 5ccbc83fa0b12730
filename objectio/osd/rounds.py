"""Group commit for all devices of a process, paced by the event loop.

While one batch of each device is being written and synced, in a thread each, new items collect;
when the last device of the round is done, the loop is woken once, answers everybody and starts the
next round. Thread hand-offs, not the disks, are what limits small writes, so they are shared by as
many items as possible. A device that lags behind does not hold up the others for longer than
`_PATIENCE_SECONDS`: it then simply misses rounds.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from objectio.abc.shardstore import Done

_PATIENCE_SECONDS: Final = 0.02

Outcome = tuple[Done, BaseException | None]


class Batched(Protocol):
    """A device that takes part: `take` on the loop, `run_batch` in a thread."""

    busy: bool

    def take(self) -> Sequence[Any]: ...

    def run_batch(self, items: Sequence[Any]) -> Sequence[Outcome]: ...

    def batch_done(self) -> None: ...


class _Round:
    __slots__ = ("left", "lock")

    def __init__(self, left: int) -> None:
        self.left = left
        self.lock = threading.Lock()

    def one_done(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left == 0


class Rounds:
    """One per event loop; threads are as many as devices have joined."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: dict[Batched, None] = {}
        self._running = False
        self._finished: deque[tuple[Batched, Sequence[Outcome]]] = deque()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._timer: asyncio.TimerHandle | None = None
        self._members = 0

    def join(self) -> None:
        """A device was opened."""
        self._members += 1
        while len(self._threads) < self._members:
            thread = threading.Thread(
                target=self._work_loop, name=f"osd-{len(self._threads)}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def leave(self) -> None:
        """A device was closed; its thread ends."""
        self._members -= 1
        self._work.put(None)

    def mark(self, store: Batched) -> None:
        """The store has something to write."""
        self._dirty[store] = None
        if not self._running:
            self._running = True
            # After this turn of the loop: what other requests submit in it rides along.
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        ready = [store for store in self._dirty if not store.busy]
        if not ready:
            self._running = False
            return
        turn = _Round(len(ready))
        for store in ready:
            del self._dirty[store]
            store.busy = True
            items = store.take()
            self._work.put(lambda store=store, items=items: self._run(turn, store, items))  # type: ignore[misc]
        self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._finish)

    def _run(self, turn: _Round, store: Batched, items: Sequence[Any]) -> None:
        self._finished.append((store, store.run_batch(items)))
        if turn.one_done():
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:
                pass  # the loop is closed: nobody is left to answer

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        finished = self._finished
        while finished:
            store, outcomes = finished.popleft()
            store.busy = False
            for done, error in outcomes:
                done(error)
            store.batch_done()
        if self._dirty:
            self._running = True
            self._start()
        else:
            self._running = False

    def _work_loop(self) -> None:
        while (job := self._work.get()) is not None:
            job()
        self._threads.remove(threading.current_thread())
