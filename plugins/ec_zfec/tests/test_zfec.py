"""zfec conforms, and its package is loaded at open only."""

from __future__ import annotations

import subprocess
import sys

import pytest
from objectio_ec_zfec.plugin import objectio_register_codecs

from objectio.abc.driver import NoConfig
from objectio.abc.erasure import FAMILY_RS_VANDERMONDE
from objectio.errors import DriverUnavailable
from objectio.testing.context import make_context
from objectio.testing.erasure import CodecConformance

(DRIVER,) = objectio_register_codecs()


class TestZfec(CodecConformance):
    threads = DRIVER.threads

    @pytest.fixture
    def factory(self, tmp_path):
        return DRIVER.open(NoConfig(), make_context(tmp_path))

    def test_only_its_own_family_is_served(self, factory):
        assert factory.families == {FAMILY_RS_VANDERMONDE}


def test_the_package_is_loaded_at_open_only():
    script = (
        "import sys, objectio_ec_zfec.plugin as p; p.objectio_register_codecs();"
        "assert 'zfec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "objectio_ec_zfec.codec", raising=False)
    monkeypatch.setitem(sys.modules, "zfec", None)
    with pytest.raises(DriverUnavailable, match="install zfec"):
        DRIVER.open(NoConfig(), make_context(tmp_path))
