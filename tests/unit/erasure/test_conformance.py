"""The conformance kit finds what is wrong: each broken codec here fails the tests made for it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from objectio.abc.erasure import *
from objectio.erasure import matrix
from objectio.erasure.reference import ReferenceCodec, ReferenceFactory
from objectio.testing.erasure import CodecConformance

{broken}

class Factory(ReferenceFactory):
    def codec(self, profile):
        return Broken(profile)

class TestBroken(CodecConformance):
    profiles = ((4, 2),)
    lengths = (1, 64, 100)

    @pytest.fixture
    def factory(self):
        return Factory()
"""

BROKEN = {
    "nothing": (
        """
        Broken = ReferenceCodec
        """,
        set(),
    ),
    "one byte of parity": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                super().encode(data, parity)
                parity[-1][-1] ^= 1
        """,
        {"test_parity_equals_the_oracle", "test_equals_the_golden_vectors"},
    ),
    "another matrix, in itself right": (
        """
        class Broken(ReferenceCodec):
            def __init__(self, profile):
                super().__init__(profile)
                k = profile.data_shards
                self._generator = (*self._generator[:k], *reversed(self._generator[k:]))
        """,
        {"test_parity_equals_the_oracle", "test_equals_the_golden_vectors"},
    ),
    "one byte of a rebuilt shard": (
        """
        class Broken(ReferenceCodec):
            def reconstruct(self, shards, want):
                super().reconstruct(shards, want)
                if len(want) == 2:
                    min(want.items())[1][0] ^= 0x80
        """,
        {"test_every_loss_is_rebuilt", "test_losses_are_rebuilt_at_every_length"},
    ),
    "lost parity is not rebuilt": (
        """
        class Broken(ReferenceCodec):
            def reconstruct(self, shards, want):
                k = self.profile.data_shards
                super().reconstruct(shards, {i: b for i, b in want.items() if i < k})
        """,
        {"test_one_lost_parity_shard_is_rebuilt_from_the_data", "test_every_loss_is_rebuilt"},
    ),
    "writes behind the buffer": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                super().encode(data, parity)
                if isinstance(parity[0], memoryview):
                    parity[0].obj[64 + len(parity[0])] = 0
        """,
        {"test_parity_equals_the_oracle", "test_every_loss_is_rebuilt"},
    ),
    "changes its input": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                super().encode(data, parity)
                if not memoryview(data[0]).readonly:
                    memoryview(data[0])[0] ^= 1
        """,
        {"test_any_buffer_is_read_and_left_as_it_was"},
    ),
    "needs bytes": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                super().encode([b"".join([shard.rjust(0)]) for shard in data], parity)
        """,
        {"test_any_buffer_is_read_and_left_as_it_was"},
    ),
    "keeps a buffer": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                super().encode(data, parity)
                self.kept = memoryview(data[0])
        """,
        {"test_lent_buffers_are_not_kept"},
    ),
    "adds to what is in the buffer": (
        """
        class Broken(ReferenceCodec):
            def encode(self, data, parity):
                before = [bytes(target) for target in parity]
                super().encode(data, parity)
                for target, old in zip(parity, before):
                    target[:] = bytes(a ^ b for a, b in zip(target, old))
        """,
        {"test_what_was_in_the_output_does_not_matter"},
    ),
    "state between calls": (
        """
        class Broken(ReferenceCodec):
            calls = 0
            def encode(self, data, parity):
                self.calls += 1
                super().encode(data, parity)
                if self.calls > 8:
                    parity[0][0] ^= 1
        """,
        {"test_instances_and_threads_agree"},
    ),
    "guesses when there are too few": (
        """
        class Broken(ReferenceCodec):
            def reconstruct(self, shards, want):
                if len(shards) >= self.profile.data_shards:
                    super().reconstruct(shards, want)
        """,
        {"test_too_few_shards_are_refused"},
    ),
    "reads everything": (
        """
        class Broken(ReferenceCodec):
            def minimum_to_decode(self, want, cost):
                super().minimum_to_decode(want, cost)
                return frozenset(cost)
        """,
        {
            "test_minimum_to_decode_is_minimal",
            "test_minimum_to_decode_avoids_a_costly_shard",
            "test_what_is_there_is_read_as_it_is",
        },
    ),
    "blind to cost": (
        """
        class Broken(ReferenceCodec):
            def minimum_to_decode(self, want, cost):
                return super().minimum_to_decode(want, dict.fromkeys(cost, 1))
        """,
        {"test_minimum_to_decode_prefers_cheap", "test_minimum_to_decode_avoids_a_costly_shard"},
    ),
    "does any family": (
        """
        class Broken(ReferenceCodec):
            def __init__(self, profile):
                super().__init__(CodecProfile(FAMILY_RS_CAUCHY, 4, 2))
        """,
        {
            "test_every_family_listed_makes_codecs_of_it",
            "test_a_family_not_listed_is_refused",
            "test_impossible_parameters_are_refused",
        },
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_codec_fails(pytester, fault):
    broken, expected = BROKEN[fault]
    source = "\n".join(line.removeprefix("        ") for line in broken.splitlines())
    pytester.makepyfile(SUITE.format(broken=source))
    reports = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:asyncio").getreports(
        "pytest_runtest_logreport"
    )
    failed = {report.nodeid.split("::")[-1].split("[")[0] for report in reports if report.failed}
    assert expected <= failed
    assert bool(expected) == bool(failed)
    assert any(report.passed and report.when == "call" for report in reports)
