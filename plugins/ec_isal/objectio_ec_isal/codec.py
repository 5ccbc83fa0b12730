"""Both Reed-Solomon families by ISA-L.

ISA-L multiplies by whatever matrix it is given, so one codec serves both families: the
coefficients come from `objectio.erasure.matrix`. Encoding and rebuilding are the same call with
different tables; those for a pattern of losses are kept, since a lost device makes the same
pattern for all of its stripes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.erasure import CodecProfile
from objectio.erasure import matrix
from objectio_ec_isal.library import BRIEF_BYTES_MAX, Library, address, load

PATTERNS_CACHED_MAX: Final = 1024
"""Of one codec. 8+4 has 793 patterns of up to four losses; a table of it has at most 1 KiB."""


class _Decoding(NamedTuple):
    sources: tuple[int, ...]
    tables: bytes


class IsalCodec:
    """One profile. Has no state but a cache, so any threads may call it at once."""

    def __init__(self, library: Library, profile: CodecProfile) -> None:
        self._profile = profile
        self._library = library
        self._generator = matrix.generator(profile)
        self._k = profile.data_shards
        self._m = profile.parity_shards
        parity_rows = self._generator[self._k :]
        self._tables = library.tables(parity_rows) if parity_rows else b""
        self._brief_length_max = BRIEF_BYTES_MAX // self._k
        self._pack_data = struct.Struct(f"{self._k}P").pack
        self._pack_parity = struct.Struct(f"{self._m}P").pack
        self._decoding = lru_cache(maxsize=PATTERNS_CACHED_MAX)(self._build_decoding)

    @property
    def profile(self) -> CodecProfile:
        return self._profile

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        if not self._m:
            return
        length = memoryview(data[0]).nbytes
        self._call(length)(
            length,
            self._k,
            self._m,
            self._tables,
            self._pack_data(*map(address, data)),
            self._pack_parity(*map(address, parity)),
        )

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        return matrix.minimum_to_decode(self._profile, want, cost)

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        if not want:
            return
        sources, tables = self._decoding(tuple(shards), tuple(want))
        targets = [address(target) for target in want.values()]
        length = memoryview(shards[sources[0]]).nbytes
        self._call(length)(
            length,
            self._k,
            len(targets),
            tables,
            self._pack_data(*[address(shards[index]) for index in sources]),
            struct.pack(f"{len(targets)}P", *targets),
        )

    def _call(self, length: int) -> Any:
        brief = length <= self._brief_length_max
        return self._library.encode_briefly if brief else self._library.encode

    def _build_decoding(self, given: tuple[int, ...], want: tuple[int, ...]) -> _Decoding:
        sources = matrix.choose_sources(self._profile, dict.fromkeys(given))
        rows = matrix.reconstruction(self._generator, sources, want)
        return _Decoding(sources, self._library.tables(rows))


class IsalFactory:
    """Loads the library; makes codecs of both Reed-Solomon families."""

    def __init__(self) -> None:
        self._library = load()

    @property
    def families(self) -> frozenset[str]:
        return matrix.RS_FAMILIES

    def codec(self, profile: CodecProfile) -> IsalCodec:
        return IsalCodec(self._library, profile)
