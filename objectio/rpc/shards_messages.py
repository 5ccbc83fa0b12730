"""What a shard store's two sides say to each other: heads as MessagePack arrays, keys packed.

Reads name an OSD and the device that is expected there, and may be asked on any connection. Writes
name a *handle*, which belongs to one connection and one opened device.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from objectio.abc.shardstore import ShardInfo, StoreState, StoreUsage
from objectio.errors import RemoteProtocolError
from objectio.limits import KIB, MIB
from objectio.model.stripe import SHARD_KEY_BYTES, ShardKey
from objectio.rpc.messages import Unpacker

SCAN_ROWS_MAX: Final = 100_000
"""Of one answer; the asking side goes on by itself."""
READS_MAX: Final = 64
"""Of one READ_MANY."""
SMALL_BYTES_MAX: Final = 64 * KIB
"""What such a read asks for at most."""
KEYS_MAX: Final = 32 * MIB // SHARD_KEY_BYTES


class Method(enum.IntEnum):
    LIST = 0x0100
    OPEN = 0x0101
    CLOSE = 0x0102
    PUT = 0x0103
    DELETE = 0x0104
    SYNC = 0x0105
    READ = 0x0106
    STAT = 0x0107
    SCAN = 0x0108
    CHECK = 0x0109
    STATUS = 0x010A
    READ_MANY = 0x010B
    SLOTS = 0x0110
    REPLACE = 0x0111


Usage = tuple[int, int, int, int, int, int, int, int]
"""The fields of `StoreUsage` in order."""


class _Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    pass


class Open(_Head, frozen=True):
    """`instance` is random for each client process, and `epoch` ascends in it: with a new handle
    all older ones of that instance on that OSD end, whatever is still on its way to them."""

    osd: int
    instance: bytes
    epoch: int


class Opened(_Head, frozen=True):
    handle: int
    device_id: str
    opens: int
    state: str
    usage: Usage


class Handle(_Head, frozen=True):
    handle: int


class Put(_Head, frozen=True):
    """The payload is the shard."""

    handle: int
    key: bytes
    family: str
    data_shards: int
    parity_shards: int
    stripe_bytes: int
    generation: int
    sync: bool
    reserve: bool


class Status(_Head, frozen=True):
    """Of an answer to a write; usage comes now and then."""

    state: str
    usage: Usage | None = None
    failure: str | None = None


class Device(_Head, frozen=True):
    """Of STAT (its payload: the keys) and CHECK."""

    osd: int
    device_id: str


class Read(_Head, frozen=True):
    """Also what the payload of READ_MANY has a list of."""

    osd: int
    device_id: str
    key: bytes
    offset: int
    length: int | None


class Scan(_Head, frozen=True):
    osd: int
    device_id: str
    after: bytes | None
    limit: int


class FarSlot(_Head, frozen=True):
    """An OSD of a process. `device_id` is empty while it is down, and `reason` says why."""

    osd: int
    device_id: str
    reason: str


class Replace(_Head, frozen=True):
    osd: int


Row = tuple[bytes, int, int]
"""Key, length, generation."""

unpack_open: Final = Unpacker(Open)
unpack_opened: Final = Unpacker(Opened)
unpack_handle: Final = Unpacker(Handle)
unpack_put: Final = Unpacker(Put)
unpack_status: Final = Unpacker(Status)
unpack_device: Final = Unpacker(Device)
unpack_read: Final = Unpacker(Read)
unpack_reads: Final = Unpacker(list[Read])
unpack_lengths: Final = Unpacker(list[int | None])
unpack_scan: Final = Unpacker(Scan)
unpack_slots: Final = Unpacker(list[FarSlot])
unpack_replace: Final = Unpacker(Replace)
unpack_rows: Final = Unpacker(list[Row | None])
unpack_devices: Final = Unpacker(list[tuple[int, str]])
unpack_handles: Final = Unpacker(list[int])
unpack_statuses: Final = Unpacker(list[Status | None])


def usage_fields(usage: StoreUsage) -> Usage:
    return (
        usage.capacity_bytes,
        usage.used_bytes,
        usage.live_bytes,
        usage.shards,
        usage.cache_bytes,
        usage.cache_hits,
        usage.cache_misses,
        usage.shard_bytes_max,
    )


def state_named(name: str) -> StoreState:
    try:
        return StoreState(name)
    except ValueError:
        raise RemoteProtocolError(f"a store is never {name!r}", reason="malformed") from None


def pack_keys(keys: Iterable[ShardKey]) -> bytes:
    return b"".join([key.pack() for key in keys])


def unpack_keys(raw: bytes | memoryview) -> list[ShardKey]:
    if len(raw) % SHARD_KEY_BYTES:
        raise RemoteProtocolError("keys of another length", reason="malformed")
    return [
        ShardKey.unpack(bytes(raw[at : at + SHARD_KEY_BYTES]))
        for at in range(0, len(raw), SHARD_KEY_BYTES)
    ]


def unpack_key(raw: bytes) -> ShardKey:
    if len(raw) != SHARD_KEY_BYTES:
        raise RemoteProtocolError("a key of another length", reason="malformed")
    return ShardKey.unpack(raw)


def row_of(info: ShardInfo) -> Row:
    return info.key.pack(), info.length, info.generation


def infos_of(raw: Any) -> list[ShardInfo | None]:
    return [
        None if row is None else ShardInfo(unpack_key(row[0]), row[1], row[2])
        for row in unpack_rows(raw)
    ]
