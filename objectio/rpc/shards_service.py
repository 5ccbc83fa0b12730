"""Serves the shard stores of a node to the nodes that write and read them.

Handlers of writes make no task: what came in one read of the socket is submitted to the local store
in one turn of the loop, so that it shares one write and one sync, as if it came from this process.

A handle stands for one opened device. When the device fails and is opened anew, or its client opens
it again after it lost the connection, the handle ends: a write through it may follow earlier ones
that were lost, or come out of an old socket after newer ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from typing_extensions import Buffer

from objectio.abc.shardstore import ShardCoordinates, ShardStore, ShardWrite
from objectio.errors import DeviceFailed, InvalidRequest, NotFound, StorageError
from objectio.rpc.dispatch import Incoming
from objectio.rpc.messages import pack
from objectio.rpc.server import Server, ServerConnection
from objectio.rpc.shards_messages import (
    READS_MAX,
    SCAN_ROWS_MAX,
    SMALL_BYTES_MAX,
    Device,
    Method,
    Opened,
    Put,
    Read,
    Row,
    Scan,
    Status,
    row_of,
    unpack_device,
    unpack_handle,
    unpack_handles,
    unpack_key,
    unpack_keys,
    unpack_open,
    unpack_put,
    unpack_read,
    unpack_reads,
    unpack_scan,
    usage_fields,
)

USAGE_SECONDS: Final = 1.0
"""An answer to a write says at most so often how full the device is."""
_EAGER_BYTES: Final = 1 << 20
"""A read is tried at once if the client has so much room for answers."""


@dataclass(slots=True, eq=False)
class _Handle:
    osd: int
    store: ShardStore
    instance: bytes
    fenced: bool = False
    usage_at: float = 0.0


class ShardService:
    """Adds its methods to the server. `stores` is looked at anew for each call."""

    def __init__(
        self,
        server: Server,
        stores: Mapping[int, ShardStore],
        *,
        usage_seconds: float = USAGE_SECONDS,
    ) -> None:
        self._stores = stores
        self._usage_seconds = usage_seconds
        self._numbers = itertools.count(1)
        self._handles: dict[ServerConnection, dict[int, _Handle]] = {}
        self._newest: dict[tuple[bytes, int], tuple[int, _Handle]] = {}
        self._ids: dict[int, tuple[ShardStore, str]] = {}
        for method, handler in (
            (Method.LIST, self._list),
            (Method.OPEN, self._open),
            (Method.CLOSE, self._close),
            (Method.PUT, self._put),
            (Method.DELETE, self._delete),
            (Method.SYNC, self._sync),
            (Method.READ, self._read),
            (Method.READ_MANY, self._read_many),
            (Method.STAT, self._stat),
            (Method.SCAN, self._scan),
            (Method.CHECK, self._check),
            (Method.STATUS, self._status),
        ):
            server.add(method, handler)

    # Handles.

    def _list(self, call: Incoming) -> None:
        call.reply(b"", [pack([(osd, store.device_id) for osd, store in self._stores.items()])])

    def _open(self, call: Incoming) -> None:
        wanted = unpack_open(call.head)
        store = self._stores.get(wanted.osd)
        if store is None:
            raise _gone(wanted.osd)
        handle = _Handle(wanted.osd, store, wanted.instance)
        key = (wanted.instance, wanted.osd)
        if (before := self._newest.get(key)) is not None:
            if before[0] >= wanted.epoch:
                raise DeviceFailed(f"OSD {wanted.osd} was opened anew meanwhile")
            before[1].fenced = True
        self._newest[key] = (wanted.epoch, handle)
        connection = call.connection
        held = self._handles.get(connection)
        if held is None:
            held = self._handles[connection] = {}
            connection.on_end.append(partial(self._ended, connection))
        number = next(self._numbers)
        held[number] = handle
        usage = usage_fields(store.usage())
        opened = Opened(number, store.device_id, store.opens, store.state.value, usage)
        call.reply(pack(opened))

    def _close(self, call: Incoming) -> None:
        number = unpack_handle(call.head).handle
        handle = self._handles.get(call.connection, {}).pop(number, None)
        if handle is not None:
            self._drop(handle)
        call.reply()

    def _ended(self, connection: ServerConnection) -> None:
        for handle in self._handles.pop(connection, {}).values():
            self._drop(handle)

    def _drop(self, handle: _Handle) -> None:
        key = (handle.instance, handle.osd)
        if (newest := self._newest.get(key)) is not None and newest[1] is handle:
            del self._newest[key]

    def _handle(self, call: Incoming, number: int) -> _Handle:
        handle = self._handles.get(call.connection, {}).get(number)
        if handle is None:
            raise DeviceFailed("the OSD is not open on this connection")
        if not self._is_current(handle):
            raise DeviceFailed(f"OSD {handle.osd} was opened anew; what went before may be lost")
        return handle

    def _is_current(self, handle: _Handle) -> bool:
        return not handle.fenced and self._stores.get(handle.osd) is handle.store

    # Writing.

    def _put(self, call: Incoming) -> None:
        put: Put = unpack_put(call.head)
        handle = self._handle(call, put.handle)
        coordinates = ShardCoordinates(
            put.family, put.data_shards, put.parity_shards, put.stripe_bytes, put.generation
        )
        payload = (call.payload,)
        shard = ShardWrite(unpack_key(put.key), payload, coordinates, put.sync, put.reserve)
        handle.store.submit(shard, self._answer_to(call, handle))

    def _delete(self, call: Incoming) -> None:
        handle = self._handle(call, unpack_handle(call.head).handle)
        handle.store.submit_delete(unpack_keys(call.payload), self._answer_to(call, handle))

    def _sync(self, call: Incoming) -> None:
        handle = self._handle(call, unpack_handle(call.head).handle)
        handle.store.submit_sync(self._answer_to(call, handle))

    def _answer_to(self, call: Incoming, handle: _Handle) -> Callable[[BaseException | None], None]:
        def done(error: BaseException | None) -> None:
            if error is not None:
                call.fail(error)
                return
            store, now = handle.store, time.monotonic()
            usage = None
            if now >= handle.usage_at:
                handle.usage_at = now + self._usage_seconds
                usage = usage_fields(store.usage())
            call.reply(pack(Status(store.state.value, usage)))

        return done

    # Reading.

    def _store(self, osd: int, device_id: str) -> ShardStore:
        store = self._stores.get(osd)
        if store is None:
            raise _gone(osd)
        known = self._ids.get(osd)
        if known is None or known[0] is not store:
            known = self._ids[osd] = (store, store.device_id)
        if known[1] != device_id:
            raise DeviceFailed(f"another device stands for OSD {osd} now", gone=True)
        return store

    def _read(self, call: Incoming) -> Coroutine[Any, Any, None] | None:
        wanted: Read = unpack_read(call.head)
        store = self._store(wanted.osd, wanted.device_id)
        expected = _EAGER_BYTES if wanted.length is None else wanted.length
        if call.connection.replies.has_room(expected):
            found = store.read_now(unpack_key(wanted.key), wanted.offset, wanted.length)
            if found is not None:
                call.reply(b"", [found])
                return None
        return self._read_slowly(call, store, wanted)

    async def _read_slowly(self, call: Incoming, store: ShardStore, wanted: Read) -> None:
        key = unpack_key(wanted.key)
        [info] = await store.stat([key])
        if info is None:
            raise NotFound("no such shard on this device", kind="shard")
        size = max(0, info.length - wanted.offset)
        if wanted.length is not None:
            size = min(size, wanted.length)
        replies = call.connection.replies
        await replies.take(size)
        try:
            found = await store.read(key, wanted.offset, wanted.length)
            call.reply(b"", [found])
        finally:
            replies.give(size)

    def _read_many(self, call: Incoming) -> None:
        """Only what can be answered without waiting; the client asks for the rest again."""
        wanted = unpack_reads(call.payload)
        if not 0 < len(wanted) <= READS_MAX:
            raise InvalidRequest(f"one call reads 1 to {READS_MAX} shards", reason="limit")
        lengths: list[int | None] = []
        found: list[Buffer] = []
        if not call.connection.replies.has_room(sum(each.length or 0 for each in wanted)):
            call.reply(pack([None] * len(wanted)))
            return
        for each in wanted:
            piece = self._read_small(each)
            lengths.append(None if piece is None else memoryview(piece).nbytes)
            if piece is not None:
                found.append(piece)
        call.reply(pack(lengths), found)

    def _read_small(self, wanted: Read) -> Buffer | None:
        """None also for what fails: the client gets the error when it asks alone."""
        if wanted.length is None or wanted.length > SMALL_BYTES_MAX:
            return None
        try:
            store = self._store(wanted.osd, wanted.device_id)
            return store.read_now(unpack_key(wanted.key), wanted.offset, wanted.length)
        except StorageError:
            return None

    async def _stat(self, call: Incoming) -> None:
        wanted: Device = unpack_device(call.head)
        store = self._store(wanted.osd, wanted.device_id)
        found = await store.stat(unpack_keys(call.payload))
        rows: list[Row | None] = [None if info is None else row_of(info) for info in found]
        call.reply(b"", [pack(rows)])

    async def _scan(self, call: Incoming) -> None:
        wanted: Scan = unpack_scan(call.head)
        if not 0 < wanted.limit <= SCAN_ROWS_MAX:
            raise InvalidRequest(f"a scan takes 1 to {SCAN_ROWS_MAX} rows", reason="limit")
        store = self._store(wanted.osd, wanted.device_id)
        after = None if wanted.after is None else unpack_key(wanted.after)
        infos = await store.scan(after, wanted.limit)
        call.reply(b"", [pack([row_of(info) for info in infos])])

    async def _check(self, call: Incoming) -> None:
        wanted: Device = unpack_device(call.head)
        await self._store(wanted.osd, wanted.device_id).check()
        call.reply()

    def _status(self, call: Incoming) -> None:
        """Of each handle: None for one that has ended."""
        held = self._handles.get(call.connection, {})
        told: list[Status | None] = []
        for number in unpack_handles(call.payload):
            handle = held.get(number)
            if handle is None or not self._is_current(handle):
                told.append(None)
                continue
            store = handle.store
            failure = None if store.failure is None else str(store.failure)[:500]
            told.append(Status(store.state.value, usage_fields(store.usage()), failure))
        call.reply(b"", [pack(told)])


def _gone(osd: int) -> DeviceFailed:
    return DeviceFailed(f"OSD {osd} is not in service on its node", gone=True)
