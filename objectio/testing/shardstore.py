"""A shard store in memory: the contract of `objectio.abc.shardstore` in its plainest form.

What code above a shard store is tested on, and what real ones are compared with. Each device is a
directory with one marker file, so that it can be found, refused and removed as real ones can; the
shards are in the factory, and last as long as it does.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import Buffer

from objectio.abc.shardstore import (
    Done,
    ShardInfo,
    ShardWrite,
    StoreState,
    StoreUsage,
)
from objectio.errors import ChecksumMismatch, ConfigError, DeviceFailed, DeviceFull, NotFound
from objectio.limits import MIB
from objectio.model.stripe import ShardKey

HEADER_BYTES = 64
"""What a shard counts beyond its payload, so that usage adds up as on a real device."""
_MARKER = "memory-device"


@dataclass
class MemoryDevice:
    """What stays when a store is closed."""

    device_id: str
    cluster_id: str
    capacity_bytes: int
    shards: dict[ShardKey, tuple[bytes, int]] = field(default_factory=dict)
    damaged: set[ShardKey] = field(default_factory=set)
    opens: int = 0

    @property
    def live_bytes(self) -> int:
        return sum(len(payload) + HEADER_BYTES for payload, _ in self.shards.values())


class MemoryShardStore:
    """One opened device. `done` is called in a later turn of the loop, in order of submission."""

    def __init__(self, path: Path, device: MemoryDevice) -> None:
        self._path = path
        self._device = device
        self._queue: list[tuple[Callable[[], None], bool, Done]] = []
        self._state = StoreState.UP
        self._failure: BaseException | None = None

    @property
    def device_id(self) -> str:
        return self._device.device_id

    @property
    def opens(self) -> int:
        return self._device.opens

    @property
    def state(self) -> StoreState:
        return self._state

    @property
    def failure(self) -> BaseException | None:
        return self._failure

    def submit(self, shard: ShardWrite, done: Done) -> None:
        self._submit(lambda: self._put(shard), shard.sync, done)

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        self._submit(lambda: self._delete(keys), True, done)

    def submit_sync(self, done: Done) -> None:
        self._submit(lambda: None, True, done)

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        if self._failure is not None or self._state is StoreState.CLOSED:
            raise DeviceFailed(f"{self._path} is {self._state.value}") from self._failure
        found = self._device.shards.get(key)
        if found is None:
            raise NotFound("no such shard on this device", kind="shard")
        if key in self._device.damaged:
            raise ChecksumMismatch("a shard on the device is not what was written")
        return found[0][offset : None if length is None else offset + length]

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        await asyncio.sleep(0)
        found = self.read_now(key, offset, length)
        assert found is not None
        return found

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        if key not in self._device.shards:
            raise NotFound("no such shard on this device", kind="shard")

        def read() -> Buffer:
            found = self.read_now(key, offset, length)
            assert found is not None
            return found

        return read

    async def stat(self, keys: Sequence[ShardKey]) -> list[ShardInfo | None]:
        found: list[ShardInfo | None] = []
        for key in keys:
            shard = self._device.shards.get(key)
            found.append(None if shard is None else ShardInfo(key, len(shard[0]), shard[1]))
        return found

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        keys = sorted(key for key in self._device.shards if after is None or key > after)
        found = ((key, *self._device.shards[key]) for key in keys[:limit])
        return [ShardInfo(key, len(payload), generation) for key, payload, generation in found]

    def usage(self) -> StoreUsage:
        live = self._device.live_bytes
        return StoreUsage(self._device.capacity_bytes, live, live, len(self._device.shards))

    async def check(self) -> None:
        if not (self._path / _MARKER).exists():
            raise DeviceFailed(f"{self._path} is gone")

    async def close(self) -> None:
        self._run()
        self._state = StoreState.CLOSED

    def _submit(self, apply: Callable[[], None], sync: bool, done: Done) -> None:
        if self._state is StoreState.CLOSED:
            raise DeviceFailed("the device was closed")
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._run)
        self._queue.append((apply, sync, done))

    def _run(self) -> None:
        queue, self._queue = self._queue, []
        for apply, sync, done in queue:
            try:
                self._apply(apply, sync)
            except (DeviceFailed, DeviceFull) as error:
                done(error)
            else:
                done(None)

    def _apply(self, apply: Callable[[], None], sync: bool) -> None:
        if self._failure is not None:
            raise DeviceFailed(f"{self._path} failed earlier") from self._failure
        if sync and not (self._path / _MARKER).exists():
            self._failure = DeviceFailed(f"{self._path} was removed while it was in use")
            self._state = StoreState.FAILED
            raise self._failure
        apply()

    def _put(self, shard: ShardWrite) -> None:
        device, payload = self._device, b"".join(shard.payload)
        full = device.live_bytes + len(payload) + HEADER_BYTES > device.capacity_bytes
        if full and not shard.reserve:
            self._state = StoreState.FULL
            raise DeviceFull(f"{self._path} is full")
        device.shards[shard.key] = (payload, shard.coordinates.generation)
        device.damaged.discard(shard.key)

    def _delete(self, keys: Sequence[ShardKey]) -> None:
        for key in keys:
            self._device.shards.pop(key, None)
            self._device.damaged.discard(key)
        if self._state is StoreState.FULL:
            self._state = StoreState.UP


class MemoryShardStoreFactory:
    """Its devices are those that it prepared, by path."""

    def __init__(self, capacity_bytes: int = 256 * MIB) -> None:
        self._capacity_bytes = capacity_bytes
        self._devices: dict[str, MemoryDevice] = {}

    def prepare(self, path: str, *, cluster_id: str, size_bytes: int | None = None) -> str:
        where = Path(path)
        if not _is_blank(where):
            raise ConfigError(f"{path} is not empty; nothing was written to it")
        where.mkdir(parents=True, exist_ok=True)
        device = MemoryDevice(str(uuid.uuid4()), cluster_id, size_bytes or self._capacity_bytes)
        (where / _MARKER).write_text(device.device_id)
        self._devices[device.device_id] = device
        return device.device_id

    def probe(self, path: str) -> str | None:
        if _is_blank(Path(path)):
            return None
        return self._find(path).device_id

    def cluster_of(self, path: str) -> str | None:
        if _is_blank(Path(path)):
            return None
        return self._find(path).cluster_id

    def opens_of(self, path: str) -> int:
        return 0 if self.probe(path) is None else self._find(path).opens

    async def open(self, path: str, *, cluster_id: str, opens_min: int = 0) -> MemoryShardStore:
        device = self._find(path)
        if device.cluster_id != cluster_id:
            raise ConfigError(f"{path} belongs to another cluster; it is left alone")
        device.opens = max(device.opens, opens_min) + 1
        return MemoryShardStore(Path(path), device)

    def forget(self, device_id: str) -> None:
        self._devices.pop(device_id, None)

    def damage(self, path: str, payload: bytes) -> None:
        """Have every read of the shards with this payload fail, as after a flipped bit."""
        device = self._find(path)
        device.damaged |= {key for key, (held, _) in device.shards.items() if held == payload}

    def _find(self, path: str) -> MemoryDevice:
        marker = Path(path) / _MARKER
        if not marker.exists():
            raise ConfigError(f"{path} is not a device of ObjectIO; prepare it first")
        device = self._devices.get(marker.read_text())
        if device is None:
            raise ConfigError(f"{path} is a device of another process; its shards are gone")
        return device


def _is_blank(path: Path) -> bool:
    if path.is_dir():
        return not any(path.iterdir())
    return not path.exists() or not path.read_bytes()
