"""The key-value store of another node, for nodes that have none: `RemoteKV`.

It has the awaited half of `objectio.kv.store.KVStore`, with the same meaning and the same errors.
Two things are different:

- A result of more than 16 MiB comes in several pieces, which are a snapshot each and not together.
- When the connection is lost under a commit nobody knows whether it happened: `Unavailable` with
  `fields["reason"]` lost or timeout. With any other reason it did not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from objectio.abc.kv import Check
from objectio.errors import (
    CommitConflict,
    InvalidRequest,
    ObjectIOError,
    RemoteProtocolError,
    Unavailable,
)
from objectio.kv.changes import Change
from objectio.kv.keys import KEY_END, prefix_end
from objectio.limits import KV_KEY_BYTES_MAX, KV_SCAN_ROWS_MAX
from objectio.rpc.client import TIMEOUT_SECONDS, Channel, ClientConnection
from objectio.rpc.frames import PAYLOAD_BYTES_MAX
from objectio.rpc.kv_gets import KVGets
from objectio.rpc.kv_messages import (
    Body,
    CommitHead,
    Method,
    Scan,
    Watch,
    check_fields,
    unpack_changed,
    unpack_committed,
    unpack_page,
    unpack_rows,
    unpack_stats,
    unpack_values,
)
from objectio.rpc.messages import pack

WATCH_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 0.2

Row = tuple[bytes, bytes]
Write = tuple[bytes, bytes | None]


Fence = Callable[[Sequence[Write]], Check | None]
"""Gives the check that the commit of these writes must carry, or raises `Unavailable`."""


class RemoteKV:
    """The store at the end of a channel, which is the caller's."""

    @property
    def fast_reads(self) -> bool:
        return False

    def __init__(self, channel: Channel, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._gets = KVGets(channel, timeout_seconds)
        self._instance = secrets.token_bytes(16)
        self._connection: ClientConnection | None = None
        self._epoch = 0
        self.fence: Fence | None = None
        """What says that this process may commit; without one, it may."""
        self.on_fenced: Callable[[Check], None] | None = None
        """Told when the check that `fence` gave did not hold."""

    async def trust(self, row: bytes) -> None:
        """For stores that have another way to read: this row was committed a moment ago."""

    def distrust(self) -> None:
        """Use no other way to read any more."""

    # Reads.

    async def aget(self, key: bytes) -> bytes | None:
        _check_key(key)
        return await self._gets.get(key)

    async def aget_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        for key in keys:
            _check_key(key)
        found: list[bytes | None] = []
        while True:
            body = _body(pack(list(keys[len(found) :])))
            reply = await self._channel.call(
                Method.GET_MANY, b"", (body,), timeout_seconds=self._timeout_seconds
            )
            found += unpack_values(reply.payload)
            if not unpack_page(reply.head).cut:
                return found

    async def ascan(
        self,
        start: bytes = b"",
        stop: bytes = KEY_END,
        *,
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        """As `KVStore.scan`."""
        if not 0 < limit <= KV_SCAN_ROWS_MAX:
            raise InvalidRequest(f"a scan takes 1 to {KV_SCAN_ROWS_MAX} rows", reason="limit")
        found: list[Row] = []
        while start < stop and len(found) < limit:
            head = pack(Scan(start, stop, reverse, limit - len(found)))
            reply = await self._channel.call(
                Method.SCAN, head, timeout_seconds=self._timeout_seconds
            )
            found += unpack_rows(reply.payload)
            if not unpack_page(reply.head).cut:
                break
            if reverse:
                stop = found[-1][0]
            else:
                start = found[-1][0] + b"\0"
        return found

    async def ascan_prefix(
        self,
        prefix: bytes,
        *,
        after: bytes = b"",
        reverse: bool = False,
        limit: int = KV_SCAN_ROWS_MAX,
    ) -> list[Row]:
        """As `KVStore.scan_prefix`."""
        start, stop = prefix, prefix_end(prefix)
        if after and reverse:
            stop = min(stop, after)
        elif after:
            start = max(start, after + b"\0")
        return await self.ascan(start, stop, reverse=reverse, limit=limit)

    async def arows(
        self, start: bytes = b"", stop: bytes = KEY_END, *, page_rows: int = 1000
    ) -> AsyncIterator[Row]:
        """As `KVStore.arows`."""
        while True:
            page = await self.ascan(start, stop, limit=page_rows)
            for row in page:
                yield row
            if len(page) < page_rows:
                return
            start = page[-1][0] + b"\0"

    # Writes.

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """As `KVStore.commit`; see above for a connection that is lost. Once a commit is through, no
        earlier one of this object happens any more, also none that was lost. Raises `Unavailable`
        with `fields["reason"]` fenced if this process may not commit any more."""
        fence = None if self.fence is None else self.fence(writes)
        if self._connection is not self._channel.connection:
            self._connection = self._channel.connection
            self._epoch += 1
        head = pack(CommitHead(self._instance, self._epoch))
        carried = list(checks) if fence is None else [fence, *checks]
        body = _body(pack(Body([check_fields(check) for check in carried], list(writes))))
        reply = await self._channel.call(
            Method.COMMIT,
            head,
            (body,),
            background=False,  # in order, whoever asks
            timeout_seconds=self._timeout_seconds,
        )
        conflict = unpack_committed(reply.head).conflict
        if conflict is None:
            return
        if not 0 <= conflict < len(carried):
            raise RemoteProtocolError("a check that nobody made did not hold", reason="malformed")
        if fence is not None and conflict == 0:
            if self.on_fenced is not None:
                self.on_fenced(fence)
            raise Unavailable("this process was taken for dead meanwhile", reason="fenced")
        raise CommitConflict("a check of the commit did not hold", check=carried[conflict])

    async def barrier(self) -> None:
        """As `KVStore.barrier`."""
        await self.commit((), ())

    def check_ready(self) -> None:
        """As `KVStore.check_ready`."""
        if self._channel.connection is None:
            raise self._channel.unavailable()
        if self.fence is not None:
            self.fence(())

    # The rest.

    async def astats(self) -> Mapping[str, int]:
        reply = await self._channel.call(Method.STATS, timeout_seconds=self._timeout_seconds)
        stats: dict[str, int] = unpack_stats(reply.payload)
        return stats

    async def watch(self, prefix: bytes) -> AsyncIterator[Change]:
        """Which keys were written, for ever; the first change is a reset, and so is the first after
        the node was restarted. A key is told after its new value can be read, at least once."""
        log, number = b"", 0
        while True:
            head = pack(Watch(prefix, log, number, int(WATCH_SECONDS * 1000)))
            try:
                reply = await self._channel.call(
                    Method.WATCH, head, timeout_seconds=WATCH_SECONDS + self._timeout_seconds
                )
                changed = unpack_changed(reply.head)
                keys: list[bytes] = [bytes(key) for key in unpack_values(reply.payload) if key]
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
                try:
                    await self._channel.connect()
                except ObjectIOError:
                    continue
                continue
            log, number = changed.log, changed.number
            if keys or changed.reset:
                yield Change(keys, changed.reset)


def _check_key(key: bytes) -> None:
    if not 0 < len(key) <= KV_KEY_BYTES_MAX:
        raise InvalidRequest(
            f"a key has 1 to {KV_KEY_BYTES_MAX} bytes, not {len(key)}", reason="key-length"
        )


def _body(packed: bytes) -> bytes:
    if len(packed) > PAYLOAD_BYTES_MAX:
        raise InvalidRequest(
            f"one call takes at most {PAYLOAD_BYTES_MAX} bytes, not {len(packed)}",
            reason="commit-bytes",
        )
    return packed
