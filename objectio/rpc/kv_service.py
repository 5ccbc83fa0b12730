"""Serves a node's key-value store to nodes that have none.

Commits of all clients join the store's group commit, those of one connection in the order in which
they came. Whoever caches what they read can watch the store's log of changes from afar.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from objectio.abc.kv import Check
from objectio.errors import CommitConflict, Unavailable
from objectio.kv.store import KVStore
from objectio.rpc.auth import Peer
from objectio.rpc.dispatch import Incoming
from objectio.rpc.kv_messages import (
    ANSWER_BYTES,
    Body,
    Changed,
    Committed,
    Found,
    Method,
    Page,
    check_of,
    index_of,
    unpack_body,
    unpack_commit,
    unpack_get,
    unpack_keys,
    unpack_scan,
    unpack_watch,
)
from objectio.rpc.messages import pack
from objectio.rpc.server import Server

WAIT_MS_MAX: Final = 25_000
INSTANCES_MAX: Final = 10_000
"""Clients of which it is known on which connection they commit."""

Admit = Callable[[Peer, Sequence[Check]], None]


class KVService:
    """Adds its methods to the server. The store belongs to its node."""

    def __init__(self, server: Server, kv: KVStore) -> None:
        self._kv = kv
        self._commits: set[asyncio.Task[None]] = set()
        self._epochs: dict[bytes, int] = {}
        """The newest of each client, the client that was quiet for longest first."""
        self._changes = kv.changes
        self._watches: set[Incoming] = set()
        self._closing = False
        server.on_close.append(self._end_watches)
        self.admit: Admit | None = None
        """Raises for a commit that a peer may not make."""
        for method, handler in (
            (Method.GET, self._get),
            (Method.GET_MANY, self._get_many),
            (Method.SCAN, self._scan),
            (Method.COMMIT, self._commit),
            (Method.STATS, self._stats),
            (Method.WATCH, self._watch),
        ):
            server.add(method, handler)

    def _get(self, call: Incoming) -> Coroutine[Any, Any, None] | None:
        key = unpack_get(call.head).key
        if not self._kv.fast_reads:
            return self._get_slowly(call, key)
        _found(call, self._kv.get(key))
        return None

    async def _get_slowly(self, call: Incoming, key: bytes) -> None:
        _found(call, await self._kv.aget(key))

    async def _get_many(self, call: Incoming) -> None:
        values = await self._kv.aget_many(unpack_keys(call.payload))
        await _answer(call, values, [len(value or b"") for value in values])

    async def _scan(self, call: Incoming) -> None:
        wanted = unpack_scan(call.head)
        rows = await self._kv.ascan(
            wanted.start, wanted.stop, reverse=wanted.reverse, limit=wanted.limit
        )
        await _answer(call, rows, [len(key) + len(value) for key, value in rows])

    def _commit(self, call: Incoming) -> None:
        """In a task that the dispatcher does not know, since it may not be cancelled: a commit that
        is under way will happen.

        Callers rely on it that once a later commit is through, no earlier one happens any more. So
        the first commit on a new connection of a client ends those that come out of an old one."""
        head = unpack_commit(call.head)
        newest = self._epochs.pop(head.instance, 0)
        self._epochs[head.instance] = max(newest, head.epoch)
        if len(self._epochs) > INSTANCES_MAX:
            del self._epochs[next(iter(self._epochs))]
        if head.epoch < newest:
            raise Unavailable("a commit out of an old connection", reason="fenced")
        body = unpack_body(call.payload)
        checks = [check_of(fields) for fields in body.checks]
        if self.admit is not None:
            self.admit(call.peer, checks)
        task = asyncio.get_running_loop().create_task(self._commit_all(call, checks, body))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)

    async def _commit_all(self, call: Incoming, checks: list[Check], body: Body) -> None:
        conflict: int | None = None
        try:
            try:
                await self._kv.commit(checks, body.writes)
            except CommitConflict as error:
                conflict = index_of(checks, error.fields.get("check"))
        except Exception as error:
            call.fail(error)
        else:
            call.reply(pack(Committed(conflict)))

    async def _stats(self, call: Incoming) -> None:
        call.reply(b"", [pack(dict(await asyncio.to_thread(self._kv.stats)))])

    async def _watch(self, call: Incoming) -> None:
        if self._closing:
            raise Unavailable("the node is going down", reason="closing")
        self._watches.add(call)
        try:
            await self._answer_watch(call)
        finally:
            self._watches.discard(call)

    async def _answer_watch(self, call: Incoming) -> None:
        wanted, log = unpack_watch(call.head), self._changes
        keys: Sequence[bytes] | None = None
        if wanted.log == log.name:
            keys = log.since(wanted.number, wanted.prefix)
            if keys is not None and not keys:
                seconds = min(wanted.wait_ms, WAIT_MS_MAX) / 1000
                change = await log.next(wanted.prefix, seconds)
                keys = None if change.reset else change.keys
        call.reply(pack(Changed(log.name, log.number, keys is None)), [pack(keys or ())])

    def _end_watches(self) -> None:
        """They would hold their connections, and with them the end, for as long as nothing changes."""
        self._closing = True
        for call in self._watches:
            call.connection.dispatcher.cancel(call)


def _found(call: Incoming, value: bytes | None) -> None:
    if value is None:
        call.reply(pack(Found(False)))
    else:
        call.reply(pack(Found(True)), [value])


async def _answer(call: Incoming, rows: Sequence[object], sizes: Sequence[int]) -> None:
    """The rows, or as many as go into one answer; there is always one if there is any."""
    size = 0
    for count, row_bytes in enumerate(sizes, 1):
        size += row_bytes
        if size > ANSWER_BYTES:
            rows = rows[:count]
            break
    replies = call.connection.replies
    await replies.take(size)
    try:
        call.reply(pack(Page(len(rows) < len(sizes))), [pack(rows)])
    finally:
        replies.give(size)
