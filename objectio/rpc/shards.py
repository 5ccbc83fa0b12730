"""The shard stores of another node, as `objectio.abc.shardstore.ShardStore`s.

    shards = RemoteShards(channel)
    store = await shards.open(3)

Semantics across the wire:

- Items go out in the order in which they were submitted, all of one turn of the loop in one write,
  and are submitted to the local store over there in that order. At most `WINDOW_BYTES` of one store
  are under way; the rest waits here, so that a device that hangs does not use up the connection.
- When the connection is lost, or an item is not answered in time, the fate of what was under way is
  unknown: it gets `DeviceFailed`, and writing ends, as after a failed write of a local device. A
  FAILED store whose `check` passes takes writes again once it is opened anew. Reads go on by
  themselves when the connection is back.
- `read_now` and `plan_read` answer None: nothing of another node can be read without waiting.
- `usage` and `state` are what the node last said: with the answers to writes, and every
  `STATUS_SECONDS`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.shardstore import Done, ShardInfo, ShardWrite, StoreState, StoreUsage
from objectio.errors import (
    DeviceFailed,
    DeviceFull,
    InvalidRequest,
    ObjectIOError,
    RemoteProtocolError,
    StorageError,
    Unavailable,
)
from objectio.limits import MIB, SHARD_SIZE_BYTES_MAX
from objectio.model.stripe import ShardKey
from objectio.rpc.client import Channel, ClientConnection, Reply
from objectio.rpc.messages import pack
from objectio.rpc.shards_messages import (
    KEYS_MAX,
    SCAN_ROWS_MAX,
    Device,
    Handle,
    Method,
    Open,
    Opened,
    Put,
    Read,
    Scan,
    Status,
    infos_of,
    pack_keys,
    state_named,
    unpack_devices,
    unpack_opened,
    unpack_status,
    unpack_statuses,
)
from objectio.rpc.small_reads import SmallReads

WRITE_SECONDS: Final = 30.0
READ_SECONDS: Final = 30.0
CHECK_SECONDS: Final = 15.0
"""A local store gives a device that hangs ten."""
CLOSE_SECONDS: Final = 10.0
STATUS_SECONDS: Final = 1.0
WINDOW_BYTES: Final = 8 * MIB
WINDOW_ITEMS: Final = 512

_log: Final = logging.getLogger("objectio.rpc")


class _Item(NamedTuple):
    method: int
    head: bytes
    payload: Sequence[Buffer]
    size_bytes: int
    done: Done


class RemoteShardStore:
    """One device of another node. Made by `RemoteShards.open`."""

    def __init__(
        self, shards: RemoteShards, osd: int, connection: ClientConnection, opened: Opened
    ) -> None:
        self.osd = osd
        self.handle = opened.handle
        self.connection = connection
        self._shards = shards
        self._device_id = opened.device_id
        self._opens = opened.opens
        self._state = state_named(opened.state)
        self._usage = StoreUsage(*opened.usage)
        self._failure: BaseException | None = None
        if self._state is StoreState.FAILED:
            self._failure = DeviceFailed(f"OSD {osd} has failed on its node")
        self._closed = False
        self._waiting: deque[_Item] = deque()
        self._flying_items = 0
        self._flying_bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()

    # What is known.

    @property
    def device_id(self) -> str:
        return self._device_id

    @property
    def opens(self) -> int:
        return self._opens

    @property
    def state(self) -> StoreState:
        if self._closed:
            return StoreState.CLOSED
        return StoreState.FAILED if self._failure is not None else self._state

    @property
    def failure(self) -> BaseException | None:
        return self._failure

    @property
    def has_ended(self) -> bool:
        """Writing has ended, and not because the device has failed as far as is known: a new handle
        would take writes, or tell why it does not."""
        return self._failure is not None and self._state is not StoreState.FAILED

    def usage(self) -> StoreUsage:
        return self._usage

    def learn(self, status: Status | None) -> None:
        """What the node says of this handle; None if it has ended."""
        if status is None:
            self._state = StoreState.CLOSED
            self.fail(DeviceFailed(f"OSD {self.osd} was opened anew on its node"))
            return
        self._state = state_named(status.state)
        if status.usage is not None:
            self._usage = StoreUsage(*status.usage)
        if self._state in (StoreState.FAILED, StoreState.CLOSED):
            why = status.failure or self._state.value
            self.fail(DeviceFailed(f"OSD {self.osd} on its node: {why}"))

    # Writing.

    def submit(self, shard: ShardWrite, done: Done) -> None:
        key, payload, coordinates, sync, reserve = shard
        head = pack(Put(self.handle, key.pack(), *coordinates, sync, reserve))
        size = sum(memoryview(part).nbytes for part in payload)
        if size > SHARD_SIZE_BYTES_MAX:
            raise InvalidRequest(f"a shard has at most {SHARD_SIZE_BYTES_MAX} bytes", reason="size")
        self._submit(_Item(Method.PUT, head, payload, size, done))

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        head = pack(Handle(self.handle))
        if len(keys) > KEYS_MAX:
            raise InvalidRequest(f"a delete takes at most {KEYS_MAX} keys", reason="limit")
        packed = pack_keys(keys)
        self._submit(_Item(Method.DELETE, head, (packed,), len(packed), done))

    def submit_sync(self, done: Done) -> None:
        self._submit(_Item(Method.SYNC, pack(Handle(self.handle)), (), 0, done))

    def _submit(self, item: _Item) -> None:
        if self._closed:
            raise DeviceFailed(f"OSD {self.osd} was closed")
        if self._failure is not None:
            self._loop.call_soon(item.done, self._failed_earlier())
            return
        self._idle.clear()
        if self._waiting or not self._has_room(item):
            self._waiting.append(item)
        else:
            self._send(item)

    def _has_room(self, item: _Item) -> bool:
        return not self._flying_items or (
            self._flying_items < WINDOW_ITEMS
            and self._flying_bytes + item.size_bytes <= WINDOW_BYTES
        )

    def _send(self, item: _Item) -> None:
        self._flying_items += 1
        self._flying_bytes += item.size_bytes
        answered = partial(self._answered, item)
        try:
            self.connection.start(
                item.method, item.head, item.payload, answered, timeout_seconds=WRITE_SECONDS
            )
        except ObjectIOError as error:
            self._loop.call_soon(answered, None, error)

    def _answered(self, item: _Item, reply: Reply | None, error: BaseException | None) -> None:
        self._flying_items -= 1
        self._flying_bytes -= item.size_bytes
        told: BaseException | None = None
        if reply is not None:
            try:
                self.learn(unpack_status(reply.head))
            except RemoteProtocolError as broken:
                told = _device_failed(self.osd, broken)
                self.fail(told)
        elif isinstance(error, DeviceFull):
            self._state, told = StoreState.FULL, error
        elif isinstance(error, StorageError) and not isinstance(error, Unavailable | DeviceFailed):
            told = error
        else:
            assert error is not None
            told = _device_failed(self.osd, error)
            self.fail(told)
        while self._waiting and self._has_room(self._waiting[0]):
            self._send(self._waiting.popleft())
        if not self._flying_items:
            self._idle.set()
        item.done(told)

    def fail(self, error: BaseException) -> None:
        """Writing has ended. What has not been sent is told so at once, in order."""
        if self._failure is None and not self._closed:
            self._failure = error
            _log.warning("OSD %d takes no more writes: %s", self.osd, error)
            self._shards.failed(self)
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            self._loop.call_soon(item.done, self._failed_earlier())

    def _failed_earlier(self) -> DeviceFailed:
        error = DeviceFailed(f"OSD {self.osd} failed earlier: {self._failure}")
        error.__cause__ = self._failure
        return error

    # Reading.

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        return None

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        return None

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        read = Read(self.osd, self._device_id, key.pack(), offset, length)
        small = self._shards.small_reads
        if small.takes(length) and not self._closed:
            try:
                found = await small.read(read)
            except ObjectIOError as error:
                raise _device_failed(self.osd, error) from error
            if found is not None:
                return found
        return (await self._ask(Method.READ, pack(read), timeout_seconds=READ_SECONDS)).payload

    async def stat(self, keys: Sequence[ShardKey]) -> list[ShardInfo | None]:
        reply = await self._ask(Method.STAT, self._device_head(), pack_keys(keys))
        return infos_of(reply.payload)

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        found: list[ShardInfo] = []
        while limit > 0:
            rows = min(limit, SCAN_ROWS_MAX)
            start = None if after is None else after.pack()
            head = pack(Scan(self.osd, self._device_id, start, rows))
            reply = await self._ask(Method.SCAN, head)
            page = [info for info in infos_of(reply.payload) if info is not None]
            found += page
            if len(page) < rows:
                break
            after, limit = page[-1].key, limit - rows
        return found

    async def check(self) -> None:
        await self._ask(Method.CHECK, self._device_head(), timeout_seconds=CHECK_SECONDS)

    def _device_head(self) -> bytes:
        return pack(Device(self.osd, self._device_id))

    async def _ask(
        self, method: int, head: bytes, payload: bytes = b"", timeout_seconds: float = READ_SECONDS
    ) -> Reply:
        if self._closed:
            raise DeviceFailed(f"OSD {self.osd} was closed")
        parts = (payload,) if payload else ()
        try:
            return await self._shards.channel.call(
                method, head, parts, timeout_seconds=timeout_seconds
            )
        except StorageError as error:
            if isinstance(error, Unavailable):
                raise _device_failed(self.osd, error) from error
            raise
        except ObjectIOError as error:
            raise _device_failed(self.osd, error) from error

    async def close(self) -> None:
        """Wait for what was submitted, and let go of the handle; the device stays open over there."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            self.fail(DeviceFailed(f"OSD {self.osd} does not answer"))
        await self._shards.let_go(self)


