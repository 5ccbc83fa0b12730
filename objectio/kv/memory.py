"""The reference engine: a dict, and its keys in order. Nothing survives the process.

It is what the kernel runs on without any plugin and what the conformance kit compares others with,
so it is kept obvious. The sorted keys are a list of short sorted runs: inserting into one flat list
moves half of it, which at a million keys costs more than everything else here together.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from objectio.abc.context import Context
from objectio.abc.driver import Driver, NoConfig, ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Absent, Check, Commit, Equals, KVDriver, Present

RUN_KEYS_MAX: Final = 1024


class SortedKeys:
    """A sorted set of keys, as sorted runs of which none is empty."""

    def __init__(self) -> None:
        self._runs: list[list[bytes]] = []
        self._firsts: list[bytes] = []  # _firsts[i] == _runs[i][0]

    def _run_of(self, key: bytes) -> int:
        """The run that holds `key`, or would."""
        return max(bisect_right(self._firsts, key) - 1, 0)

    def add(self, key: bytes) -> None:
        """`key` must not be in the set."""
        if not self._runs:
            self._runs.append([key])
            self._firsts.append(key)
            return
        index = self._run_of(key)
        run = self._runs[index]
        insort(run, key)
        self._firsts[index] = run[0]
        if len(run) > RUN_KEYS_MAX:
            upper = run[RUN_KEYS_MAX // 2 :]
            del run[RUN_KEYS_MAX // 2 :]
            self._runs.insert(index + 1, upper)
            self._firsts.insert(index + 1, upper[0])

    def remove(self, key: bytes) -> None:
        """`key` must be in the set."""
        index = self._run_of(key)
        run = self._runs[index]
        del run[bisect_left(run, key)]
        if run:
            self._firsts[index] = run[0]
        else:
            del self._runs[index], self._firsts[index]

    def ascending(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        first = self._run_of(start)
        for index in range(first, len(self._runs)):
            run = self._runs[index]
            low = bisect_left(run, start) if index == first else 0
            if run[-1] < stop:
                yield from islice(run, low, None)
            else:
                yield from islice(run, low, bisect_left(run, stop))
                return

    def descending(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        for index in range(min(self._run_of(stop), len(self._runs) - 1), -1, -1):
            run = self._runs[index]
            for position in range(bisect_left(run, stop) - 1, -1, -1):
                if run[position] < start:
                    return
                yield run[position]


class MemoryKV:
    """One store. A lock makes a commit one step for readers in other threads."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._keys = SortedKeys()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            return self._rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._rows.get(key) for key in keys]

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        if start >= stop:
            return []
        with self._lock:
            walk = self._keys.descending if reverse else self._keys.ascending
            return [(key, self._rows[key]) for key in islice(walk(start, stop), limit)]

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        with self._lock:
            return [self._apply(commit) for commit in commits]

    def _apply(self, commit: Commit) -> Check | None:
        for check in commit.checks:
            if not self._holds(check):
                return check
        for key, value in commit.writes:
            if value is None:
                if self._rows.pop(key, None) is not None:
                    self._keys.remove(key)
            else:
                if key not in self._rows:
                    self._keys.add(key)
                self._rows[key] = value
        return None

    def _holds(self, check: Check) -> bool:
        if isinstance(check, Equals):
            return self._rows.get(check.key) == check.value
        if isinstance(check, Absent):
            return check.key not in self._rows
        if isinstance(check, Present):
            return check.key in self._rows
        if check.start >= check.stop:
            return True
        return next(self._keys.ascending(check.start, check.stop), None) is None

    def stats(self) -> Mapping[str, int]:
        with self._lock:
            return {"rows": len(self._rows)}

    def close(self) -> None:
        """Nothing to release; the rows go with the object."""


def _open(config: NoConfig, context: Context) -> KVDriver:
    return MemoryKV()


DRIVER: Final = Driver(
    name="memory",
    config=NoConfig,
    open=_open,
    summary="metadata in memory, lost with the process: for tests and trials",
    capabilities=frozenset({CAP_FAST_READS}),
    threads=ThreadModel.PARALLEL,
)
