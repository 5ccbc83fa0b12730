"""Threads that read from devices, none of which may keep the others waiting.

A *batch* is a run of reads that one thread makes one after the other: a hand-off to a thread costs
more than the reads of a small stripe. A *lane* is a few threads that take batches in turn. A thread
that is stuck in a device is replaced; it ends by itself when the device answers. Threads are
daemons: a device that never answers must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import NamedTuple

from typing_extensions import Buffer

from objectio.store.latency import DeviceTimes, ReadTimes

Plan = Callable[[], Buffer]


class Read(NamedTuple):
    """Bytes [begin, end) of the shard at a position of a stripe."""

    position: int
    begin: int
    end: int


class Job(NamedTuple):
    """A read that is planned, and where it reads."""

    read: Read
    osd: int
    times: DeviceTimes
    plan: Plan | None


class Batch:
    """Reads under way. What is done, failed or was passed over collects in `results` and `skipped`,
    to be taken out at any time; `told` is called on the event loop when somebody should look.

    skips     whether reads of a device that keeps another read waiting are passed over
    watched   whether somebody is still to be told if a read takes too long
    """

    __slots__ = (
        "ended",
        "lane",
        "replaced",
        "results",
        "seconds",
        "skipped",
        "skips",
        "task",
        "todo",
        "told",
        "watched",
    )

    def __init__(self, jobs: Iterable[Job], told: Callable[[], None], *, skips: bool) -> None:
        self.todo = deque(jobs)
        self.told: Callable[[], None] | None = told
        self.skips = skips
        self.results: dict[Job, Buffer | BaseException] = {}
        self.skipped: deque[Job] = deque()
        self.seconds: list[tuple[Job, float]] = []
        self.ended = False
        self.replaced = False
        self.watched = False
        self.lane: Lane | None = None
        self.task: asyncio.Task[None] | None = None

    def run(self, times: ReadTimes) -> None:
        """Make the reads. In a worker thread; the event loop may take `todo` away meanwhile."""
        while True:
            try:
                job = self.todo.popleft()
            except IndexError:
                return
            began = time.monotonic()
            reading = job.times.reading
            if self.skips and reading and times.overdue(job.osd, began):
                self.skipped.append(job)
                continue
            assert job.plan is not None
            reading[self] = began
            try:
                result: Buffer | BaseException = job.plan()
            except Exception as error:
                result = error
            del reading[self]
            self.seconds.append((job, time.monotonic() - began))
            self.results[job] = result

    def interrupt(self) -> None:
        """Pass over what has not begun."""
        while True:
            try:
                self.skipped.append(self.todo.popleft())
            except IndexError:
                return


class Lane:
    """Up to `threads_max` threads, started as they are needed. `ended` is called on the loop with
    each batch that came to its end."""

    def __init__(
        self,
        name: str,
        threads_max: int,
        times: ReadTimes,
        ended: Callable[[Batch], None],
    ) -> None:
        self._name = name
        self._threads_max = threads_max
        self._times = times
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._load = 0

    def submit(self, batch: Batch) -> None:
        batch.lane = self
        with self._lock:
            self._load += 1
            spawn = self._needs_thread()
        self._batches.put(batch)
        if spawn:
            self._spawn()

    def replace(self, batch: Batch) -> None:
        """The thread that runs this batch is stuck: go on without it."""
        with self._lock:
            if batch.ended or batch.replaced:
                return
            batch.replaced = True
            self._load -= 1
            self._threads -= 1
            spawn = self._needs_thread()
        if spawn:
            self._spawn()

    def close(self) -> None:
        """Let the threads end, each after the batch that it runs."""
        for _ in range(self._threads):
            self._batches.put(None)

    def _needs_thread(self) -> bool:
        if self._load <= self._threads or self._threads >= self._threads_max:
            return False
        self._threads += 1
        return True

    def _spawn(self) -> None:
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            batch.run(self._times)
            with self._lock:
                batch.ended = True
                if not batch.replaced:
                    self._load -= 1
            try:
                self._loop.call_soon_threadsafe(self._ended, batch)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            if batch.replaced:
                return
