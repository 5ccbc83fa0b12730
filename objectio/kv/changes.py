"""What was written: the keys of all commits of a store, for whoever caches what they read.

The log is in memory and has a bound. Whoever falls behind it is told to forget everything, and so is
everybody at the beginning: a `Change` that is a `reset`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, NamedTuple

LOG_KEYS_MAX: Final = 65_536
"""At most KV_KEY_BYTES_MAX each, and about a hundred bytes as a rule."""
WATCH_KEYS_MAX: Final = 10_000
"""Of one change; with more, it is a reset."""


class Change(NamedTuple):
    """`reset`: any key of the prefix may have changed, not only those of `keys`."""

    keys: list[bytes]
    reset: bool


class ChangeLog:
    """Keys in the order in which they were written, numbered from 1. Belongs to one event loop."""

    def __init__(self) -> None:
        self.name = b""
        """Another one after a restart, and whenever nobody knows what was written."""
        self.number = 0
        self._keys: deque[bytes] = deque(maxlen=LOG_KEYS_MAX)
        self._listeners: set[_Listener] = set()
        self._loop = asyncio.get_running_loop()
        self.forget()

    def add(self, keys: Iterable[bytes]) -> None:
        """What can be read by now."""
        fresh = list(keys)
        self._keys.extend(fresh)
        self.number += len(fresh)
        for listener in self._listeners:
            listener.add(fresh)

    def add_from_thread(self, keys: Iterable[bytes]) -> None:
        self._loop.call_soon_threadsafe(self.add, list(keys))

    def forget(self) -> None:
        """Anything may have been written: begin a new log."""
        self.name = secrets.token_bytes(8)
        self._keys.clear()
        for listener in self._listeners:
            listener.forget()

    def since(self, number: int, prefix: bytes) -> list[bytes] | None:
        """Without repetitions; None if the log does not reach back so far, or they are too many."""
        behind = self.number - number
        if not 0 <= behind <= len(self._keys):
            return None
        found: dict[bytes, None] = {}
        for key in itertools.islice(self._keys, len(self._keys) - behind, None):
            if key.startswith(prefix):
                found[key] = None
                if len(found) > WATCH_KEYS_MAX:
                    return None
        return list(found)

    async def next(self, prefix: bytes, seconds: float) -> Change:
        """What is written from now on, once there is any; nothing when the time is over."""
        with self._listening(prefix) as listener:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await listener.heard.wait()
            return listener.take()

    async def watch(self, prefix: bytes) -> AsyncIterator[Change]:
        """Which keys were written, for ever; the first change is a reset. A key is told after its
        new value can be read, at least once."""
        with self._listening(prefix) as listener:
            yield Change([], True)
            while True:
                await listener.heard.wait()
                yield listener.take()

    @contextlib.contextmanager
    def _listening(self, prefix: bytes) -> Iterator[_Listener]:
        listener = _Listener(prefix)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)


class _Listener:
    """Collects what somebody waits for, until it is taken."""

    __slots__ = ("_keys", "_prefix", "_reset", "heard")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._keys: dict[bytes, None] = {}
        self._reset = False
        self.heard = asyncio.Event()

    def add(self, keys: Iterable[bytes]) -> None:
        if self._reset:
            return
        prefix = self._prefix
        for key in keys:
            if key.startswith(prefix):
                self._keys[key] = None
        if self._keys:
            self.heard.set()
        if len(self._keys) > WATCH_KEYS_MAX:
            self.forget()

    def forget(self) -> None:
        self._keys.clear()
        self._reset = True
        self.heard.set()

    def take(self) -> Change:
        change = Change(list(self._keys), self._reset)
        self._keys.clear()
        self._reset = False
        self.heard.clear()
        return change
