"""Readers that cost almost nothing, and a rare writer that keeps all of them out.

A LevelDB store may be closed only while no other thread is inside a call of it, and it is closed
while in service to recover from a failed write. One shared lock would make each read wait for every
other; so each thread has a lock of its own, which nobody else wants, and whoever must be alone takes
them all.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class _ThreadLock:
    """A lock that can be weakly referenced: it goes when its thread does."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


class ReaderGate:
    def __init__(self) -> None:
        self._local = threading.local()
        self._registry = threading.Lock()
        self._all: list[weakref.ref[_ThreadLock]] = []

    def reader(self) -> threading.Lock:
        """This thread's lock, to be held while it reads."""
        try:
            lock: threading.Lock = self._local.mine.lock
        except AttributeError:
            mine = _ThreadLock()
            with self._registry:
                self._all = [ref for ref in self._all if ref() is not None]
                self._all.append(weakref.ref(mine))
            self._local.mine = mine
            lock = mine.lock
        return lock

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for all reads, and hold up new ones."""
        with ExitStack() as held:
            held.enter_context(self._registry)
            for ref in self._all:
                mine = ref()
                if mine is not None:
                    held.callback(_release, mine)
                    mine.lock.acquire()
            yield


def _release(mine: _ThreadLock) -> None:
    mine.lock.release()
