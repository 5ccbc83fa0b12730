"""ISA-L through ctypes: the two functions that multiply by a matrix.

The library is the one that pyeclib's wheel bundles, or the system's. Plugins do not import each
other, so this is a binding of its own, kept to what this codec calls.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from typing_extensions import Buffer

from objectio.errors import DriverUnavailable

_HELP: Final = (
    "ISA-L is not on this machine: install pyeclib>=1.8 (its wheel brings the library) "
    "or your system's ISA-L (libisal2, isa-l)"
)
_BRIEF_BYTES_MAX: Final = 32 * 1024
"""Up to this, 4 µs, a call keeps the GIL: getting it back beside a busy thread takes longer."""


class Product:
    """A matrix, ready to multiply shards by."""

    def __init__(self, library: Library, rows: Sequence[bytes]) -> None:
        self._library = library
        self._rows = len(rows)
        self._columns = len(rows[0])
        self._tables = library.tables(rows)
        self._pack_sources = struct.Struct(f"{self._columns}P").pack
        self._pack_targets = struct.Struct(f"{self._rows}P").pack

    def fill(self, sources: Sequence[Buffer], targets: Sequence[Buffer]) -> None:
        """Each target becomes the sum of the sources times the factors of its row."""
        length = memoryview(sources[0]).nbytes
        brief = length * self._columns <= _BRIEF_BYTES_MAX
        encode = self._library.encode_briefly if brief else self._library.encode
        encode(
            length,
            self._columns,
            self._rows,
            self._tables,
            self._pack_sources(*map(_address, sources)),
            self._pack_targets(*map(_address, targets)),
        )


class Library:
    """ISA-L, loaded. `encode` is `ec_encode_data`, `encode_briefly` the same with the GIL held."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.encode: Final = _prototype(library.ec_encode_data)
        self.encode_briefly: Final = _prototype(ctypes.PyDLL(path).ec_encode_data)
        self._init_tables = library.ec_init_tables
        self._init_tables.restype = None
        self._init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]

    def tables(self, rows: Sequence[bytes]) -> bytes:
        """What `encode` takes for a matrix: 32 bytes for each coefficient."""
        tables = ctypes.create_string_buffer(32 * len(rows[0]) * len(rows))
        self._init_tables(len(rows[0]), len(rows), b"".join(rows), tables)
        return tables.raw


def _prototype(function: Any) -> Any:
    function.restype = None
    function.argtypes = (*[ctypes.c_int] * 3, *[ctypes.c_char_p] * 3)
    return function


def load() -> Library:
    """The first ISA-L that loads. Raises `DriverUnavailable`."""
    failures = []
    for path in _candidates():
        try:
            return Library(path)
        except (OSError, AttributeError) as error:  # not loadable, or lacks a function
            failures.append(f"{path}: {error}")
    raise DriverUnavailable("; ".join([_HELP, *failures]))


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec("pyeclib")
    for package in (spec and spec.submodule_search_locations) or ():
        bundled = Path(package).parent / "pyeclib.libs"
        yield from sorted(map(str, bundled.glob("libisal*.so*")), reverse=True)
    if system := ctypes.util.find_library("isal"):
        yield system


class _PyBuffer(ctypes.Structure):
    """The start of `Py_buffer` (CPython, C API, "Buffer Protocol"), and room for the rest of it."""

    _fields_ = [("buf", ctypes.c_void_p), ("rest", ctypes.c_void_p * 15)]


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.c_void_p]
_release_buffer.restype = None


def _address(buffer: Buffer) -> int:
    """Where the bytes of a contiguous buffer are; it holds while the caller lends the buffer."""
    if type(buffer) is not bytes and not (type(buffer) is memoryview and buffer.readonly):
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # the short way: 0.2 µs
        except TypeError:  # read-only, of another type
            pass
    view = _PyBuffer()
    _get_buffer(buffer, ctypes.addressof(view), 0)
    found: int = view.buf
    _release_buffer(ctypes.addressof(view))
    return found
