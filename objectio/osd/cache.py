"""A cache of verified blocks for devices that are read past the page cache.

Adaptive replacement (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST
2003), counted in bytes instead of pages. Two lists hold data, what was seen once and what was seen
again; two more hold only names of what fell out of these. A read of a name that is remembered says
which of the lists was too small, and moves the border between them. So whatever is read only once,
be it ten times the cache, passes through the part for that and leaves alone what is read again.

Two additions:
- Reads of one thing in a row (a client that reads a block in small ranges) are one use of it:
  only a hit that comes some lookups after the first read makes a block one that was seen again.
- A block that comes with a large read leaves only its name the first time: whole objects that
  stream past cost no copying, and those that are read again are kept.

Names must be of what never changes: a block of one record in one use of a log segment.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from typing_extensions import Buffer

ENTRY_BYTES: Final = 256
"""What an entry takes besides its data: name, list node, two objects."""
_CORRELATED_LOOKUPS: Final = 64


class ArcCache:
    """From any thread. `hits` counts blocks found, `misses` those that had to be offered."""

    def __init__(
        self, capacity_bytes: int, *, correlated_lookups: int = _CORRELATED_LOOKUPS
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.hits = 0
        self.misses = 0
        self._correlated = correlated_lookups
        self._lookups = 0
        self._lock = threading.Lock()
        self._once: OrderedDict[Hashable, tuple[bytes, int]] = OrderedDict()  # T1
        self._again: OrderedDict[Hashable, bytes] = OrderedDict()  # T2
        self._once_gone: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # B1
        self._again_gone: OrderedDict[Hashable, int] = OrderedDict()  # B2
        self._once_bytes = self._again_bytes = 0
        self._once_gone_bytes = self._again_gone_bytes = 0
        self._target_bytes = 0.0
        """Of the capacity, what those seen once should have (p)."""

    @property
    def used_bytes(self) -> int:
        return self._once_bytes + self._again_bytes

    @property
    def remembered(self) -> int:
        """How many names are kept of what is not here any more."""
        return len(self._once_gone) + len(self._again_gone)

    def get(self, name: Hashable, *, counted: bool = True) -> bytes | None:
        with self._lock:
            self._lookups += 1
            data = self._again.get(name)
            if data is not None:
                self._again.move_to_end(name)
                self.hits += counted
                return data
            held = self._once.get(name)
            if held is None:
                return None
            self.hits += counted
            data, since = held
            if self._lookups - since > self._correlated:
                del self._once[name]
                size = len(data) + ENTRY_BYTES
                self._once_bytes -= size
                self._again[name] = data
                self._again_bytes += size
            return data

    def offer(
        self, name: Hashable, data: Buffer, *, at_once: bool = True, counted: bool = True
    ) -> None:
        """Take in what was read because it was not here; the data is copied if it is kept.
        `at_once` False: the first time only the name is."""
        size = memoryview(data).nbytes + ENTRY_BYTES
        with self._lock:
            self.misses += counted
            if size > self.capacity_bytes or name in self._again or name in self._once:
                return
            if (known := self._once_gone.get(name)) is not None:
                self._come_back(name, data, size, *known)
            elif (gone := self._again_gone.pop(name, None)) is not None:
                share = max(1.0, self._once_gone_bytes / self._again_gone_bytes)
                self._again_gone_bytes -= gone
                self._target_bytes = max(0.0, self._target_bytes - share * size)
                self._make_room(size, for_again=True)
                self._keep_again(name, data, size)
            elif at_once:
                self._keep_once(name, data, size, self._lookups)
            else:
                self._once_gone[name] = (size, self._lookups)
                self._once_gone_bytes += size
            self._forget()

    def _come_back(self, name: Hashable, data: Buffer, size: int, gone: int, since: int) -> None:
        """What was seen once, and is not here any more, is read again."""
        share = max(1.0, self._again_gone_bytes / self._once_gone_bytes)
        del self._once_gone[name]
        self._once_gone_bytes -= gone
        if self._lookups - since <= self._correlated:
            self._keep_once(name, data, size, since)
            return
        self._target_bytes = min(self.capacity_bytes, self._target_bytes + share * size)
        self._make_room(size)
        self._keep_again(name, data, size)

    def _keep_once(self, name: Hashable, data: Buffer, size: int, since: int) -> None:
        self._make_room(size)
        self._once[name] = (bytes(data), since)
        self._once_bytes += size

    def _keep_again(self, name: Hashable, data: Buffer, size: int) -> None:
        self._again[name] = bytes(data)
        self._again_bytes += size

    def _make_room(self, size: int, *, for_again: bool = False) -> None:
        """REPLACE of the paper, until there is room."""
        while self.used_bytes + size > self.capacity_bytes:
            over = self._once_bytes - self._target_bytes
            if self._once and (over > 0 or (for_again and over == 0) or not self._again):
                name, (data, since) = self._once.popitem(last=False)
                gone = len(data) + ENTRY_BYTES
                self._once_bytes -= gone
                self._once_gone[name] = (gone, since)
                self._once_gone_bytes += gone
            else:
                name, kept = self._again.popitem(last=False)
                gone = len(kept) + ENTRY_BYTES
                self._again_bytes -= gone
                self._again_gone[name] = gone
                self._again_gone_bytes += gone

    def _forget(self) -> None:
        """Names of at most one capacity that was seen once, and of one capacity more in all."""
        while self._once_gone and self._once_bytes + self._once_gone_bytes > self.capacity_bytes:
            self._once_gone_bytes -= self._once_gone.popitem(last=False)[1][0]
        most = 2 * self.capacity_bytes - self.used_bytes - self._once_gone_bytes
        while self._again_gone_bytes > most:
            self._again_gone_bytes -= self._again_gone.popitem(last=False)[1]
