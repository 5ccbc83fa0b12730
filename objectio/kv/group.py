"""Group commit on the event loop: many callers, one driver call, one wake-up.

While the worker thread commits one batch, further commits collect on the loop and make the next
one. So the price of a durable commit, a sync and two thread hand-offs, is shared by everyone who
waits, and an idle store adds no delay: a lone commit leaves at the end of the loop's current turn.

Everything but `_work` runs on the loop. The two sides meet in two places: the inbox, and
`call_soon_threadsafe`, which is called once for each batch.

Where a journal follows the engine, callers of a batch wait until the journal has it, too. The next
batch is with the engine meanwhile; only so many may be ahead of the journal, so that a journal that
is slower than the engine gets larger batches and not more of them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter

from objectio.abc.kv import Commit
from objectio.abc.metrics import Metrics
from objectio.errors import CommitConflict, LocalProtocolError, Unavailable
from objectio.kv.failure import as_storage_error
from objectio.kv.outbox import Applied, CommitJournal
from objectio.limits import (
    KV_BATCH_BYTES_MAX,
    KV_BATCH_COMMITS_MAX,
    KV_BATCHES_AHEAD_MAX,
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
        commit: Callable[[Sequence[Commit]], Applied],
        metrics: Metrics,
    ) -> None:
        self._commit = commit
        self.on_applied: Callable[[Sequence[bytes]], None] | None = None
        """Told the keys of each batch, on the loop, once the engine has it."""
        self._journal: CommitJournal | None = None
        self._unsafe: deque[tuple[int, list[asyncio.Future[None]]]] = deque()
        """Batches that the engine has and the journal may not, and who waits for them."""
        self._safe_event: asyncio.Event | None = None
        self._stalled = False  # the next batch waits for the journal
        self._paused = False
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
        metrics.gauge_function(
            "objectio_kv_pending_commits",
            "Commits that wait for the engine.",
            lambda: len(self._pending),
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
        if not self._active and not self._paused:
            self._active = True
            loop.call_soon(self._dispatch)
        return future

    # The journal.

    async def pause(self) -> None:
        """When it returns, no batch is with the engine, and none is begun until `resume`."""
        self._paused = True
        while self._active and not self._stalled:
            self._idle = asyncio.Event()
            await self._idle.wait()
        self._active = self._stalled = False

    def resume(self) -> None:
        self._paused = False
        if self._pending and not self._active and self._loop is not None:
            self._active = True
            self._loop.call_soon(self._dispatch)

    def follow(self, journal: CommitJournal | None, number: int = 0) -> None:
        """Append batches to this journal from now on; the caller has paused, and appends the batch
        with this number itself."""
        self._journal = journal
        if number:
            self._unsafe.append((number, []))

    @property
    def settled(self) -> bool:
        """No batch is with the engine, or waits for the journal."""
        return not self._active and not self._unsafe

    async def all_safe(self) -> None:
        """Wait until the journal has everything that was appended."""
        while self._unsafe:
            self._safe_event = asyncio.Event()
            await self._safe_event.wait()

    def acknowledge(self, number: int) -> None:
        """The journal has everything up to this batch."""
        unsafe = self._unsafe
        while unsafe and unsafe[0][0] <= number:
            for future in unsafe.popleft()[1]:
                if not future.done():
                    future.set_result(None)
        if not unsafe and self._safe_event is not None:
            self._safe_event.set()
        if self._stalled:
            self._stalled = False
            assert self._loop is not None
            # After the callers that were just woken: what they commit next joins the batch.
            self._loop.call_soon(self._dispatch)

    async def close(self) -> None:
        """Finish what is queued, then end the worker."""
        self._closing = True
        self._journal = None
        if self._unsafe:
            self.acknowledge(self._unsafe[-1][0])
        self.resume()
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
        if len(self._unsafe) >= KV_BATCHES_AHEAD_MAX and not self._paused:
            self._stalled = True
            return
        batch: _Batch = []
        batch_bytes = 0
        pending = self._pending
        while pending and len(batch) < KV_BATCH_COMMITS_MAX and not self._paused:
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
            applied = Applied([])
            failure: BaseException | None = None
            try:
                applied = self._commit([entry[0] for entry in batch])
                if len(applied.results) != len(batch):
                    failure = Unavailable("the key-value engine lost count of a batch")
            except BaseException as error:
                failure = error
            elapsed = perf_counter() - began
            try:
                loop.call_soon_threadsafe(self._finish, batch, applied, failure, elapsed)
            except RuntimeError:
                log.warning("%d commits ended after their event loop was closed", len(batch))

    def _finish(
        self,
        batch: _Batch,
        applied: Applied,
        failure: BaseException | None,
        elapsed_seconds: float,
    ) -> None:
        assert self._loop is not None
        conflicts = 0
        if failure is None:
            done: list[asyncio.Future[None]] = []
            if self.on_applied is not None:
                self.on_applied(_keys_of(batch, applied))
            for (_, _, future), check in zip(batch, applied.results, strict=True):
                if check is None:
                    done.append(future)
                    continue
                conflicts += 1
                if not future.done():
                    future.set_exception(
                        CommitConflict("a check of the commit did not hold", check=check)
                    )
            self._tell(applied, done)
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

    def _tell(self, applied: Applied, done: list[asyncio.Future[None]]) -> None:
        """Commits are done when the journal has them and all before them, where there is one. A
        batch that wrote nothing waits for those before it: what it saw is as safe as they are."""
        if self._journal is not None and applied.number:
            self._unsafe.append((applied.number, done))
            self._journal.append(applied.number, applied.number, applied.body)
        elif self._unsafe:
            self._unsafe[-1][1].extend(done)
        else:
            for future in done:
                if not future.done():
                    future.set_result(None)


def _keys_of(batch: _Batch, applied: Applied) -> list[bytes]:
    """What the commits that went through have written."""
    return [
        key
        for (commit, _, _), check in zip(batch, applied.results, strict=True)
        if check is None
        for key, _ in commit.writes
    ]
