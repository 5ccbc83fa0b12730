"""What gateways and the process with the metadata say to each other about a session."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from objectio.errors import InvalidRequest, RemoteProtocolError
from objectio.rpc.messages import Unpacker

SESSION_ID_BYTES: Final = 16
NAME_CHARS_MAX: Final = 128
BLOB_ID_BYTES: Final = 16
IDS_MAX: Final = 1_000_000
"""Blobs in use of one process: each is a request under way."""
NOTES_MAX: Final = 10_000
"""Blobs in one TELL."""


class Method(enum.IntEnum):
    OPEN = 0x0300
    POLL = 0x0301
    TELL = 0x0302
    CLOSE = 0x0303


class _Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    pass


class Open(_Head, frozen=True):
    name: str


class Opened(_Head, frozen=True):
    """`term` is random for each start of the process with the metadata, and `number` that of its
    last survey. `pools` is another number when pools, groups or moves were changed since. A session
    of which nothing is heard for `lease_ms` ends."""

    session: bytes
    term: bytes
    number: int
    pools: int
    lease_ms: int


class Poll(_Head, frozen=True):
    """What was used after pools were read as they were when survey `number` of `term` began. The first
    `active` ids of the payload are active, the others are pinned; it is only looked at when the
    number is told for the first time."""

    session: bytes
    term: bytes
    number: int
    active: int


class Polled(_Head, frozen=True):
    """The number that is wanted now; the one that was told if there is no other for a while."""

    term: bytes
    number: int
    pools: int


class Handle(_Head, frozen=True):
    session: bytes


Blob = tuple[bytes, int, int]
"""Id, size, pool."""


class Notes(_Head, frozen=True):
    """The payload of TELL: blobs that were given up; blobs with the mask of positions whose shards
    are damaged, and whether all are to be examined; whether there are new rows of garbage, and of
    repairs."""

    abandoned: list[Blob]
    damaged: list[tuple[Blob, int, bool]]
    garbage: bool
    repairs: bool


unpack_open: Final = Unpacker(Open)
unpack_opened: Final = Unpacker(Opened)
unpack_poll: Final = Unpacker(Poll)
unpack_polled: Final = Unpacker(Polled)
unpack_handle: Final = Unpacker(Handle)
unpack_notes: Final = Unpacker(Notes)


def pack_ids(active: Collection[bytes], pinned: Collection[bytes]) -> bytes:
    return b"".join([*active, *pinned])


def unpack_ids(raw: bytes | memoryview, active: int) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """(the active, the pinned)."""
    count, rest = divmod(len(raw), BLOB_ID_BYTES)
    if rest or not 0 <= active <= count:
        raise RemoteProtocolError("ids that are none", reason="malformed")
    if count > IDS_MAX:
        raise InvalidRequest(f"a process uses at most {IDS_MAX} blobs at once", reason="limit")
    whole = bytes(raw)
    ids = [whole[at : at + BLOB_ID_BYTES] for at in range(0, len(whole), BLOB_ID_BYTES)]
    return frozenset(ids[:active]), frozenset(ids[active:])


def check_blobs(blobs: Iterable[Blob]) -> None:
    for blob, size, pool in blobs:
        if len(blob) != BLOB_ID_BYTES or size < 0 or pool < 0:
            raise RemoteProtocolError("a blob that is none", reason="malformed")