def _device_failed(osd: int, error: BaseException) -> DeviceFailed:
    if isinstance(error, DeviceFailed):
        return error
    failed = DeviceFailed(f"OSD {osd}: {error}")
    failed.__cause__ = error
    return failed


class RemoteShards:
    """The shard stores of the node at the end of a channel."""

    def __init__(self, channel: Channel, *, status_seconds: float = STATUS_SECONDS) -> None:
        self.channel = channel
        self.small_reads = SmallReads(channel, READ_SECONDS)
        self._status_seconds = status_seconds
        self._instance = secrets.token_bytes(16)
        self._epochs = itertools.count(1)
        self._open: set[RemoteShardStore] = set()
        self._watch: asyncio.Task[None] | None = None
        self.on_failed: list[Callable[[RemoteShardStore], None]] = []
        """Called with a store that takes no more writes."""
        channel.on_down.append(self._down)

    async def list(self) -> dict[int, str]:
        """The OSDs in service over there, and their devices. Raises `Unavailable`."""
        reply = await self.channel.call(Method.LIST)
        return dict(unpack_devices(reply.payload))

    async def open(self, osd: int) -> RemoteShardStore:
        """Raises `DeviceFailed`: there is no connection, or no such OSD in service over there. Only
        one handle of an OSD is good at a time: the newest."""
        connection = self.channel.connection
        try:
            head = pack(Open(osd, self._instance, next(self._epochs)))
            reply = await self.channel.call(Method.OPEN, head)
        except Unavailable as error:
            raise _device_failed(osd, error) from error
        if connection is None or connection is not self.channel.connection:
            raise DeviceFailed(f"OSD {osd}: the connection was lost")
        store = RemoteShardStore(self, osd, connection, unpack_opened(reply.head))
        self._open.add(store)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._run())
        return store

    async def let_go(self, store: RemoteShardStore) -> None:
        self._open.discard(store)
        if store.connection is self.channel.connection:
            try:
                await self.channel.call(Method.CLOSE, pack(Handle(store.handle)), timeout_seconds=1)
            except ObjectIOError as error:
                _log.info("closing OSD %d: %s", store.osd, error)

    async def close(self) -> None:
        """Close what is open; the channel stays."""
        await asyncio.gather(*(store.close() for store in list(self._open)))
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._down in self.channel.on_down:
            self.channel.on_down.remove(self._down)

    def failed(self, store: RemoteShardStore) -> None:
        for told in self.on_failed:
            told(store)

    def _down(self, error: BaseException) -> None:
        for store in list(self._open):
            if store.connection is not self.channel.connection:
                store.fail(_device_failed(store.osd, error))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._status_seconds)
            try:
                await self.refresh()
            except ObjectIOError as error:
                _log.debug("asking %s how its devices are: %s", self.channel.address, error)

    async def refresh(self) -> None:
        """Ask for the state and usage of what is open."""
        connection = self.channel.connection
        stores = [store for store in self._open if store.connection is connection]
        if not stores:
            return
        wanted = pack([store.handle for store in stores])
        reply = await self.channel.call(Method.STATUS, b"", (wanted,))
        for store, status in zip(stores, unpack_statuses(reply.payload), strict=True):
            if store in self._open:
                store.learn(status)
