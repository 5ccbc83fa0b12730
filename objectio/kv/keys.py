"""Keys whose byte order is the order of what they encode.

A key is a run of fields. A field of fixed width is a big-endian integer. A field of any length is
*escaped*, so that it ends by itself and compares as the raw bytes do:

    00      →  00 FF
    the end →  00 01

Raw bytes a and b, a < b, differ first at some position. Either both have a byte there: a zero byte
is written 00 FF, which keeps its place below all other bytes. Or a is a prefix of b: its end 00 01
is compared with a byte of b that is above 00, or with 00 FF, and is the lower in both cases. So
escape(a) < escape(b) whatever follows either of them, and no escaped field is a prefix of another.
"""

from __future__ import annotations

from typing import Final

from objectio.errors import InvalidRequest
from objectio.limits import KV_KEY_BYTES_MAX

_ZERO: Final = b"\x00"
_ESCAPED_ZERO: Final = b"\x00\xff"
_END: Final = b"\x00\x01"

KEY_END: Final = b"\xff" * (KV_KEY_BYTES_MAX + 1)
"""Above every key: the stop of a scan to the end."""


def escape(raw: bytes) -> bytes:
    """Any bytes as a field that ends by itself and sorts as the bytes do."""
    return raw.replace(_ZERO, _ESCAPED_ZERO) + _END


def escape_prefix(raw: bytes) -> bytes:
    """What the fields of all bytes that start with `raw` start with, and no others."""
    return raw.replace(_ZERO, _ESCAPED_ZERO)


def unescape(data: bytes, start: int = 0) -> tuple[bytes, int]:
    """The raw bytes of the field at `start`, and where the next field begins."""
    at = data.find(_ZERO, start)
    while at >= 0:
        mark = data[at : at + 2]
        if mark == _END:
            return data[start:at].replace(_ESCAPED_ZERO, _ZERO), at + 2
        if mark != _ESCAPED_ZERO:
            break
        at = data.find(_ZERO, at + 2)
    raise InvalidRequest("not an escaped key field", reason="key-encoding")


def encode_uint(value: int, width_bytes: int = 8) -> bytes:
    """A fixed-width integer that sorts by value. Raises `OverflowError` if it does not fit."""
    return value.to_bytes(width_bytes, "big")


def decode_uint(data: bytes, start: int = 0, width_bytes: int = 8) -> int:
    field = data[start : start + width_bytes]
    if len(field) != width_bytes:
        raise InvalidRequest("a key ends inside of an integer field", reason="key-encoding")
    return int.from_bytes(field, "big")


def encode_uint_descending(value: int, width_bytes: int = 8) -> bytes:
    """A fixed-width integer that sorts from large to small: newest first."""
    return ((1 << 8 * width_bytes) - 1 - value).to_bytes(width_bytes, "big")


def decode_uint_descending(data: bytes, start: int = 0, width_bytes: int = 8) -> int:
    return (1 << 8 * width_bytes) - 1 - decode_uint(data, start, width_bytes)


def prefix_end(prefix: bytes) -> bytes:
    """The lowest bytes above every key that starts with `prefix`: the stop of its scan."""
    kept = prefix.rstrip(b"\xff")
    if not kept:
        return KEY_END
    return kept[:-1] + bytes((kept[-1] + 1,))
