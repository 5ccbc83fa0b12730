"""The portable type: cutting, padding, checks, thread models; and finding the driver."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio import limits
from objectio.abc.driver import ThreadModel
from objectio.abc.erasure import FAMILY_REPLICATE, FAMILY_RS_CAUCHY, CodecProfile
from objectio.erasure import ErasureCode, ErasureCodes
from objectio.erasure.reference import ReferenceCodec, ReferenceFactory
from objectio.erasure.replicate import ReplicateFactory
from objectio.errors import ConfigError, InsufficientShards
from objectio.testing.golden import seeded_shard

PROFILE = CodecProfile(FAMILY_RS_CAUCHY, 4, 2)
COPIES = CodecProfile(FAMILY_REPLICATE, 1, 2)


@pytest.fixture
def code():
    return ErasureCode(ReferenceCodec(PROFILE), ThreadModel.PARALLEL)


def stripe_buffer(code, stripe):
    """A buffer whose pad is not zero."""
    return memoryview(bytearray(stripe.ljust(code.shard_length(len(stripe)) * code.k, b"\xff")))


def encoded(code, stripe):
    shards = code.encode_stripe(stripe_buffer(code, stripe), len(stripe))
    return {index: bytes(shard) for index, shard in enumerate(shards)}


class TestEncode:
    def test_data_shards_are_views_of_the_buffer(self, code):
        buffer = stripe_buffer(code, b"abcdefghijkl")
        shards = code.encode_stripe(buffer, 12)
        assert [bytes(shard) for shard in shards[:4]] == [b"abc", b"def", b"ghi", b"jkl"]
        buffer[0] = ord("z")
        assert bytes(shards[0]) == b"zbc"

    def test_the_pad_is_zeroed_and_nothing_behind_it(self, code):
        buffer = memoryview(bytearray(b"\xff" * 20))
        shards = code.encode_stripe(buffer, 9)
        assert [len(shard) for shard in shards] == [3] * 6
        assert bytes(buffer) == b"\xff" * 9 + b"\0" * 3 + b"\xff" * 8

    def test_parity_goes_into_the_given_buffer(self, code):
        parity = bytearray(b"\xff" * 8)
        shards = code.encode_stripe(stripe_buffer(code, b"abcdefghijkl"), 12, memoryview(parity))
        assert bytes(shards[4]) + bytes(shards[5]) == parity[:6]
        assert encoded(code, b"abcdefghijkl") == dict(enumerate(map(bytes, shards)))
        assert parity[6:] == b"\xff\xff"

    def test_a_stripe_of_one_byte(self, code):
        shards = encoded(code, b"x")
        assert [shards[index] for index in range(4)] == [b"x", b"\0", b"\0", b"\0"]

    @pytest.mark.parametrize("size", [0, -1, limits.STRIPE_SIZE_BYTES_MAX + 1])
    def test_sizes_outside_of_the_limits_are_refused(self, code, size):
        with pytest.raises(ValueError, match="limits"):
            code.encode_stripe(memoryview(bytearray(8)), size)

    def test_buffers_that_are_too_small_are_refused(self, code):
        with pytest.raises(ValueError, match="must hold 12"):
            code.encode_stripe(memoryview(bytearray(11)), 9)
        with pytest.raises(ValueError, match="must hold 6"):
            code.encode_stripe(memoryview(bytearray(12)), 9, memoryview(bytearray(5)))
        with pytest.raises(ValueError, match="must hold"):
            code.encode_stripe(memoryview(bytearray(64)).cast("I"), 9)

    def test_copies_share_the_memory_of_the_data(self):
        copies = ErasureCode(ReplicateFactory().codec(COPIES), ThreadModel.PARALLEL)
        buffer = memoryview(bytearray(b"abc"))
        shards = copies.encode_stripe(buffer, 3)
        buffer[:] = b"xyz"
        assert [bytes(shard) for shard in shards] == [b"xyz"] * 3
        parity = bytearray(6)
        copies.encode_stripe(buffer, 3, memoryview(parity))
        assert parity == b"xyzxyz"

    def test_without_parity_a_stripe_is_only_cut(self):
        striped = ErasureCode(
            ReferenceCodec(CodecProfile(FAMILY_RS_CAUCHY, 2, 0)), ThreadModel.PARALLEL
        )
        assert encoded(striped, b"abcd") == {0: b"ab", 1: b"cd"}


class TestGuaranteedLosses:
    def test_any_m_of_a_code_that_says_nothing(self, code):
        assert code.guaranteed_losses == 2

    def test_what_the_codec_says(self):
        class Cautious(ReferenceCodec):
            guaranteed_losses = 1

        assert ErasureCode(Cautious(PROFILE), ThreadModel.PARALLEL).guaranteed_losses == 1


class TestDecode:
    @given(st.binary(min_size=1, max_size=200), st.sets(st.integers(0, 5), max_size=2))
    def test_any_two_losses_give_the_stripe_back(self, stripe, lost):
        code = ErasureCode(ReferenceCodec(PROFILE), ThreadModel.PARALLEL)
        have = {i: shard for i, shard in encoded(code, stripe).items() if i not in lost}
        data = b"".join(map(bytes, code.decode_stripe(have, len(stripe))))
        assert data[: len(stripe)] == stripe
        assert not any(data[len(stripe) :])

    def test_shards_that_are_there_are_passed_through(self, code):
        shards = encoded(code, b"some stripe")
        data = code.decode_stripe(shards, 11)
        assert all(data[i] is shards[i] for i in range(4))
        del shards[2]
        assert [code.decode_stripe(shards, 11)[i] is shards.get(i) for i in range(4)] == [
            True,
            True,
            False,
            True,
        ]

    def test_missing_shards_are_rebuilt_in_the_scratch_buffer(self, code):
        shards = encoded(code, b"some stripe")
        have = {i: shards[i] for i in (0, 2, 4, 5)}
        scratch = bytearray(b"\xff" * 8)
        data = code.decode_stripe(have, 11, memoryview(scratch))
        assert b"".join(map(bytes, data)) == b"some stripe\0"
        assert scratch == shards[1] + shards[3] + b"\xff\xff"
        with pytest.raises(ValueError, match="scratch must hold 6 bytes"):
            code.decode_stripe(have, 11, memoryview(bytearray(5)))

    def test_more_data_lost_than_there_is_parity(self, code):
        shards = encoded(code, b"some stripe")
        with pytest.raises(InsufficientShards):
            code.decode_stripe({0: shards[0]}, 11, memoryview(bytearray(6)))

    def test_reconstruct_gives_lost_parity_and_copies_what_is_there(self, code):
        shards = encoded(code, b"some stripe")
        have = {i: shards[i] for i in (0, 2, 3, 4)}
        rebuilt = code.reconstruct(have, [0, 1, 5], 11)
        assert rebuilt == {i: shards[i] for i in (0, 1, 5)}
        assert all(type(shard) is bytearray for shard in rebuilt.values())

    def test_too_few_shards(self, code):
        shards = encoded(code, b"some stripe")
        have = {i: shards[i] for i in (0, 2, 5)}
        with pytest.raises(InsufficientShards) as caught:
            code.decode_stripe(have, 11)
        assert caught.value.fields == {"have": 3, "need": 4}
        with pytest.raises(InsufficientShards):
            code.minimum_to_decode({1}, dict.fromkeys(have, 1))

    def test_mistakes_of_the_caller(self, code):
        shards = encoded(code, b"some stripe")
        with pytest.raises(ValueError, match="shard 3 has 2 bytes instead of 3"):
            code.decode_stripe(shards | {3: b"xx"}, 11)
        with pytest.raises(ValueError, match="not all shards of"):
            code.decode_stripe(shards | {6: b"xxx"}, 11)
        with pytest.raises(ValueError, match="not all shards of"):
            code.reconstruct(shards, [-1], 11)
        with pytest.raises(ValueError, match="limits"):
            code.reconstruct(shards, [0], 0)
        with pytest.raises(ValueError, match="not all shards of"):
            code.minimum_to_decode({0}, {7: 1.0})


class Watched(ReferenceCodec):
    """Notes how many calls are inside at once; each stays until two were, or for `patience`."""

    guard = threading.Lock()
    inside = most = 0
    two_inside = threading.Event()
    patience = 0.0

    def encode(self, data, parity):
        kind = type(self)
        with kind.guard:
            kind.inside += 1
            kind.most = max(kind.most, kind.inside)
            if kind.inside == 2:
                kind.two_inside.set()
        kind.two_inside.wait(kind.patience)
        with kind.guard:
            kind.inside -= 1
        super().encode(data, parity)


def most_at_once(codes, patience):
    Watched.most, Watched.patience = 0, patience
    Watched.two_inside.clear()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: encoded(codes[n % len(codes)], b"stripe"), range(8)))
    return Watched.most


class WatchedFactory(ReferenceFactory):
    def codec(self, profile):
        return Watched(profile)


class TestThreadModel:
    def codes(self, threads):
        codes = ErasureCodes([("watched", 0, threads, WatchedFactory())])
        return [codes.get(PROFILE), codes.get(CodecProfile(FAMILY_RS_CAUCHY, 2, 1))]

    def test_parallel(self):
        assert most_at_once(self.codes(ThreadModel.PARALLEL)[:1], patience=10) >= 2

    def test_serialize_handle(self):
        codes = self.codes(ThreadModel.SERIALIZE_HANDLE)
        assert most_at_once(codes[:1], patience=0.01) == 1
        assert most_at_once(codes, patience=10) == 2

    def test_serialize_all(self):
        assert most_at_once(self.codes(ThreadModel.SERIALIZE_ALL), patience=0.01) == 1
        alone = [ErasureCode(Watched(PROFILE), ThreadModel.SERIALIZE_ALL) for _ in range(2)]
        assert most_at_once(alone, patience=0.01) == 1


class Narrow(ReferenceFactory):
    """Refuses more than three data shards."""

    def codec(self, profile):
        if profile.data_shards > 3:
            raise ConfigError("three data shards at most")
        return Watched(profile)


class TestErasureCodes:
    def codes(self):
        return ErasureCodes(
            [
                ("reference", 0, ThreadModel.PARALLEL, ReferenceFactory()),
                ("narrow", 100, ThreadModel.PARALLEL, Narrow()),
                ("replicate", 0, ThreadModel.PARALLEL, ReplicateFactory()),
            ]
        )

    def kind(self, code):
        return type(code._encode.__self__)

    def test_the_highest_rank_that_does_the_profile(self):
        codes = self.codes()
        assert self.kind(codes.get(CodecProfile(FAMILY_RS_CAUCHY, 2, 1))) is Watched
        assert self.kind(codes.get(PROFILE)) is ReferenceCodec
        assert codes.get(COPIES).profile == COPIES

    def test_the_preferred_driver_goes_first_if_it_can(self):
        codes = self.codes()
        small = CodecProfile(FAMILY_RS_CAUCHY, 2, 1)
        assert self.kind(codes.get(small, prefer="reference")) is ReferenceCodec
        assert codes.get(COPIES, prefer="narrow").profile == COPIES

    def test_a_code_is_made_once(self):
        codes = self.codes()
        assert codes.get(PROFILE) is codes.get(CodecProfile(FAMILY_RS_CAUCHY, 4, 2))

    def test_what_nobody_can_do_says_why(self):
        codes = self.codes()
        with pytest.raises(ConfigError, match="there are: replicate, rs-cauchy"):
            codes.get(CodecProfile("xor", 2, 1))
        with pytest.raises(ConfigError, match="narrow: three data shards at most; reference: "):
            codes.get(CodecProfile(FAMILY_RS_CAUCHY, 60, 40))
        with pytest.raises(ConfigError, match="there are: none"):
            ErasureCodes([]).get(PROFILE)


def test_seeded_shards_are_those_of_the_document():
    """`printf objectio/0 | openssl dgst -shake128 -xoflen 8`: another implementation of FIPS 202."""
    assert seeded_shard("objectio", 0, 8).hex() == "510153a723bcfb9b"
