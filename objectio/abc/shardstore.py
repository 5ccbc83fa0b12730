"""Shard stores: what an OSD keeps on one device.

A shard store holds immutable shards under `ShardKey`s. It is the only part of the system that
promises durability, so its contract is mostly about when a promise is made.

Writes are *submitted*: `submit` queues a batch item and returns at once, and `done` is called on
the event loop when the fate of the item is known, with None or the error. Stores commit in groups:
many items share one write and one sync, which is what makes small objects fast. Items of one store
take effect in the order in which they were submitted.

- `sync=True`: when `done(None)` is called, the item *and every earlier item of this store* survive a
  power cut. `sync=False`: it has been handed to the device, readable, not yet promised; a long
  object's early stripes use this and its last stripe asks for the sync.
- A failed write or sync ends writing: every later submit fails with `DeviceFailed` until the device
  is opened anew (after a failed sync no one knows what the device holds). Reads go on, since they
  verify what they return. `DeviceFull` is not such a failure: the item was refused, nothing of it
  was written, deletes still work.
- Submitting a key that exists replaces the shard (repair does that); deleting one that does not is
  no error.

Reads verify checksums over everything they return: a shard is right, or it is an error. `read_now`
is the fast path: it answers from memory or the page cache without blocking, or returns None, and
then `read` must be awaited.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from typing_extensions import Buffer

from objectio.model.stripe import ShardKey

Done = Callable[[BaseException | None], None]


class ShardWrite(NamedTuple):
    """One shard to store. `payload` is written in order as one run of bytes, and is lent until
    `done` is called. `coordinates` says what the shard is part of, for readers of a bare device.
    `reserve`: it may use the room that a full device keeps for deletes, since deleting needs it."""

    key: ShardKey
    payload: Sequence[Buffer]
    coordinates: ShardCoordinates
    sync: bool = True
    reserve: bool = False


class ShardCoordinates(NamedTuple):
    """`family` is a codec family name; `stripe_bytes` the bytes of object data in this stripe."""

    family: str
    data_shards: int
    parity_shards: int
    stripe_bytes: int
    generation: int = 0


class ShardInfo(NamedTuple):
    """What the index knows of a shard, without reading it."""

    key: ShardKey
    length: int
    generation: int


class StoreState(enum.Enum):
    UP = "up"
    FULL = "full"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Bytes of the device: `capacity` in all, `used` by segments that hold anything, `live` by
    shards that can be read (payload and headers); counts of shards. The cache is that of a device
    which is read past the page cache: what is in it, and how many blocks were found there or not.
    `shard_bytes_max` is the largest shard that the device can ever take; 0 if it is not known."""

    capacity_bytes: int
    used_bytes: int
    live_bytes: int
    shards: int
    cache_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    shard_bytes_max: int = 0


class ShardStore(Protocol):
    """One opened device. All methods are called from the event loop that opened it."""

    @property
    def device_id(self) -> str:
        """The identity that was written when the device was prepared; survives moves."""
        ...

    @property
    def opens(self) -> int:
        """How often the device was opened, this time included. It is written on the device, so a
        lower number than before says that an old copy of it came back; 0 where it is not counted."""
        ...

    @property
    def state(self) -> StoreState: ...

    @property
    def failure(self) -> BaseException | None:
        """Why the state is FAILED."""
        ...

    def submit(self, shard: ShardWrite, done: Done) -> None: ...

    def submit_delete(self, keys: Sequence[ShardKey], done: Done) -> None:
        """Durable when done: a deleted shard stays deleted after a crash."""
        ...

    def submit_sync(self, done: Done) -> None:
        """Make every earlier item durable."""
        ...

    def read_now(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer | None:
        """Bytes [offset, offset+length) of the shard (to its end if None), verified, or None if
        answering would block. Raises as `read` does."""
        ...

    async def read(self, key: ShardKey, offset: int = 0, length: int | None = None) -> Buffer:
        """As `read_now`, waiting for the device. Raises `NotFound` (kind shard),
        `ChecksumMismatch`, `DeviceFailed`."""
        ...

    def plan_read(
        self, key: ShardKey, offset: int = 0, length: int | None = None
    ) -> Callable[[], Buffer] | None:
        """A function that reads as `read` does, blocking, for a worker thread that reads several
        shards in a row; None if the store is not on this machine. Raises `NotFound`."""
        ...

    async def stat(self, keys: Sequence[ShardKey]) -> list[ShardInfo | None]:
        """What the index knows of each of the shards; None for one that is not there. Reads no
        shard, so it says nothing of their health."""
        ...

    async def scan(self, after: ShardKey | None, limit: int) -> list[ShardInfo]:
        """The next shards in key order; fewer than `limit` at the end."""
        ...

    def usage(self) -> StoreUsage: ...

    async def check(self) -> None:
        """A cheap look whether the device is still there; raises `DeviceFailed` if not, with
        `fields["gone"]` where it will not come back under this handle. A FAILED store that passes
        takes writes again once it is opened anew."""
        ...

    async def close(self) -> None:
        """Flush, write a checkpoint, release the device."""
        ...


class ShardStoreFactory(Protocol):
    """What `Driver.open` of a shard store returns: opens the devices of one node."""

    def prepare(self, path: str, *, cluster_id: str, size_bytes: int | None = None) -> str:
        """Initialise an empty device and return its new device id. Blocking. Refuses with
        `ConfigError` a device that holds anything."""
        ...

    def probe(self, path: str) -> str | None:
        """The device id found at the path, or None if it is absent or empty. Blocking. Raises
        `ConfigError` for contents that it does not know and `DeviceFailed` for I/O errors."""
        ...

    def cluster_of(self, path: str) -> str | None:
        """The cluster that the device at the path belongs to, as `probe` finds the device."""
        ...

    def opens_of(self, path: str) -> int:
        """How often the device at the path was opened by now, without opening it; 0 where that is not
        counted, or there is no device. Blocking. Raises as `probe`."""
        ...

    async def open(self, path: str, *, cluster_id: str, opens_min: int = 0) -> ShardStore:
        """Recover the device and open it. It counts on from `opens_min`, if that is more than what it
        says itself. Raises `ConfigError` (wrong cluster, newer format), `DeviceFailed`."""
        ...

    def forget(self, device_id: str) -> None:
        """Drop what this node keeps of a device that was replaced for good. Blocking."""
        ...
