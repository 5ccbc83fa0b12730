"""ISA-L through ctypes: finding the shared library, and the two functions that a codec needs.

A long call gives up the GIL, so that other threads run while a stripe is encoded. A short one keeps
it, as hashlib does: beside a busy thread, getting the GIL back costs more than the call itself.

pyeclib's wheel bundles a current ISA-L; that file is what we load, beside pyeclib and not through
it: pyeclib's own encode holds the GIL, copies, and puts a header of 80 bytes before each fragment.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from typing_extensions import Buffer

from objectio.errors import DriverUnavailable

_HELP: Final = (
    "ISA-L is not on this machine: install pyeclib>=1.8 (its wheel brings the library) "
    "or your system's ISA-L (libisal2, isa-l)"
)
_PyBUF_SIMPLE: Final = 0
BRIEF_BYTES_MAX: Final = 32 * 1024
"""At the 9 GB/s of one core, 4 µs: what a thread may be kept waiting for."""


class Library:
    """ISA-L, loaded. `path` says from where.

    encode(length, sources, targets, tables, source_pointers, target_pointers)
        `ec_encode_data`: each target is the sum of the sources times their factors. Tables and
        pointers are packed bytes.
    encode_briefly
        The same without giving up the GIL, for shards of up to `BRIEF_BYTES_MAX` in all.
    """

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.path: Final = path
        self.encode: Final = _prototype(library.ec_encode_data)
        self.encode_briefly: Final = _prototype(ctypes.PyDLL(path).ec_encode_data)
        self._init_tables = library.ec_init_tables
        self._init_tables.restype = None
        self._init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]

    def tables(self, rows: tuple[bytes, ...]) -> bytes:
        """What `encode` takes for a matrix: 32 bytes for each coefficient."""
        columns = len(rows[0])
        tables = ctypes.create_string_buffer(32 * columns * len(rows))
        self._init_tables(columns, len(rows), b"".join(rows), tables)
        return tables.raw


def _prototype(function: Any) -> Any:
    """Declare the arguments of `ec_encode_data`."""
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
    """Where the library may be, best first; finds pyeclib without importing it."""
    spec = importlib.util.find_spec("pyeclib")
    for package in (spec and spec.submodule_search_locations) or ():
        bundled = Path(package).parent / "pyeclib.libs"
        yield from sorted(map(str, bundled.glob("libisal*.so*")), reverse=True)
    if system := ctypes.util.find_library("isal"):
        yield system


class _PyBuffer(ctypes.Structure):
    """`Py_buffer` of the stable ABI (CPython, C API, "Buffer Protocol")."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.c_void_p]
_release_buffer.restype = None
_byte_at = ctypes.c_char.from_buffer
_address_of = ctypes.addressof


def address(buffer: Buffer) -> int:
    """Where the bytes of a contiguous buffer are, writable or not; nothing is copied.

    The address holds as long as the caller keeps the buffer as it is: buffers are lent for a call.
    A writable buffer takes 0.2 µs. ctypes refuses read-only ones, which go the longer way (0.8 µs).
    """
    if type(buffer) is not bytes and not (type(buffer) is memoryview and buffer.readonly):
        try:
            return _address_of(_byte_at(buffer))
        except TypeError:  # read-only, of another type
            pass
    view = _PyBuffer()
    where = _address_of(view)
    _get_buffer(buffer, where, _PyBUF_SIMPLE)
    found: int = view.buf
    _release_buffer(where)
    return found
