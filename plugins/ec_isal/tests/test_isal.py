"""ISA-L conforms, is found where it should be, and gives up the GIL."""

from __future__ import annotations

import ctypes.util
import importlib.util
import mmap
import subprocess
import sys
import threading

import pytest
from objectio_ec_isal import codec, library
from objectio_ec_isal.plugin import objectio_register_codecs

from objectio.abc.driver import NoConfig
from objectio.abc.erasure import FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE, CodecProfile
from objectio.erasure import matrix
from objectio.errors import DriverUnavailable, InsufficientShards
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance, encode, reconstruct
from objectio.testing.golden import seeded_data

(DRIVER,) = objectio_register_codecs()


class TestIsal(CodecConformance):
    threads = DRIVER.threads

    @pytest.fixture
    def factory(self, tmp_path):
        return DRIVER.open(NoConfig(), make_context(tmp_path))


@pytest.fixture(scope="module")
def isal():
    return codec.IsalFactory()


def test_both_families_are_served(isal):
    assert isal.families == {FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE}


def test_without_parity_there_is_nothing_to_encode(isal):
    striped = isal.codec(CodecProfile(FAMILY_RS_CAUCHY, 3, 0))
    data = seeded_data(striped.profile, 10)
    striped.encode(data, [])
    with pytest.raises(InsufficientShards):
        striped.reconstruct({0: data[0], 1: data[1]}, {2: bytearray(10)})


def test_a_read_only_mapping_is_read_in_place(isal, tmp_path):
    """Every kind of read-only buffer has an address, not only bytes and memoryview."""
    profile = CodecProfile(FAMILY_RS_CAUCHY, 2, 1)
    data = seeded_data(profile, mmap.PAGESIZE)
    file = tmp_path / "shard"
    file.write_bytes(data[0])
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        assert encode(isal.codec(profile), [mapped, data[1]]) == encode(isal.codec(profile), data)


def test_a_buffer_with_gaps_is_refused(isal):
    profile = CodecProfile(FAMILY_RS_CAUCHY, 1, 1)
    with pytest.raises(BufferError):
        isal.codec(profile).encode([memoryview(bytes(20))[::2]], [bytearray(10)])


def test_the_cache_of_patterns_is_bounded(isal, monkeypatch):
    monkeypatch.setattr(codec, "PATTERNS_CACHED_MAX", 2)
    small = isal.codec(CodecProfile(FAMILY_RS_CAUCHY, 4, 2))
    shards = dict(enumerate(encode(small, seeded_data(small.profile, 32))))
    for _ in range(2):
        for lost in range(6):
            have = {i: shard for i, shard in shards.items() if i != lost}
            assert reconstruct(small, have, [lost]) == {lost: shards[lost]}
    assert small._decoding.cache_info().currsize == 2


def test_other_threads_run_while_a_stripe_is_encoded(isal):
    """No thread is made to give up the GIL here: only a call that gives it up lets others run."""
    profile = CodecProfile(FAMILY_RS_CAUCHY, 8, 4)
    wide = isal.codec(profile)
    data = [bytes(4 << 20)] * 8
    parity = [bytearray(4 << 20) for _ in range(4)]
    began = threading.Event()
    others_ran = threading.Event()
    seen = []

    def work():
        began.set()
        for _ in range(100):
            wide.encode(data, parity)
            if others_ran.is_set():
                break
        seen.append(others_ran.is_set())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        worker = threading.Thread(target=work)
        worker.start()
        began.wait(10)
        others_ran.set()
        worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen == [True]


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
        "import sys, objectio_ec_isal.plugin as p; p.objectio_register_codecs();"
        "assert 'objectio_ec_isal.library' not in sys.modules;"
        "assert 'isal' not in open('/proc/self/maps').read().replace('ec_isal', '')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("k", "m"), [(4, 2), (8, 4), (1, 5), (44, 20)])
def test_the_cauchy_coefficients_are_those_of_the_library(k, m):
    """ISA-L builds the matrix itself: the definition of the family is not ours alone."""
    built = ctypes.create_string_buffer((k + m) * k)
    ctypes.CDLL(library.load().path).gf_gen_cauchy1_matrix(built, k + m, k)
    rows = matrix.generator(CodecProfile(FAMILY_RS_CAUCHY, k, m))
    assert built.raw == b"".join(rows)


def test_pyeclib_makes_the_same_parity(isal):
    """pyeclib's isa_l_rs_cauchy, behind its header of 80 bytes, is the family rs-cauchy-0x11d."""
    pyeclib = pytest.importorskip("pyeclib.ec_iface")
    profile = CodecProfile(FAMILY_RS_CAUCHY, 4, 2)
    data = seeded_data(profile, 1024)
    driver = pyeclib.ECDriver(k=4, m=2, ec_type="isa_l_rs_cauchy")
    fragments = [fragment[80:] for fragment in driver.encode(b"".join(data))]
    assert fragments == encode(isal.codec(profile), data)
