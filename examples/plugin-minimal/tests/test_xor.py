"""The example conforms, can be found, and stays as short as its page says."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from objectio_ec_xor import plugin

from objectio.abc.driver import NoConfig, ThreadModel
from objectio.abc.erasure import CodecProfile
from objectio.erasure import ErasureCodes
from objectio.errors import ConfigError
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance

(DRIVER,) = plugin.objectio_register_codecs()


class TestXor(CodecConformance):
    profiles = ((1, 1), (2, 1), (4, 1), (10, 1))
    threads = DRIVER.threads

    @pytest.fixture
    def factory(self, tmp_path):
        return DRIVER.open(NoConfig(), make_context(tmp_path))

    def test_a_second_parity_shard_is_refused(self, factory):
        with pytest.raises(ConfigError):
            factory.codec(CodecProfile("xor-parity", 4, 2))

    def test_the_kernel_finds_the_family(self, factory):
        codes = ErasureCodes([("xor", 0, ThreadModel.PARALLEL, factory)])
        assert codes.get(CodecProfile("xor-parity", 3, 1)).width == 4


def test_the_entry_point_names_the_module():
    (entry,) = entry_points(group="objectio.plugins", name="ec_xor")
    assert entry.load() is plugin


def test_it_is_as_short_as_the_page_says():
    """60 lines of code: what is neither blank nor a comment."""
    lines = Path(plugin.__file__).read_text().splitlines()
    assert sum(bool(line.split("#")[0].strip()) for line in lines) <= 60
