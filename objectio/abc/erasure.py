"""Erasure codecs: k data shards in, m parity shards out, and back from any k of them.

A stripe of an object is cut into k equal data shards. `encode` computes m parity shards of the
same length. Each of the k + m shards has an index: 0 … k-1 are the data, k … k+m-1 the parity.

        stripe   | d0 | d1 | d2 | d3 |            k = 4
        shards     0    1    2    3    4    5     m = 2

For a maximum-distance-separable code (Reed-Solomon) any k shards determine the rest. A locally
repairable code adds parities over groups, so that one lost shard is rebuilt from fewer than k
others; `minimum_to_decode` says which. In return not every k shards determine the rest: what it
promises of any set of losses is its `guaranteed_losses`.

Codecs are sync and pure: the same input gives the same bytes, on every machine, for ever, since
shards written today are decoded by the release of ten years from now. What identifies the bytes is
the *family* (field, matrix, layout), never the driver: a stripe record holds a family and its
parameters, and any driver that lists the family must produce identical shards. The golden vectors
of `objectio.testing` hold all of them to that.

Buffers are lent for the call. Output goes into buffers that the caller provides, so that memory
can be pooled; a codec keeps no reference to any of them. Padding, splitting, checksums and empty
stripes are the caller's concern (`objectio.erasure.ErasureCode`): a codec sees equal, non-empty
shards of any length in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Buffer

FAMILY_RS_CAUCHY = "rs-cauchy-0x11d"
"""Systematic Reed-Solomon over GF(2^8), polynomial 0x11d; parity row i (k ≤ i < k+m), column j has
coefficient 1 / (i xor j): ISA-L's `gf_gen_cauchy1_matrix`."""
FAMILY_RS_VANDERMONDE = "rs-vandermonde-0x11d"
"""Systematic Reed-Solomon over GF(2^8), polynomial 0x11d, from a Vandermonde matrix whose rows are
the powers of 0, 1, α, α², …, brought to systematic form by the inverse of its top square: zfec's."""
FAMILY_LRC_CAUCHY = "lrc-cauchy-0x11d-l{local_groups}"
"""Locally repairable code over GF(2^8), polynomial 0x11d, with l local groups, l = 1 … 16, e.g.
``lrc-cauchy-0x11d-l2``. Of the m parity shards the first l are local parities, the exclusive or of
each group's data; the other g = m - l are global. Groups are runs of data shards; if l does not
divide k, the first k mod l have one more. With φ(e) = α^e / (1 + α^e), x_0 = 0, x_1 = 1 and
x_t = φ(1 - t) from t = 2 on, global parity t has for data shard p of group i (all from 0) the
coefficient α^(i · s_t) / (x_t + φ(p + 1)). s_0 = 0. The other s_t, for (l, g) and k up to a bound,
are: (2, 3) k ≤ 14: 36, 145; (3, 3) k ≤ 13: 96, 3; (4, 3) k ≤ 15: 65, 212; (5, 3) k ≤ 15: 194, 58;
(6, 3) k ≤ 18: 164, 99; (2, 4) k ≤ 11: 170, 14, 98; (3, 4) k ≤ 10: 117, 64, 132; (4, 4) k ≤ 10:
203, 90, 113; (2, 5) k ≤ 8: 116, 175, 179, 143; and s_t = t · (2 · ⌈k/l⌉ - 1) for all others."""
FAMILY_REPLICATE = "replicate"
"""k = 1; every parity shard is a copy of the data shard."""


@dataclass(frozen=True, slots=True)
class CodecProfile:
    """What determines a codec's bytes. `str()` gives e.g. ``rs-cauchy-0x11d:4+2``."""

    family: str
    data_shards: int
    parity_shards: int

    @property
    def width(self) -> int:
        """k + m."""
        return self.data_shards + self.parity_shards

    def __str__(self) -> str:
        return f"{self.family}:{self.data_shards}+{self.parity_shards}"


class ErasureCodec(Protocol):
    """One codec, opened for one profile.

    A code that is not maximum-distance separable also has `guaranteed_losses: int`, the most shards
    that may be lost, whichever they are. Of a codec without it that is m.
    """

    @property
    def profile(self) -> CodecProfile: ...

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        """Fill the m writable buffers `parity` from the k buffers `data`; all of one length."""
        ...

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        """The cheapest set of available shards from which all of `want` can be had.

        `cost` maps each available shard index to what reading it costs (any unit). Shards that are
        both wanted and available may be part of the answer. Raises `InsufficientShards`.
        """
        ...

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        """Fill the writable buffers `want` (index → buffer) from the readable `shards`.

        `shards` holds at least what `minimum_to_decode` asked for, of one length; no index is in
        both. Raises `InsufficientShards`.
        """
        ...


class CodecFactory(Protocol):
    """What `Driver.open` of a codec returns: makes codecs for the profiles that it supports."""

    @property
    def families(self) -> frozenset[str]: ...

    def codec(self, profile: CodecProfile) -> ErasureCodec:
        """Raises `ConfigError` for a family or parameters that it cannot do."""
        ...
