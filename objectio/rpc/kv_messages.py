"""What the two sides of a remote key-value store say to each other."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from objectio.abc.kv import Absent, Check, Equals, Present, RangeEmpty
from objectio.errors import RemoteProtocolError
from objectio.limits import MIB
from objectio.rpc.messages import Unpacker

ANSWER_BYTES: Final = 16 * MIB
"""An answer ends behind the row with which it gets longer; the asking side goes on from there."""


class Method(enum.IntEnum):
    GET = 0x0200
    GET_MANY = 0x0201
    SCAN = 0x0202
    COMMIT = 0x0203
    STATS = 0x0204
    WATCH = 0x0205


class _Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    pass


class Get(_Head, frozen=True):
    key: bytes


class Found(_Head, frozen=True):
    """The value is the payload."""

    is_there: bool


class Scan(_Head, frozen=True):
    start: bytes
    stop: bytes
    reverse: bool
    limit: int


class Page(_Head, frozen=True):
    """Whether the answer was cut short of what was asked for."""

    cut: bool


class CommitHead(_Head, frozen=True):
    """`instance` is random for each client, and `epoch` is higher on each connection of it."""

    instance: bytes
    epoch: int


class Committed(_Head, frozen=True):
    """The index of the first check that did not hold, or nil."""

    conflict: int | None


class Watch(_Head, frozen=True):
    """Keys with the prefix that were written after `number` of the `log`; answers when there are
    any, and after `wait_ms` in any case."""

    prefix: bytes
    log: bytes
    number: int
    wait_ms: int


class Changed(_Head, frozen=True):
    """`reset`: the log does not reach back so far, and any key may have changed."""

    log: bytes
    number: int
    reset: bool


class Body(_Head, frozen=True):
    """The payload of COMMIT: checks as [kind, key or start, value or stop], and writes."""

    checks: list[tuple[int, bytes, bytes]]
    writes: list[tuple[bytes, bytes | None]]


unpack_get: Final = Unpacker(Get)
unpack_found: Final = Unpacker(Found)
unpack_scan: Final = Unpacker(Scan)
unpack_page: Final = Unpacker(Page)
unpack_commit: Final = Unpacker(CommitHead)
unpack_committed: Final = Unpacker(Committed)
unpack_watch: Final = Unpacker(Watch)
unpack_changed: Final = Unpacker(Changed)
unpack_body: Final = Unpacker(Body)
unpack_keys: Final = Unpacker(list[bytes])
unpack_values: Final = Unpacker(list[bytes | None])
unpack_rows: Final = Unpacker(list[tuple[bytes, bytes]])
unpack_stats: Final = Unpacker(dict[str, int])

_ABSENT, _PRESENT, _EQUALS, _RANGE_EMPTY = 1, 2, 3, 4


def check_fields(check: Check) -> tuple[int, bytes, bytes]:
    if isinstance(check, Absent):
        return _ABSENT, check.key, b""
    if isinstance(check, Present):
        return _PRESENT, check.key, b""
    if isinstance(check, Equals):
        return _EQUALS, check.key, check.value
    return _RANGE_EMPTY, check.start, check.stop


def check_of(fields: tuple[int, bytes, bytes]) -> Check:
    kind, first, second = fields
    if kind == _ABSENT:
        return Absent(first)
    if kind == _PRESENT:
        return Present(first)
    if kind == _EQUALS:
        return Equals(first, second)
    if kind == _RANGE_EMPTY:
        return RangeEmpty(first, second)
    raise RemoteProtocolError(f"a check of kind {kind}", reason="malformed")


def index_of(checks: Sequence[Check], check: object) -> int:
    """Where the check is. Checks of two kinds are tuples that may be equal."""
    for index, each in enumerate(checks):
        if type(each) is type(check) and each == check:
            return index
    raise RemoteProtocolError("a check that nobody made did not hold", reason="malformed")
