"""The codec conforms, and can be found."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from objectio.abc.driver import NoConfig
from objectio.abc.erasure import CodecProfile
from objectio.errors import ConfigError
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance

from objectio_ec_xor import plugin


class TestCodec(CodecConformance):
    profiles = ((1, 1), (2, 1), (4, 1), (10, 1))  # k, m: what it claims to do
    threads = plugin.DRIVER.threads

    @pytest.fixture
    def factory(self, tmp_path):
        return plugin.DRIVER.open(NoConfig(), make_context(tmp_path))

    def test_a_second_parity_shard_is_refused(self, factory):
        with pytest.raises(ConfigError):
            factory.codec(CodecProfile(plugin.FAMILY, 4, 2))


def test_the_entry_point_names_the_module():
    (entry,) = entry_points(group="objectio.plugins", name="ec_xor")
    assert entry.load() is plugin
