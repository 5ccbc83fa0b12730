"""`KVStore`: the one type through which all code above uses a key-value engine.

Around what a driver does it adds limits, the driver's thread model, one kind of errors, group commit,
and an outbox for a journal that follows the engine.

Which call to use:

- `get`, `get_many`, `scan`, `scan_prefix` are plain calls into the engine. Where `fast_reads` is
  true they take microseconds and belong on the event loop: a front end's hot path makes no
  coroutine for a read. Where it is false they block, and only threads, tools and start-up may make
  them.
- `aget`, `aget_many`, `ascan`, `ascan_prefix` are right with every engine: inline where reads are
  fast, else on a thread. Code that is not hot awaits these and need not know.
- `commit` is awaited; `commit_sync` is for tools and start-up, where no loop runs.

There is no lock to hold between a read and a commit: read, compute, and commit with checks on what
was read; on `CommitConflict` (`fields["check"]` says which check) begin anew.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Check, Commit, KVDriver, RangeEmpty
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.errors import CommitConflict, InvalidRequest, Unavailable
from objectio.kv.changes import Change, ChangeLog
from objectio.kv.failure import as_storage_error
from objectio.kv.group import GroupCommitter
from objectio.kv.keys import KEY_END, prefix_end
from objectio.kv.outbox import Applied, CatchUp, CommitJournal, Outbox
from objectio.kv.place import Place
from objectio.limits import (
    KV_COMMIT_BYTES_MAX,
    KV_COMMIT_WRITES_MAX,
    KV_KEY_BYTES_MAX,
    KV_SCAN_ROWS_MAX,
    KV_VALUE_BYTES_MAX,
)

READER_THREADS: Final = 4
"""For engines whose reads block; remote engines answer several at once."""

Row = tuple[bytes, bytes]
Write = tuple[bytes, bytes | None]
T = TypeVar("T")


class KVStore:
    """One opened store. Closing it closes the driver. `journaled`: its commits are to be followed by
    a journal, which is attached later. `directory` is that of the engine's files."""

    def __init__(
        self,
        driver: KVDriver,
        capabilities: frozenset[str],
        threads: ThreadModel,
        *,
        metrics: Metrics | None = None,
        journaled: bool = False,
        directory: Path | None = None,
    ) -> None:
        self.place = None if directory is None else Place(directory, journaled=journaled)
        self.capabilities = capabilities
        self.fast_reads = CAP_FAST_READS in capabilities and threads is ThreadModel.PARALLEL
        """Reads never wait: not for the engine, and not for a commit that holds its lock."""
        self._driver = driver if threads is ThreadModel.PARALLEL else _Serialized(driver, threads)
        self._get = self._driver.get
        self.outbox = Outbox(self._driver) if journaled else None
        self._group = GroupCommitter(
            self._plain_commit if self.outbox is None else self.outbox.commit,
            metrics or NullMetrics(),
        )
        self._changes: ChangeLog | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reader_threads = READER_THREADS if threads is ThreadModel.PARALLEL else 1
        self._closed = False

    # Reads, now.

    def get(self, key: bytes) -> bytes | None:
        if not 0 < len(key) <= KV_KEY_BYTES_MAX:
            raise _bad_key(key)
        try:
            return self._get(key)
        except Exception as error:
            raise as_storage_error(error) from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """All from one snapshot."""
        for key in keys:
            if not 0 < len(key) <= KV_KEY_BYTES_MAX:
                raise _bad_key(key)
        try:
            return self._driver.get_many(keys)
        except Exception as error:
            raise as_storage_error(error) from error

    def scan(
        self,
        start: bytes = b"",
        stop: bytes = KEY_END,
        *,
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        """At most `limit` rows with start ≤ key < stop, from one snapshot; `reverse` gives the
        last rows first. Fewer than `limit` rows means that the range ends there."""
        if not 0 < limit <= KV_SCAN_ROWS_MAX:
            raise InvalidRequest(f"a scan takes 1 to {KV_SCAN_ROWS_MAX} rows", reason="limit")
        if start >= stop:
            return []
        try:
            return self._driver.scan(start, stop, reverse=reverse, limit=limit)
        except Exception as error:
            raise as_storage_error(error) from error

    def scan_prefix(
        self,
        prefix: bytes,
        *,
        after: bytes = b"",
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        """Rows whose key starts with `prefix`. `after` is the last key of the page before."""
        start, stop = _prefix_bounds(prefix, after, reverse)
        return self.scan(start, stop, reverse=reverse, limit=limit)

    # Reads, from the event loop, with any engine.

    async def aget(self, key: bytes) -> bytes | None:
        if self.fast_reads:
            return self.get(key)
        return await self._offload(lambda: self.get(key))

    async def aget_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self.fast_reads:
            return self.get_many(keys)
        return await self._offload(lambda: self.get_many(keys))

    async def ascan(
        self,
        start: bytes = b"",
        stop: bytes = KEY_END,
        *,
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        if self.fast_reads:
            return self.scan(start, stop, reverse=reverse, limit=limit)
        return await self._offload(lambda: self.scan(start, stop, reverse=reverse, limit=limit))

    async def ascan_prefix(
        self,
        prefix: bytes,
        *,
        after: bytes = b"",
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        start, stop = _prefix_bounds(prefix, after, reverse)
        return await self.ascan(start, stop, reverse=reverse, limit=limit)

    async def arows(
        self, start: bytes = b"", stop: bytes = KEY_END, *, page_rows: int = 1000
    ) -> AsyncIterator[Row]:
        """Every row of a range, page by page. Each page is a snapshot; the whole is not."""
        while True:
            page = await self.ascan(start, stop, limit=page_rows)
            for row in page:
                yield row
            if len(page) < page_rows:
                return
            start = page[-1][0] + b"\x00"
            await asyncio.sleep(0)  # a long walk of an engine with fast reads lets others run

    # Writes.

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """All `writes` if every one of `checks` holds; durable when it returns.

        Raises `CommitConflict`; `DeviceFull`, `DeviceFailed` or `Unavailable` if the engine failed,
        and `InvalidRequest` for what is beyond the limits. A cancelled caller does not know whether
        its commit happened.
        """
        commit = Commit(checks, writes)
        await self._group.submit(commit, _commit_bytes(commit))

    def commit_sync(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """As `commit`, blocking: for tools and start-up."""
        commit = Commit(checks, writes)
        _commit_bytes(commit)
        try:
            if self.outbox is None:
                failed = self._driver.commit([commit])[0]
            else:
                failed = self.outbox.commit_alone(commit)
        except Exception as error:
            raise as_storage_error(error) from error
        if failed is not None:
            raise CommitConflict("a check of the commit did not hold", check=failed)
        if self._changes is not None:
            self._changes.add_from_thread([key for key, _ in writes])

    def check_ready(self) -> None:
        """Raises `Unavailable` if a commit would surely fail now: for who would rather not begin."""
        if self._closed:
            raise Unavailable("the key-value store is closed")

    def _plain_commit(self, commits: Sequence[Commit]) -> Applied:
        return Applied(self._driver.commit(commits))

    # Who caches what they read.

    @property
    def changes(self) -> ChangeLog:
        """What is written through this object, by this process or for others, from the first call
        on. As long as nobody asks, nothing is kept."""
        if self._changes is None:
            self._changes = ChangeLog()
            self._group.on_applied = self._changes.add
        return self._changes

    def watch(self, prefix: bytes) -> AsyncIterator[Change]:
        """Which keys were written, for ever; the first change is a reset. A key is told after its
        new value can be read, at least once."""
        return self.changes.watch(prefix)

    # The journal.

    async def attach(self, journal: CommitJournal) -> CatchUp:
        """Have every commit that writes something appended to the journal from now on, first of all
        what the outbox holds; a commit is done when `acknowledge` was called for it. Only for a
        store that is `journaled`."""
        assert self.outbox is not None, "the store was not opened to be journaled"
        await self._group.pause()
        try:
            found = await asyncio.to_thread(self.outbox.catch_up)
            self._group.follow(journal, found.number)
            journal.append(found.number, found.first, found.body)
        except Exception as error:
            raise as_storage_error(error) from error
        finally:
            self._group.resume()
        if self._changes is not None:
            self._changes.forget()  # what the engine had lost may have been given back to it
        return found

    async def detach(self, timeout_seconds: float) -> None:
        """Commits are done when the engine has them, as before `attach`. What the journal does not
        have by then stays in the outbox."""
        assert self.outbox is not None, "the store was not opened to be journaled"
        await self._group.pause()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._group.all_safe()
        except TimeoutError:
            pass
        self.outbox.let_go()
        self._group.follow(None)
        self._group.acknowledge(self.outbox.number)
        self._group.resume()

    def acknowledge(self, number: int) -> None:
        """For the journal: all batches up to this one are as safe as they get."""
        self._group.acknowledge(number)

    async def barrier(self) -> None:
        """Wait until everything that a reader could see by now is as safe as a commit that is done:
        where a journal follows, it has it."""
        if not self._group.settled:
            await self._group.submit(Commit((), ()), 0)

    # The rest.

    def stats(self) -> Mapping[str, int]:
        try:
            return self._driver.stats()
        except Exception as error:
            raise as_storage_error(error) from error

    async def close(self) -> None:
        """Finish what is queued, then close the driver. Later commits raise `Unavailable`."""
        if self._closed:
            return
        self._closed = True
        await self._group.close()
        await asyncio.to_thread(self._release)

    def close_sync(self) -> None:
        """As `close`, where no event loop runs."""
        if self._closed:
            return
        self._closed = True
        self._group.stop()
        self._release()

    def _release(self) -> None:
        if self._readers is not None:
            self._readers.shutdown()
        self._driver.close()

    async def _offload(self, read: Callable[[], T]) -> T:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(self._reader_threads, "kv-read")
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)


_GLOBAL_LOCK = threading.Lock()  # all handles of all drivers that are SERIALIZE_ALL


class _Serialized:
    """A driver that may not be called from two threads at once, behind a lock."""

    def __init__(self, driver: KVDriver, threads: ThreadModel) -> None:
        self._inner = driver
        self._lock = _GLOBAL_LOCK if threads is ThreadModel.SERIALIZE_ALL else threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            return self._inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return self._inner.get_many(keys)

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        with self._lock:
            return self._inner.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        with self._lock:
            return self._inner.commit(commits)

    def stats(self) -> Mapping[str, int]:
        with self._lock:
            return self._inner.stats()

    def close(self) -> None:
        with self._lock:
            self._inner.close()


def _prefix_bounds(prefix: bytes, after: bytes, reverse: bool) -> tuple[bytes, bytes]:
    start, stop = prefix, prefix_end(prefix)
    if after and reverse:
        stop = min(stop, after)
    elif after:
        start = max(start, after + b"\x00")
    return start, stop


def _bad_key(key: bytes) -> InvalidRequest:
    return InvalidRequest(
        f"a key has 1 to {KV_KEY_BYTES_MAX} bytes, not {len(key)}", reason="key-length"
    )


def _commit_bytes(commit: Commit) -> int:
    """The size of a commit that is within the limits."""
    size_bytes = 0
    for check in commit.checks:
        if not isinstance(check, RangeEmpty) and not 0 < len(check.key) <= KV_KEY_BYTES_MAX:
            raise _bad_key(check.key)
    writes = commit.writes
    for key, value in writes:
        if not 0 < len(key) <= KV_KEY_BYTES_MAX:
            raise _bad_key(key)
        size_bytes += len(key)
        if value is not None:
            if len(value) > KV_VALUE_BYTES_MAX:
                raise InvalidRequest(
                    f"a value has at most {KV_VALUE_BYTES_MAX} bytes, not {len(value)}",
                    reason="value-length",
                )
            size_bytes += len(value)
    if len(writes) > 1:
        if len(writes) > KV_COMMIT_WRITES_MAX:
            raise InvalidRequest(
                f"a commit writes at most {KV_COMMIT_WRITES_MAX} keys", reason="commit-writes"
            )
        if size_bytes > KV_COMMIT_BYTES_MAX:
            raise InvalidRequest(
                f"a commit writes at most {KV_COMMIT_BYTES_MAX} bytes", reason="commit-bytes"
            )
        if len({key for key, _ in writes}) != len(writes):
            raise InvalidRequest("a commit writes a key twice", reason="commit-duplicate")
    return size_bytes
