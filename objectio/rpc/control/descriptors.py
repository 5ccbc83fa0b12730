"""What the .proto files say, for clients that ask (server reflection) and for this code itself.

`descriptor_set()` is a FileDescriptorSet (google/protobuf/descriptor.proto), which any protobuf library
reads; `python -m objectio.rpc.control.descriptors > objectio.protoset` writes it to a file. Here only
names are read from it, so that no such library is needed.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from objectio.rpc.control.pb.protoset import PROTOSET

_SERVICES: Final = 6
"""Field of a FileDescriptorProto; messages and enums are 4 and 5."""


class Method(NamedTuple):
    """`path` is what HTTP/2 calls it; the types are full names."""

    path: str
    request: str
    reply: str
    streams: bool
    """Whether there is more than one answer."""


class File(NamedTuple):
    """`raw` is the FileDescriptorProto. `symbols` are the full names of what it defines."""

    name: str
    raw: bytes
    symbols: frozenset[str]
    services: tuple[str, ...]
    methods: tuple[Method, ...]


def descriptor_set() -> bytes:
    return base64.b64decode(PROTOSET)


@cache
def files() -> tuple[File, ...]:
    return tuple(_file(raw) for _, raw in fields(descriptor_set()))


@cache
def methods() -> dict[str, Method]:
    """By path."""
    return {method.path: method for file in files() for method in file.methods}


def fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the fields of an encoded message that have a length; a flag that is
    set counts as one. https://protobuf.dev/programming-guides/encoding/"""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        length, at = _varint(raw, at)
        if tag & 7 == 2:
            yield tag >> 3, raw[at : at + length]
            at += length
        else:
            assert tag & 7 == 0, "no other fields are in descriptors without options"
            if length:
                yield tag >> 3, b"\x01"


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _text(raw: bytes, number: int) -> str:
    return next((value.decode() for field, value in fields(raw) if field == number), "")


def _file(raw: bytes) -> File:
    package = _text(raw, 2)
    symbols: set[str] = set()
    services: list[str] = []
    found: list[Method] = []
    for number, value in fields(raw):
        if number not in (4, 5, _SERVICES):
            continue
        name = f"{package}.{_text(value, 1)}"
        symbols.add(name)
        if number == _SERVICES:
            services.append(name)
            found += [_method(name, each) for field, each in fields(value) if field == 2]
    symbols.update(method.path[1:].replace("/", ".") for method in found)
    return File(_text(raw, 1), raw, frozenset(symbols), tuple(services), tuple(found))


def _method(service: str, raw: bytes) -> Method:
    return Method(
        f"/{service}/{_text(raw, 1)}",
        _text(raw, 2).removeprefix("."),
        _text(raw, 3).removeprefix("."),
        any(number == 6 for number, _ in fields(raw)),
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(descriptor_set())
