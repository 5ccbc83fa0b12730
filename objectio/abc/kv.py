"""Key-value engines: ordered byte keys, and one call that changes them.

All metadata lives behind this contract, on an embedded engine (LMDB, LevelDB, memory) or a
replicated one (etcd). It is what all of them can do, and no more:

- reads see the newest committed state: `get`, `get_many`, `scan` over a key range in byte order;
- the only write is `commit`: if every *check* holds, all *writes* happen, else none.

There are no transactions that stay open, since a remote engine has none: code above reads, computes
and commits with checks on what it read, and tries again when a check fails. `commit` takes several
commits at once so that an engine can make them durable with one sync (group commit): they are
applied in order, each one atomic on its own and seeing those before it; one whose check fails does
not disturb the others. When `commit` returns, the changes are durable, unless the configuration
asked by name for less.

Keys are 1 … `KV_KEY_BYTES_MAX` bytes, any bytes. Values are 0 … `KV_VALUE_BYTES_MAX` bytes. Drivers
are sync and blocking; how they may be called from threads is their `ThreadModel`. Reads may run
while a commit does and then see either all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

CAP_DURABLE: Final = "durable"
"""A commit survives a power cut once it returned."""
CAP_MULTI_PROCESS: Final = "multi_process"
"""Several processes of one machine may open the same store."""
CAP_MULTI_NODE: Final = "multi_node"
"""Several machines may."""
CAP_FAST_READS: Final = "fast_reads"
"""Reads take microseconds and may be made on the event loop."""


class Absent(NamedTuple):
    """Holds if `key` has no value."""

    key: bytes


class Present(NamedTuple):
    """Holds if `key` has a value, whatever it is."""

    key: bytes


class Equals(NamedTuple):
    """Holds if `key` has exactly this value."""

    key: bytes
    value: bytes


class RangeEmpty(NamedTuple):
    """Holds if no key k with start ≤ k < stop has a value."""

    start: bytes
    stop: bytes


Check = Absent | Present | Equals | RangeEmpty


class Commit(NamedTuple):
    """Checks, and writes as (key, value) with None for a delete; a key is written at most once."""

    checks: Sequence[Check]
    writes: Sequence[tuple[bytes, bytes | None]]


class KVDriver(Protocol):
    """One opened store."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """All from one snapshot."""
        ...

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows with start ≤ key < stop, in key order (or the opposite).

        All from one snapshot. `reverse` gives the last rows of the range first.
        """
        ...

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        """Apply in order; for each commit None, or the first check that did not hold.

        An engine that fails as a whole (I/O error, disk full) raises, and then none of these
        commits may become visible to a later reader of this process.
        """
        ...

    def stats(self) -> Mapping[str, int]:
        """Numbers for the operator: `rows`, `bytes`, … whatever the engine knows cheaply."""
        ...

    def close(self) -> None: ...
