"""Locally repairable codes: what to read, and the arithmetic.

A set of shards gives back what is in the span of their rows. There are two ways to get there that
matter: stay within the local groups of what is wanted, or take k independent shards and compute
anything. Of a maximally recoverable code there is no third (a set of lower rank spans no more than
its local groups do), so the cheaper of the two is the cheapest of all. Of any other code fewer
than k may do by accident: what is not needed is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from typing_extensions import Buffer

from objectio.abc.erasure import CodecProfile
from objectio.errors import InsufficientShards
from objectio_ec_lrc import coefficients
from objectio_ec_lrc.layout import FAMILIES, Layout
from objectio_ec_lrc.library import Library, Product, load
from objectio_ec_lrc.span import Span

PATTERNS_CACHED_MAX: Final = 1024
"""Of one codec. 6+2+2 has 385 patterns of up to four losses; a table of it has at most 768 bytes."""


class _Decoding(NamedTuple):
    sources: tuple[int, ...]
    product: Product


class LrcCodec:
    """One profile. Has no state but caches, so any threads may call it at once."""

    def __init__(self, library: Library, profile: CodecProfile) -> None:
        self._profile = profile
        self._library = library
        self._layout = Layout.of(profile)
        self._generator = coefficients.generator(self._layout)
        self._k = profile.data_shards
        self._encoding = Product(library, self._generator[self._k :])
        self._decoding = lru_cache(maxsize=PATTERNS_CACHED_MAX)(self._build_decoding)
        self._global = lru_cache(maxsize=PATTERNS_CACHED_MAX)(self._find_global)

    @property
    def profile(self) -> CodecProfile:
        return self._profile

    @property
    def guaranteed_losses(self) -> int:
        """The most shards that may be lost, whichever they are: g + 1."""
        return coefficients.guaranteed_losses(self._layout)

    def encode(self, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        self._encoding.fill(data, parity)

    def minimum_to_decode(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int]:
        """At equal cost the local way, and there reading what is wanted as it is."""
        local = self._local(want, cost)
        order = sorted(cost, key=lambda index: (cost[index], index not in want, index))
        if local is not None and _total(local, cost) <= _total(order[: self._k], cost):
            return local  # no k shards cost less
        global_ = self._global(want, tuple(order))
        if global_ is not None and (local is None or _total(global_, cost) < _total(local, cost)):
            return global_
        if local is None:
            raise InsufficientShards(
                f"{self._profile}: the {len(order)} shards that are available do not give "
                f"{sorted(want - cost.keys())}",
                have=len(order),
                need=self._k,
            )
        return local

    def reconstruct(self, shards: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        if not want:
            return
        sources, product = self._decoding(tuple(shards), tuple(want))
        product.fill([shards[index] for index in sources], list(want.values()))

    def _local(self, want: frozenset[int], cost: Mapping[int, float]) -> frozenset[int] | None:
        """The cheapest set that stays within the local groups; None if that does not give all."""
        chosen = want & self._layout.globals_
        if not chosen <= cost.keys():
            return None
        for group in self._layout.groups:
            if wanted := want & group:
                best = self._within(group, wanted, cost)
                if best is None:
                    return None
                chosen |= best
        return chosen

    @staticmethod
    def _within(
        group: frozenset[int], wanted: frozenset[int], cost: Mapping[int, float]
    ) -> frozenset[int] | None:
        """What is wanted of a group as it is, or all of the group but one, whichever costs less."""
        missing = group - cost.keys()
        if len(missing) > 1:
            return None if wanted & missing else wanted
        left_out = missing or {max(group, key=lambda index: (cost[index], index))}
        around = group - left_out
        if wanted & missing or _total(around, cost) < _total(wanted, cost):
            return around
        return wanted

    def _find_global(self, want: frozenset[int], order: tuple[int, ...]) -> frozenset[int] | None:
        """Those of the first independent shards that give what is wanted; None if they do not.

        In an order of ascending cost no other k independent shards cost less: independent rows are
        a matroid, for which the greedy choice is the best. Each row is made of independent ones in
        one way only, so none of those with a factor can be left out.
        """
        span = Span(self._k)
        taken = [index for index in order if span.add(self._generator[index])]
        chosen: set[int] = set()
        for index in want:
            factors = span.express(self._generator[index])
            if factors is None:
                return None
            chosen.update(source for source, factor in zip(taken, factors, strict=True) if factor)
        return frozenset(chosen)

    def _build_decoding(self, given: tuple[int, ...], want: tuple[int, ...]) -> _Decoding:
        chosen = self.minimum_to_decode(frozenset(want), dict.fromkeys(given, 1.0))
        span = Span(self._k)
        sources = [index for index in sorted(chosen) if span.add(self._generator[index])]
        rows = [span.express(self._generator[index]) for index in want]
        return _Decoding(tuple(sources), Product(self._library, [row for row in rows if row]))


def _total(shards: Iterable[int], cost: Mapping[int, float]) -> float:
    return sum(cost[index] for index in shards)


class LrcFactory:
    """Loads the library; makes codecs of the families of one to sixteen local groups."""

    def __init__(self) -> None:
        self._library = load()

    @property
    def families(self) -> frozenset[str]:
        return frozenset(FAMILIES)

    def codec(self, profile: CodecProfile) -> LrcCodec:
        return LrcCodec(self._library, profile)
