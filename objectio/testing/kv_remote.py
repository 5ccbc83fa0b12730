"""Key-value stores behind a socket of this process, for the conformance suite: `DRIVER`.

    driver = "objectio.testing.kv_remote:DRIVER"
    settings = {"driver": "objectio_kv_mine.plugin:DRIVER"}

The engine is opened as a `KVStore` and served over the wire; what the suite gets is the far side of it,
with a fence as gateways have one. A remote store has no reads that do not wait (`fast_reads`), no
journal, and no snapshot of more than 16 MiB; it has the other capabilities of its engine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from objectio.abc.context import Context
from objectio.abc.driver import Driver, ThreadModel
from objectio.abc.kv import CAP_FAST_READS, Check, Commit, KVDriver, RangeEmpty
from objectio.errors import CommitConflict
from objectio.kv.store import KVStore
from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.kv import RemoteKV
from objectio.rpc.kv_service import KVService
from objectio.rpc.server import Server
from objectio.testing.kv_child import load, open_at

SECRET: Final = bytes(range(32))
FENCE: Final = RangeEmpty(b"fence", b"fence")
"""It always holds: no key is in there."""
CALL_SECONDS: Final = 60.0

T = TypeVar("T")


class RemoteConfig(msgspec.Struct, frozen=True, kw_only=True):
    driver: str = "objectio.kv.memory:DRIVER"
    settings: dict[str, Any] = {}


class RemoteDriver:
    """A remote store as a driver that blocks: its own loop in a thread, a socket, and back."""

    def __init__(self, local: KVDriver, capabilities: frozenset[str], threads: ThreadModel) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start(local, capabilities, threads))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _start(
        self, local: KVDriver, capabilities: frozenset[str], threads: ThreadModel
    ) -> None:
        self._local = KVStore(local, capabilities, threads)
        self._server = Server(Identity(secret=SECRET, role="meta", node="m"), roles=["gateway"])
        KVService(self._server, self._local)
        address = await self._server.listen("127.0.0.1:0")
        near = Identity(secret=SECRET, role="gateway", node="g")
        self._channel = Channel(address, near, wanted_role="meta")
        await self._channel.connect()
        self._kv = RemoteKV(self._channel)
        self._kv.fence = lambda writes: FENCE

    def get(self, key: bytes) -> bytes | None:
        return self._run(self._kv.aget(key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._run(self._kv.aget_many(keys))

    def scan(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return self._run(self._kv.ascan(start, stop, reverse=reverse, limit=limit))

    def commit(self, commits: Sequence[Commit]) -> list[Check | None]:
        return self._run(self._commit_all(commits))

    async def _commit_all(self, commits: Sequence[Commit]) -> list[Check | None]:
        """Begun in order, on one connection; they are applied in that order."""
        works = [self._kv.commit(checks, writes) for checks, writes in commits]
        found = await asyncio.gather(*works, return_exceptions=True)
        results: list[Check | None] = []
        for error in found:
            if error is not None and not isinstance(error, CommitConflict):
                raise error
            check: Any = None if error is None else error.fields["check"]
            results.append(check)
        return results

    def stats(self) -> Mapping[str, int]:
        return self._run(self._kv.astats())

    def close(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        await self._channel.close()
        await self._server.close(0)
        await self._local.close()


def capabilities_of(target: str) -> frozenset[str]:
    """What the engine can still do when it is reached over a socket."""
    return load(target).capabilities - {CAP_FAST_READS}


def _open(config: RemoteConfig, context: Context) -> RemoteDriver:
    descriptor = load(config.driver)
    local = open_at(descriptor, config.settings, context.data_dir)
    return RemoteDriver(local, descriptor.capabilities, descriptor.threads)


DRIVER: Final = Driver(name="remote", config=RemoteConfig, open=_open, threads=ThreadModel.PARALLEL)
