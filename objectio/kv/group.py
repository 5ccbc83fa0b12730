"""Group commit on the event loop: many callers, one driver call, one wake-up.

While the worker thread commits one batch, further commits collect on the loop and make the next
one. So the price of a durable commit, a sync and two thread hand-offs, is shared by everyone who
waits, and an idle store adds no delay: a lone commit leaves at the end of the loop's current turn.

Everything but `_work` runs on the loop. The two sides meet in two places: the inbox, and
`call_soon_threadsafe`, which is called once for each batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter

from objectio.abc.kv import Check, Commit
from objectio.abc.metrics import Metrics
from objectio.errors import CommitConflict, LocalProtocolError, Unavailable
from objectio.kv.failure import as_storage_error
from objectio.limits import (
    KV_BATCH_BYTES_MAX,
    KV_BATCH_COMMITS_MAX,
    KV_PENDING_COMMITS_MAX,
)

_Entry = tuple[Commit, int, "asyncio.Future[None]"]
_Batch = list[_Entry]
_Job = tuple[asyncio.AbstractEventLoop, _Batch]

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)

log = logging.getLogger(__name__)


class GroupCommitter:
    """Queues commits of one store and has a worker thread apply them in batches, in order."""

    def __init__(
        self,
        commit: Callable[[Sequence[Commit]], list[Check | None]],
        metrics: Metrics,
    ) -> None:
        self._commit = commit
        self._pending: deque[_Entry] = deque()
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: threading.Thread | None = None
        self._active = False  # a batch is with the worker, or about to be made
        self._closing = False
        self._idle: asyncio.Event | None = None
        self._commits = metrics.counter("objectio_kv_commits_total", "Commits applied.")
        self._conflicts = metrics.counter(
            "objectio_kv_conflicts_total", "Commits refused by one of their checks."
        )
        self._failures = metrics.counter(
            "objectio_kv_failed_batches_total", "Batches that the engine could not apply."
        )
        self._batch_size = metrics.histogram(
            "objectio_kv_batch_commits", "Commits in one batch.", _BATCH_BUCKETS
        )
        self._batch_seconds = metrics.histogram(
            "objectio_kv_batch_seconds", "Time of the engine for one batch.", _SECONDS_BUCKETS
        )

    def submit(self, commit: Commit, size_bytes: int) -> asyncio.Future[None]:
        """Queue one commit; the future is done when it is durable, in conflict, or has failed."""
        if self._closing:
            raise Unavailable("the key-value store is closed")
        if len(self._pending) >= KV_PENDING_COMMITS_MAX:
            raise Unavailable("too many commits are waiting for the key-value engine")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        future = loop.create_future()
        self._pending.append((commit, size_bytes, future))
        if not self._active:
            self._active = True
            loop.call_soon(self._dispatch)
        return future

    async def close(self) -> None:
        """Finish what is queued, then end the worker."""
        self._closing = True
        if self._active:
            self._idle = asyncio.Event()
            await self._idle.wait()
        self.stop()

    def stop(self) -> None:
        """End the worker once it is through with what it has."""
        self._closing = True
        if self._worker is not None:
            self._inbox.put(None)
            self._worker.join()
            self._worker = None

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._active and self._loop is not None:
            if not self._loop.is_closed():
                raise LocalProtocolError("a key-value store is used from two event loops at once")
            self._pending.clear()  # their callers went with the loop
            self._active = False
        self._loop = loop
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="kv-commit", daemon=True)
            self._worker.start()

    def _dispatch(self) -> None:
        """Hand the next batch to the worker. A commit whose caller has gone is not begun."""
        assert self._loop is not None
        batch: _Batch = []
        batch_bytes = 0
        pending = self._pending
        while pending and len(batch) < KV_BATCH_COMMITS_MAX:
            entry = pending[0]
            if not entry[2].cancelled():
                if batch and batch_bytes + entry[1] > KV_BATCH_BYTES_MAX:
                    break
                batch.append(entry)
                batch_bytes += entry[1]
            pending.popleft()
        if batch:
            self._inbox.put((self._loop, batch))
            return
        self._active = False
        if self._idle is not None:
            self._idle.set()

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            loop, batch = job
            began = perf_counter()
            results: list[Check | None] = []
            failure: BaseException | None = None
            try:
                results = self._commit([entry[0] for entry in batch])
                if len(results) != len(batch):
                    failure = Unavailable("the key-value engine lost count of a batch")
            except BaseException as error:
                failure = error
            elapsed = perf_counter() - began
            try:
                loop.call_soon_threadsafe(self._finish, batch, results, failure, elapsed)
            except RuntimeError:
                log.warning("%d commits ended after their event loop was closed", len(batch))

    def _finish(
        self,
        batch: _Batch,
        results: list[Check | None],
        failure: BaseException | None,
        elapsed_seconds: float,
    ) -> None:
        assert self._loop is not None
        conflicts = 0
        if failure is None:
            for (_, _, future), check in zip(batch, results, strict=True):
                if check is None:
                    if not future.done():
                        future.set_result(None)
                    continue
                conflicts += 1
                if not future.done():
                    future.set_exception(
                        CommitConflict("a check of the commit did not hold", check=check)
                    )
            self._commits.inc(len(batch) - conflicts)
            if conflicts:
                self._conflicts.inc(conflicts)
        else:
            self._failures.inc()
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(as_storage_error(failure))
        self._batch_size.observe(len(batch))
        self._batch_seconds.observe(elapsed_seconds)
        # After the callers that were just woken: what they commit next joins this batch.
        self._loop.call_soon(self._dispatch)
