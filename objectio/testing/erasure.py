"""Conformance of an erasure codec.

    class TestMine(CodecConformance):
        threads = ThreadModel.PARALLEL          # as the driver declares

        @pytest.fixture
        def factory(self, tmp_path):
            return MyDriver.open(MyConfig(), make_context(tmp_path))

Families that the kernel knows must equal the reference codec and the golden vectors, byte for byte;
any other family is held to everything else. `profiles` and `lengths` may be narrowed or widened.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from typing_extensions import Buffer

from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import CodecFactory, CodecProfile, ErasureCodec
from objectio.erasure import ErasureCode
from objectio.erasure.reference import ReferenceFactory
from objectio.erasure.replicate import ReplicateFactory
from objectio.errors import ConfigError, InsufficientShards
from objectio.testing.golden import describe_shard, golden_vectors, seeded_data, seeded_shard

_GUARD_BYTES = 64
_GUARD = b"\xa5" * _GUARD_BYTES
_PATTERNS_EXHAUSTIVE_WIDTH_MAX = 9  # 6+3: 129 patterns of losses; wider ones are sampled
_PATTERNS_SAMPLED = 40
_ORACLES = (ReferenceFactory(), ReplicateFactory())

Shards = dict[int, bytes]


class Guarded:
    """Writable buffers with guard bytes on both sides; `contents` fails if one was touched."""

    def __init__(self, indices: Collection[int], length: int) -> None:
        self._whole = {index: bytearray(_GUARD + bytes(length) + _GUARD) for index in indices}
        self.buffers = {
            index: memoryview(whole)[_GUARD_BYTES : _GUARD_BYTES + length]
            for index, whole in self._whole.items()
        }

    def contents(self) -> Shards:
        for index, whole in self._whole.items():
            assert whole[:_GUARD_BYTES] == _GUARD, f"wrote before the buffer of shard {index}"
            assert whole[-_GUARD_BYTES:] == _GUARD, f"wrote behind the buffer of shard {index}"
        return {index: bytes(buffer) for index, buffer in self.buffers.items()}


def encode(codec: ErasureCodec, data: Sequence[Buffer]) -> list[bytes]:
    """All shards: the data and the parity that `codec` makes of it, in guarded buffers."""
    profile = codec.profile
    length = memoryview(data[0]).nbytes
    parity = Guarded(range(profile.data_shards, profile.width), length)
    codec.encode(data, list(parity.buffers.values()))
    return [*map(bytes, data), *parity.contents().values()]


def reconstruct(codec: ErasureCodec, shards: Mapping[int, Buffer], want: Collection[int]) -> Shards:
    """What `codec` rebuilds, in guarded buffers."""
    length = memoryview(next(iter(shards.values()))).nbytes
    rebuilt = Guarded(want, length)
    codec.reconstruct(shards, rebuilt.buffers)
    return rebuilt.contents()


def loss_patterns(width: int, losses_max: int) -> list[tuple[int, ...]]:
    """Sets of lost shards: every one where there are few shards, else each single one and a sample."""
    every = range(1, losses_max + 1)
    if width <= _PATTERNS_EXHAUSTIVE_WIDTH_MAX:
        return [p for count in every for p in itertools.combinations(range(width), count)]
    chooser = random.Random(f"{width} {losses_max}")
    sampled = [
        tuple(sorted(chooser.sample(range(width), chooser.choice(every))))
        for _ in range(_PATTERNS_SAMPLED)
    ]
    return [*((index,) for index in range(width)), *sampled] if losses_max else []


def total(cost: Mapping[int, float], chosen: Collection[int]) -> float:
    return sum(cost[index] for index in chosen)


class CodecConformance:
    """Subclass it as `Test…`, give it a fixture `factory`: an opened `CodecFactory`."""

    profiles: ClassVar[Sequence[tuple[int, int]]] = (
        (4, 2),
        (6, 3),
        (8, 4),
        (2, 1),
        (1, 1),
        (10, 4),
        (17, 3),
    )
    """(k, m) of every profile that is tested, for each family of the factory."""
    lengths: ClassVar[Sequence[int]] = (1, 2, 63, 64, 65, 1024, 4097)
    """Of a shard, in bytes."""
    threads: ClassVar[ThreadModel] = ThreadModel.PARALLEL
    """What the driver declares; the kernel calls it so from several threads."""

    @staticmethod
    def supports(profile: CodecProfile) -> bool:
        """Whether the family of `profile` has codes of its size; those without are passed over."""
        return True

    @staticmethod
    def losses_max(profile: CodecProfile) -> int:
        """How many losses the code survives, whichever they are; m of a Reed-Solomon code."""
        return profile.parity_shards

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "size" in metafunc.fixturenames:
            ids = [f"{k}+{m}" for k, m in cls.profiles]
            metafunc.parametrize("size", cls.profiles, ids=ids)
        if "length" in metafunc.fixturenames:
            metafunc.parametrize("length", cls.lengths)

    @pytest.fixture
    def factory(self) -> CodecFactory:
        raise NotImplementedError("a subclass provides the fixture `factory`")

    @pytest.fixture
    def codecs(self, factory: CodecFactory, size: tuple[int, int]) -> list[ErasureCodec]:
        """One codec of each family of the factory, with k and m of `size`."""
        return [factory.codec(profile) for profile in self._profiles_of(factory, size)]

    def _profiles_of(self, factory: CodecFactory, size: tuple[int, int]) -> list[CodecProfile]:
        every = [CodecProfile(family, *size) for family in sorted(factory.families)]
        return [profile for profile in every if self.supports(profile)]

    def test_every_family_listed_makes_codecs_of_it(
        self, factory: CodecFactory, size: tuple[int, int]
    ) -> None:
        assert factory.families, "a factory lists at least one family"
        supported = self._profiles_of(factory, size)
        assert supported, "no family has codes of this size"
        for profile in supported:
            assert factory.codec(profile).profile == profile

    def test_a_family_not_listed_is_refused(self, factory: CodecFactory) -> None:
        with pytest.raises(ConfigError):
            factory.codec(CodecProfile("no-such-family", *self.profiles[0]))

    @pytest.mark.parametrize(("k", "m"), [(0, 1), (-1, 2), (1, -1), (200, 100)])
    def test_impossible_parameters_are_refused(self, factory: CodecFactory, k: int, m: int) -> None:
        for family in factory.families:
            with pytest.raises(ConfigError):
                factory.codec(CodecProfile(family, k, m))

    def test_parity_equals_the_oracle(self, codecs: list[ErasureCodec], length: int) -> None:
        for codec in codecs:
            data = seeded_data(codec.profile, length)
            shards = encode(codec, data)
            assert shards[: codec.profile.data_shards] == data, "encode changed its input"
            for oracle in _ORACLES:
                if codec.profile.family in oracle.families:
                    assert shards == encode(oracle.codec(codec.profile), data)

    def test_equals_the_golden_vectors(self, factory: CodecFactory) -> None:
        for family in factory.families:
            for vector in golden_vectors(family):
                profile = CodecProfile(family, vector["data_shards"], vector["parity_shards"])
                data = seeded_data(profile, vector["length"], vector["seed"])
                shards = encode(factory.codec(profile), data)
                parity = [describe_shard(shard) for shard in shards[profile.data_shards :]]
                assert parity == vector["parity"], f"{profile} differs from the recorded bytes"

    def test_every_loss_is_rebuilt(self, codecs: list[ErasureCodec]) -> None:
        for codec in codecs:
            self._check_losses(codec, length=65)

    def test_losses_are_rebuilt_at_every_length(
        self, codecs: list[ErasureCodec], length: int
    ) -> None:
        for codec in codecs:
            shards = dict(enumerate(encode(codec, seeded_data(codec.profile, length))))
            patterns = loss_patterns(codec.profile.width, self.losses_max(codec.profile))
            for lost in patterns[:: 1 + len(patterns) // 5]:
                have = {i: shard for i, shard in shards.items() if i not in lost}
                assert reconstruct(codec, have, lost) == {i: shards[i] for i in lost}

    def _check_losses(self, codec: ErasureCodec, length: int) -> None:
        """From all that is left, and from no more than the codec asks for."""
        shards = dict(enumerate(encode(codec, seeded_data(codec.profile, length))))
        for lost in loss_patterns(codec.profile.width, self.losses_max(codec.profile)):
            expected = {index: shards[index] for index in lost}
            have = {index: shard for index, shard in shards.items() if index not in lost}
            assert reconstruct(codec, have, lost) == expected, f"{codec.profile} lost {lost}"
            chosen = codec.minimum_to_decode(frozenset(lost), dict.fromkeys(have, 1.0))
            assert chosen <= have.keys()
            fewest = {index: have[index] for index in sorted(chosen, reverse=True)}
            assert reconstruct(codec, fewest, lost) == expected, f"{codec.profile} lost {lost}"

    def test_one_lost_parity_shard_is_rebuilt_from_the_data(
        self, codecs: list[ErasureCodec]
    ) -> None:
        for codec in codecs:
            k = codec.profile.data_shards
            shards = encode(codec, seeded_data(codec.profile, 100))
            data = dict(enumerate(shards[:k]))
            for index in range(k, codec.profile.width):
                assert reconstruct(codec, data, [index]) == {index: shards[index]}

    def test_too_few_shards_are_refused(self, codecs: list[ErasureCodec]) -> None:
        for codec in codecs:
            profile = codec.profile
            shards = encode(codec, seeded_data(profile, 16))
            few = {
                i: shards[i] for i in range(profile.width - profile.data_shards + 1, profile.width)
            }
            want = frozenset(range(profile.width)).difference(few)
            with pytest.raises(InsufficientShards):
                codec.minimum_to_decode(want, dict.fromkeys(few, 1.0))
            with pytest.raises(InsufficientShards):
                codec.reconstruct(few, {index: bytearray(16) for index in want})

    @pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "read-only slice"])
    def test_any_buffer_is_read_and_left_as_it_was(
        self, codecs: list[ErasureCodec], kind: str
    ) -> None:
        for codec in codecs:
            profile = codec.profile
            data = seeded_data(profile, 200)
            lent = [lend(shard, kind) for shard in data]
            shards = encode(codec, lent)
            assert shards == encode(codec, data)
            assert list(map(bytes, lent)) == data, "encode changed its input"
            have = {i: lend(shards[i], kind) for i in range(1, profile.width)}
            assert reconstruct(codec, have, [0]) == {0: shards[0]}
            assert {i: bytes(shard) for i, shard in have.items()} == dict(enumerate(shards[1:], 1))

    def test_lent_buffers_are_not_kept(self, codecs: list[ErasureCodec]) -> None:
        """A bytearray can be resized only while nobody holds a view of it."""
        for codec in codecs:
            profile = codec.profile
            data = [bytearray(shard) for shard in seeded_data(profile, 64)]
            parity = [bytearray(64) for _ in range(profile.parity_shards)]
            codec.encode(data, parity)
            have = dict(enumerate([*data, *parity]))
            target = have.pop(0)
            codec.reconstruct(have, {0: target})
            for buffer in (*data, *parity):
                buffer.append(0)

    def test_what_was_in_the_output_does_not_matter(self, codecs: list[ErasureCodec]) -> None:
        for codec in codecs:
            profile = codec.profile
            data = seeded_data(profile, 300)
            expected = encode(codec, data)
            dirty = [bytearray(b"\xff" * 300) for _ in range(profile.parity_shards)]
            codec.encode(data, dirty)
            assert [*data, *map(bytes, dirty)] == expected
            target = bytearray(b"\xff" * 300)
            codec.reconstruct({i: expected[i] for i in range(1, profile.width)}, {0: target})
            assert target == expected[0]

    def test_instances_and_threads_agree(
        self, factory: CodecFactory, size: tuple[int, int]
    ) -> None:
        """Called as the kernel calls it: through `ErasureCode`, with the declared thread model."""
        for profile in self._profiles_of(factory, size):
            codes = [ErasureCode(factory.codec(profile), self.threads) for _ in range(2)]
            stripes = [seeded_shard("threads", n, 5000) for n in range(16)]
            alone = [_round_trip(codes[0], stripe) for stripe in stripes]
            with ThreadPoolExecutor(4) as pool:
                jobs = [(codes[n % 2], stripe) for n, stripe in enumerate(stripes)]
                together = list(pool.map(lambda job: _round_trip(*job), jobs))
            assert together == alone

    def test_minimum_to_decode_is_minimal(self, codecs: list[ErasureCodec]) -> None:
        """None of the chosen shards can be left out."""
        for codec in codecs:
            for want, cost in _demands(codec.profile, self.losses_max(codec.profile)):
                chosen = codec.minimum_to_decode(want, cost)
                assert chosen <= cost.keys()
                for index in chosen:
                    without = {i: cost[i] for i in chosen if i != index}
                    with pytest.raises(InsufficientShards):
                        codec.minimum_to_decode(want, without)

    def test_minimum_to_decode_prefers_cheap(self, codecs: list[ErasureCodec]) -> None:
        """Taking any available shard away never gives a cheaper answer than the one given."""
        for codec in codecs:
            for want, cost in _demands(codec.profile, self.losses_max(codec.profile)):
                best = total(cost, codec.minimum_to_decode(want, cost))
                for index in cost:
                    fewer = {i: c for i, c in cost.items() if i != index}
                    try:
                        other = codec.minimum_to_decode(want, fewer)
                    except InsufficientShards:
                        continue
                    assert best <= total(fewer, other)

    def test_minimum_to_decode_avoids_a_costly_shard(self, codecs: list[ErasureCodec]) -> None:
        for codec in codecs:
            profile = codec.profile
            if self.losses_max(profile) < 2:
                continue  # one shard is lost, so all others are needed
            for dear in range(1, profile.width):
                cost = dict.fromkeys(range(1, profile.width), 1.0) | {dear: 1000.0}
                assert dear not in codec.minimum_to_decode(frozenset({0}), cost)

    def test_what_is_there_is_read_as_it_is(self, codecs: list[ErasureCodec]) -> None:
        """With all shards at one cost, the data is read and nothing is computed."""
        for codec in codecs:
            cost = dict.fromkeys(range(codec.profile.width), 1.0)
            data = frozenset(range(codec.profile.data_shards))
            assert codec.minimum_to_decode(data, cost) == data
            for index in range(codec.profile.width):
                chosen = codec.minimum_to_decode(frozenset({index}), cost)
                assert len(chosen) == 1
                assert codec.profile.data_shards == 1 or chosen == {index}


def lend(shard: bytes, kind: str) -> Buffer:
    """`shard` as one of the kinds of buffers that callers have."""
    match kind:
        case "bytes":
            return shard
        case "bytearray":
            return bytearray(shard)
        case "memoryview":
            return memoryview(bytearray(b"xyz" + shard + b"xyz"))[3:-3]
        case _:
            return memoryview(b"xyz" + shard + b"xyz")[3:-3]


def _round_trip(code: ErasureCode, stripe: bytes) -> tuple[list[bytes], list[bytes]]:
    length = code.shard_length(len(stripe))
    buffer = memoryview(bytearray(stripe.ljust(length * code.k, b"?")))
    shards = [bytes(shard) for shard in code.encode_stripe(buffer, len(stripe))]
    have = dict(enumerate(shards))
    del have[0]
    decoded = [bytes(shard) for shard in code.decode_stripe(have, len(stripe))]
    assert b"".join(decoded)[: len(stripe)] == stripe
    return shards, decoded


def _demands(
    profile: CodecProfile, losses_max: int
) -> Iterator[tuple[frozenset[int], dict[int, float]]]:
    """Wanted shards, and the cost of each available one: some lost, unequal whole costs."""
    chooser = random.Random(str(profile))
    for lost in loss_patterns(profile.width, losses_max)[:60]:
        cost = {i: float(chooser.randint(1, 9)) for i in range(profile.width) if i not in lost}
        yield frozenset(lost), cost
        yield frozenset(range(profile.data_shards)), cost
        yield frozenset({chooser.choice(list(cost))}), cost
