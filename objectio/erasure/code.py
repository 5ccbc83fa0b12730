"""The portable type: what the stripe pipeline calls, whichever driver computes.

A driver sees equal, non-empty shards and fills buffers. This type adds what every caller needs:
cutting and padding a stripe, checking of arguments, the driver's thread model, and passing through
what need not be computed. Data shards are never copied: they are views of the caller's buffer.

        buffer    |<------- stripe_bytes -------->|pad|      pad < k bytes, zeroed here
        shards    |   0   |   1   |   2   |   3       |      shard_length each, views

Mistakes of the calling code (a buffer too small, an index out of range) are `ValueError`; what can
happen to correct code is an `ObjectIOError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, ParamSpec, TypeVar

from typing_extensions import Buffer

from objectio import limits
from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import FAMILY_REPLICATE, CodecFactory, CodecProfile, ErasureCodec
from objectio.errors import ConfigError, InsufficientShards

_P = ParamSpec("_P")
_T = TypeVar("_T")
_ZEROS: Final = tuple(bytes(length) for length in range(limits.STRIPE_WIDTH_MAX))
_ONE_AT_A_TIME: Final = threading.Lock()


class ErasureCode:
    """One codec of one profile, safe to call from any thread.

    `lock` is what the handles of one SERIALIZE_ALL driver share; without it, all such codes of
    the process share one.
    """

    __slots__ = (
        "_encode",
        "_minimum",
        "_reconstruct",
        "_replicates",
        "guaranteed_losses",
        "k",
        "m",
        "profile",
        "width",
    )

    def __init__(
        self,
        codec: ErasureCodec,
        threads: ThreadModel,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self.profile: Final = codec.profile
        self.k: Final = codec.profile.data_shards
        self.m: Final = codec.profile.parity_shards
        self.width: Final = codec.profile.width
        self.guaranteed_losses: Final[int] = getattr(codec, "guaranteed_losses", self.m)
        """The most shards that may be lost, whichever they are. Any `width - guaranteed_losses`
        shards give the stripe back; of a maximum-distance-separable code that is any k."""
        self._replicates = codec.profile.family == FAMILY_REPLICATE
        if threads is ThreadModel.PARALLEL:
            self._encode = codec.encode
            self._minimum = codec.minimum_to_decode
            self._reconstruct = codec.reconstruct
            return
        if threads is ThreadModel.SERIALIZE_HANDLE:
            lock = threading.Lock()
        lock = lock or _ONE_AT_A_TIME
        self._encode = _serialized(codec.encode, lock)
        self._minimum = _serialized(codec.minimum_to_decode, lock)
        self._reconstruct = _serialized(codec.reconstruct, lock)

    def __repr__(self) -> str:
        return f"ErasureCode({self.profile})"

    def shard_length(self, stripe_bytes: int) -> int:
        """The bytes of each shard of a stripe of `stripe_bytes`: a k-th of it, rounded up."""
        return -(-stripe_bytes // self.k)

    def encode_stripe(
        self, buffer: memoryview, stripe_bytes: int, parity: memoryview | None = None
    ) -> list[memoryview]:
        """The k + m shards of the stripe at the start of `buffer`.

        `buffer` is writable and holds at least k shards: the pad behind the stripe is zeroed. The
        data shards are views of it. The parity shards are views of `parity`, which holds at least
        m shards, or else of a fresh buffer (copies of a replica are then the data shard itself).
        """
        k, m = self.k, self.m
        length = -(-stripe_bytes // k)
        padded = length * k
        if not 0 < stripe_bytes <= limits.STRIPE_SIZE_BYTES_MAX:
            raise ValueError(f"a stripe of {stripe_bytes} bytes is outside of the limits")
        if buffer.itemsize != 1 or len(buffer) < padded:
            raise ValueError(f"the buffer must hold {padded} bytes, it holds {buffer.nbytes}")
        if padded != stripe_bytes:
            buffer[stripe_bytes:padded] = _ZEROS[padded - stripe_bytes]
        shards = [buffer[start : start + length] for start in range(0, padded, length)]
        if parity is None:
            if self._replicates:
                return shards * (1 + m)
            parity = memoryview(bytearray(m * length))
        elif parity.itemsize != 1 or len(parity) < m * length:
            raise ValueError(f"parity must hold {m * length} bytes, it holds {parity.nbytes}")
        if m:
            coded = [parity[start : start + length] for start in range(0, m * length, length)]
            self._encode(shards, coded)
            shards += coded
        return shards

    def decode_stripe(
        self,
        shards: Mapping[int, Buffer],
        stripe_bytes: int,
        scratch: memoryview | None = None,
    ) -> list[Buffer]:
        """The k data shards in order: those of `shards` as they are, the missing ones rebuilt.

        The last of them end with the stripe's pad. Missing ones are views of `scratch` if that is
        given and holds them (m shards always do), else fresh. For large shards give one that is
        reused: the kernel's page faults on fresh memory can cost ten times the arithmetic.
        Raises `InsufficientShards`.
        """
        length = self._check_sizes(shards, stripe_bytes)
        missing = [index for index in range(self.k) if index not in shards]
        if not missing:
            return [shards[index] for index in range(self.k)]
        if len(missing) > self.m:
            raise InsufficientShards(
                f"{self.profile}: {len(shards)} shards are too few to decode, it takes {self.k}",
                have=len(shards),
                need=self.k,
            )
        if scratch is None:
            scratch = memoryview(bytearray(len(missing) * length))
        elif scratch.itemsize != 1 or len(scratch) < len(missing) * length:
            raise ValueError(
                f"scratch must hold {len(missing) * length} bytes, it holds {scratch.nbytes}"
            )
        rebuilt = {
            index: scratch[place * length : (place + 1) * length]
            for place, index in enumerate(missing)
        }
        self._reconstruct(shards, rebuilt)
        return [rebuilt[i] if i in rebuilt else shards[i] for i in range(self.k)]

    def reconstruct(
        self, shards: Mapping[int, Buffer], want: Collection[int], stripe_bytes: int
    ) -> dict[int, bytearray]:
        """The shards of `want`, data or parity, in fresh buffers; raises `InsufficientShards`."""
        length = self._check_sizes(shards, stripe_bytes)
        self._check_indices(want)
        result = {i: bytearray(shards[i]) for i in want if i in shards}
        missing = {i: bytearray(length) for i in want if i not in shards}
        if missing:
            self._reconstruct(shards, missing)
            result |= missing
        return result

    def minimum_to_decode(self, want: Collection[int], cost: Mapping[int, float]) -> frozenset[int]:
        """The cheapest available shards that give all of `want`; raises `InsufficientShards`.

        `cost` maps each available shard to what reading it costs, a number that is not negative.
        """
        self._check_indices(want)
        self._check_indices(cost)
        chosen = self._minimum(frozenset(want), cost)
        if not chosen <= cost.keys():
            raise InsufficientShards(f"{self.profile}: the codec asks for shards that are missing")
        return chosen

    def _check_sizes(self, shards: Mapping[int, Buffer], stripe_bytes: int) -> int:
        """The length that all of `shards` must have, and have."""
        if not 0 < stripe_bytes <= limits.STRIPE_SIZE_BYTES_MAX:
            raise ValueError(f"a stripe of {stripe_bytes} bytes is outside of the limits")
        self._check_indices(shards)
        length = self.shard_length(stripe_bytes)
        for index, shard in shards.items():
            size = memoryview(shard).nbytes
            if size != length:
                raise ValueError(f"shard {index} has {size} bytes instead of {length}")
        return length

    def _check_indices(self, indices: Collection[int]) -> None:
        if indices and not (min(indices) >= 0 and max(indices) < self.width):
            raise ValueError(f"{sorted(indices)} are not all shards of {self.profile}")


def _serialized(
    function: Callable[_P, _T], lock: AbstractContextManager[object]
) -> Callable[_P, _T]:
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with lock:
            return function(*args, **kwargs)

    return call


class OpenedFactory(NamedTuple):
    """One opened driver of a node: what `ErasureCodes` chooses from."""

    driver: str
    rank: int
    threads: ThreadModel
    factory: CodecFactory


class ErasureCodes:
    """Finds the code of a profile among the drivers that a node has opened.

    A stripe records a family, never a driver. Any driver that lists the family will do: the one
    that the caller prefers, else the highest rank (of equal ranks, the first by name). A driver
    that refuses the parameters is passed over.
    """

    def __init__(self, opened: Iterable[tuple[str, int, ThreadModel, CodecFactory]]) -> None:
        self._opened: Sequence[OpenedFactory] = sorted(
            (OpenedFactory(*entry) for entry in opened),
            key=lambda entry: (-entry.rank, entry.driver),
        )
        self._locks = {entry.driver: threading.Lock() for entry in self._opened}
        self._codes: dict[tuple[CodecProfile, str], ErasureCode] = {}

    @property
    def families(self) -> frozenset[str]:
        """What at least one driver lists."""
        return frozenset().union(*(entry.factory.families for entry in self._opened))

    def get(self, profile: CodecProfile, prefer: str = "") -> ErasureCode:
        """The code of `profile`, by the driver named `prefer` if that can; raises `ConfigError`."""
        code = self._codes.get((profile, prefer))
        if code is None:
            code = self._codes.setdefault((profile, prefer), self._make(profile, prefer))
        return code

    def _make(self, profile: CodecProfile, prefer: str) -> ErasureCode:
        refusals = []
        for entry in sorted(self._opened, key=lambda entry: entry.driver != prefer):
            if profile.family not in entry.factory.families:
                continue
            try:
                with self._locks[entry.driver]:
                    codec = entry.factory.codec(profile)
            except ConfigError as error:
                refusals.append(f"{entry.driver}: {error}")
                continue
            return ErasureCode(codec, entry.threads, self._locks[entry.driver])
        if refusals:
            raise ConfigError(f"no codec can do {profile} ({'; '.join(refusals)})")
        known = ", ".join(sorted(self.families)) or "none"
        raise ConfigError(
            f"no installed codec does the family of {profile}; there are: {known}",
            family=profile.family,
        )
