"""The kernel's own codecs pass the conformance kit that plugins must pass."""

from __future__ import annotations

import pytest

from objectio.abc.driver import NoConfig
from objectio.abc.erasure import FAMILY_REPLICATE, CodecProfile
from objectio.erasure import reference, replicate
from objectio.errors import ConfigError
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance


class TestReference(CodecConformance):
    threads = reference.DRIVER.threads

    @pytest.fixture
    def factory(self, tmp_path):
        return reference.DRIVER.open(NoConfig(), make_context(tmp_path))


class TestReplicate(CodecConformance):
    threads = replicate.DRIVER.threads
    profiles = ((1, 1), (1, 2), (1, 4))

    @pytest.fixture
    def factory(self, tmp_path):
        return replicate.DRIVER.open(NoConfig(), make_context(tmp_path))

    def test_more_than_one_data_shard_is_refused(self, factory):
        with pytest.raises(ConfigError):
            factory.codec(CodecProfile(FAMILY_REPLICATE, 2, 1))
