"""The codec conforms, its bytes are those on record, and its library is found as it should be."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from objectio_ec_lrc import codec, coefficients, library
from objectio_ec_lrc.layout import FAMILIES, Layout
from objectio_ec_lrc.plugin import objectio_register_codecs

from objectio.abc.driver import NoConfig
from objectio.abc.erasure import FAMILY_LRC_CAUCHY, CodecProfile
from objectio.errors import ConfigError, DriverUnavailable
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance, encode, reconstruct
from objectio.testing.golden import LENGTHS, make_vector, seeded_data

(DRIVER,) = objectio_register_codecs()
VECTORS = Path(__file__).parent / "vectors.json"
GOLDEN = [  # k, l, g
    (6, 2, 2),
    (4, 2, 2),
    (8, 2, 2),
    (12, 2, 2),
    (9, 3, 2),
    (7, 3, 2),
    (5, 1, 3),
    (6, 3, 0),
    (1, 1, 0),
    (16, 16, 1),
    (10, 2, 3),
    (11, 2, 4),
    (8, 2, 5),
    (12, 3, 3),
    (10, 3, 4),
    (15, 4, 3),
    (10, 4, 4),
    (15, 5, 3),
    (18, 6, 3),
    (20, 4, 4),
    (48, 8, 8),
]


def exists(profile):
    return FAMILIES[profile.family] <= min(profile.data_shards, profile.parity_shards)


class TestLrc(CodecConformance):
    threads = DRIVER.threads
    profiles = (*CodecConformance.profiles, (6, 4), (9, 5), (17, 17))
    lengths = (1, 63, 64, 1025)

    @pytest.fixture
    def factory(self, tmp_path):
        return DRIVER.open(NoConfig(), make_context(tmp_path))

    @staticmethod
    def supports(profile):
        return exists(profile) and coefficients.maximally_recoverable(Layout.of(profile))

    @staticmethod
    def losses_max(profile):
        return coefficients.guaranteed_losses(Layout.of(profile))


class TestBeyondTheSearch(TestLrc):
    """Codes that are not maximally recoverable: to find the cheapest set of all is hard there."""

    profiles = ((16, 5), (12, 7), (17, 17))
    test_minimum_to_decode_prefers_cheap = None

    @staticmethod
    def supports(profile):
        return exists(profile) and not coefficients.maximally_recoverable(Layout.of(profile))


@pytest.fixture(scope="module")
def lrc():
    return codec.LrcFactory()


def test_the_families_say_how_many_local_groups(lrc):
    assert lrc.families == {f"lrc-cauchy-0x11d-l{count}" for count in range(1, 17)}
    assert Layout.of(CodecProfile("lrc-cauchy-0x11d-l2", 6, 4)) == Layout(6, 2, 2)
    assert Layout(6, 2, 2).profile == CodecProfile("lrc-cauchy-0x11d-l2", 6, 4)


@pytest.mark.parametrize(
    ("family", "k", "m", "why"),
    [
        ("lrc-cauchy-0x11d-l2", 6, 1, "as many parity shards"),
        ("lrc-cauchy-0x11d-l4", 3, 6, "as many data shards"),
        ("lrc-cauchy-0x11d-l2", 60, 5, "more than the 64"),
        ("lrc-cauchy-0x11d-l17", 20, 20, "this codec does"),
    ],
)
def test_what_cannot_be_is_refused(lrc, family, k, m, why):
    with pytest.raises(ConfigError, match=why):
        lrc.codec(CodecProfile(family, k, m))


def test_groups_are_runs_of_nearly_equal_length():
    layout = Layout(8, 3, 1)
    assert layout.groups == ({0, 1, 2, 8}, {3, 4, 5, 9}, {6, 7, 10})
    assert layout.globals_ == {11}


# The bytes.


def product(a, b):
    """In GF(2^8) by 0x11d, bit by bit: shares nothing with the kernel's tables."""
    total = 0
    while b:
        total ^= a * (b & 1)
        a = a << 1 ^ (a >> 7) * 0x11D
        b >>= 1
    return total


def quotient(a, b):
    return next(value for value in range(256) if product(b, value) == a)


def power(exponent):
    value = 1
    for _ in range(exponent % 255):
        value = product(value, 2)
    return value


