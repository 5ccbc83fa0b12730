"""Group commit for all devices of a process, paced by the event loop.

While one batch of each device is being written and synced, in a thread each, new items collect;
when the last device of the round is done, the loop is woken once, answers everybody and starts the
next round. Thread hand-offs, not the disks, are what limits small writes, so they are shared by as
many items as possible. A device that lags behind does not hold up the others for longer than
`_PATIENCE_SECONDS`: it then simply misses rounds, and answers when it is done.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from objectio.abc.shardstore import Done

_PATIENCE_SECONDS: Final = 0.02
_LANES: Final = max(2, os.cpu_count() or 2)
"""Devices on one file system share so many threads: they wait for the same journal anyway, and each
further thread only adds fights over the interpreter's lock. Devices on others have their own."""

Outcome = tuple[Done, BaseException | None]


class Batched(Protocol):
    """A device that takes part: `take` on the loop, `run_batch` in a thread."""

    busy: bool
    filesystem: int

    def take(self) -> Sequence[Any]: ...

    def run_batch(self, items: Sequence[Any]) -> Sequence[Outcome]: ...

    def batch_done(self) -> None: ...


class _Round:
    """`late`: patience is over, and each device that is still to come wakes the loop itself."""

    __slots__ = ("late", "left", "lock", "timer")

    def __init__(self, left: int) -> None:
        self.left = left
        self.late = False
        self.lock = threading.Lock()
        self.timer: asyncio.TimerHandle | None = None

    def one_done(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left == 0


class Rounds:
    """One per event loop; threads are as many as devices have joined."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.compacting = asyncio.Lock()
        """Held by a full device that compacts: others may share what room is left."""
        self._dirty: dict[Batched, None] = {}
        self._running = False
        self._finished: deque[tuple[Batched, Sequence[Outcome]]] = deque()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0

    def join(self) -> None:
        """A device was opened: there is a thread more."""
        threading.Thread(target=self._work_loop, name=f"osd-{self._threads}", daemon=True).start()
        self._threads += 1

    def leave(self) -> None:
        """A device was closed: one of the threads ends, sooner or later."""
        self._threads -= 1
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
        lanes: dict[tuple[int, int], list[tuple[Batched, Sequence[Any]]]] = {}
        seen: dict[int, int] = {}
        for store in ready:
            del self._dirty[store]
            store.busy = True
            place = seen.get(store.filesystem, 0)
            seen[store.filesystem] = place + 1
            lane = lanes.setdefault((store.filesystem, place % _LANES), [])
            lane.append((store, store.take()))
        for work in lanes.values():
            self._work.put(partial(self._run_lane, turn, work))
        turn.timer = self._loop.call_later(_PATIENCE_SECONDS, self._lose_patience, turn)

    def _run_lane(self, turn: _Round, work: list[tuple[Batched, Sequence[Any]]]) -> None:
        for store, items in work:
            self._run(turn, store, items)

    def _run(self, turn: _Round, store: Batched, items: Sequence[Any]) -> None:
        self._finished.append((store, store.run_batch(items)))
        if turn.one_done() or turn.late:
            try:
                self._loop.call_soon_threadsafe(self._finish, turn)
            except RuntimeError:
                pass  # the loop is closed: nobody is left to answer

    def _lose_patience(self, turn: _Round) -> None:
        # First the flag, then the answers: a device that does not see the flag has left its own.
        turn.late = True
        self._finish(turn)

    def _finish(self, turn: _Round) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
        finished = self._finished
        while finished:
            store, outcomes = finished.popleft()
            store.busy = False
            for done, error in outcomes:
                try:
                    done(error)
                except Exception as bug:  # one caller's mistake must not keep others waiting
                    self._report(bug)
            store.batch_done()
        if self._dirty:
            self._running = True
            self._start()
        else:
            self._running = False

    def _report(self, bug: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": "the callback of a shard store's item raised", "exception": bug}
        )

    def _work_loop(self) -> None:
        while (job := self._work.get()) is not None:
            job()