def phi(exponent):
    return quotient(power(exponent), power(exponent) ^ 1)


@pytest.mark.parametrize(
    ("k", "l", "g", "steps"),
    [
        (6, 2, 2, (0, 5)),
        (7, 3, 2, (0, 5)),
        (12, 2, 3, (0, 36, 145)),
        (20, 4, 4, (0, 9, 18, 27)),
        (15, 2, 3, (0, 15, 30)),
    ],
)
def test_the_matrix_is_the_one_that_is_documented(k, l, g, steps):  # noqa: E741
    """Written from the text of the contract, `objectio.abc.erasure`."""
    layout = Layout(k, l, g)
    expected = [[int(row == column) for column in range(k)] for row in range(k)]
    where = [(i, p) for i, data in enumerate(layout.group_data) for p in range(len(data))]
    expected += [[int(i == group) for i, _ in where] for group in range(l)]
    x = [0, 1, *(phi(1 - t) for t in range(2, g))]
    expected += [
        [quotient(power(i * steps[t]), x[t] ^ phi(p + 1)) for i, p in where] for t in range(g)
    ]
    assert [list(row) for row in coefficients.generator(layout)] == expected


def test_the_local_parity_is_the_exclusive_or(lrc):
    six = lrc.codec(Layout(6, 2, 2).profile)
    shards = encode(six, seeded_data(six.profile, 100))
    assert shards[6] == bytes(a ^ b ^ c for a, b, c in zip(*shards[:3], strict=True))
    assert shards[7] == bytes(a ^ b ^ c for a, b, c in zip(*shards[3:6], strict=True))


def recorded():
    return json.loads(VECTORS.read_text("ascii"))


def test_the_vectors_are_what_is_made_today(lrc):
    """They are never changed: shards on disks have these bytes."""
    expected = [(Layout(*size).profile, length) for size in GOLDEN for length in LENGTHS]
    assert len(recorded()) == len(expected)
    for entry, (profile, length) in zip(recorded(), expected, strict=True):
        made = {"family": profile.family} | make_vector(lrc.codec(profile), length)
        assert made == entry


def test_every_family_is_on_record_that_differs():
    families = {entry["family"] for entry in recorded()}
    for local_groups, _ in coefficients._STEPS:
        assert FAMILY_LRC_CAUCHY.format(local_groups=local_groups) in families


# The library.


def test_the_cache_of_patterns_is_bounded(lrc, monkeypatch):
    monkeypatch.setattr(codec, "PATTERNS_CACHED_MAX", 2)
    small = lrc.codec(Layout(4, 2, 2).profile)
    shards = dict(enumerate(encode(small, seeded_data(small.profile, 32))))
    for lost in range(8):
        have = {i: shard for i, shard in shards.items() if i != lost}
        assert reconstruct(small, have, [lost]) == {lost: shards[lost]}
    assert small._decoding.cache_info().currsize == 2
    assert small._global.cache_info().currsize <= 2


@pytest.mark.parametrize("length", [100, 100_000])
def test_long_and_short_shards(lrc, length):
    """A call over more than 32 KiB gives up the GIL, a shorter one keeps it: the bytes agree."""
    six = lrc.codec(Layout(6, 2, 2).profile)
    data = seeded_data(six.profile, 100_000)
    whole = encode(six, data)
    assert encode(six, [shard[:length] for shard in data]) == [shard[:length] for shard in whole]


def test_a_buffer_with_gaps_is_refused(lrc):
    pair = lrc.codec(Layout(1, 1, 0).profile)
    with pytest.raises(BufferError):
        pair.encode([memoryview(bytes(20))[::2]], [bytearray(10)])


def test_nothing_to_load_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(DriverUnavailable, match="install pyeclib"):
        library.load()


def test_a_library_that_is_not_isal_says_why(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    libc = ctypes.util.find_library("c")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: libc)
    with pytest.raises(DriverUnavailable, match="ec_encode_data"):
        library.load()


def test_the_library_is_loaded_at_open_only():
    script = (
        "import sys, objectio_ec_lrc.plugin as p; p.objectio_register_codecs();"
        "assert 'objectio_ec_lrc.library' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
