"""The driver and its settings."""

from __future__ import annotations

import msgspec
import objectio_api_iam.plugin as plugin
import pytest
from objectio_api_iam.config import IamConfig

from objectio.testing.context import make_context


def test_driver(tmp_path):
    (driver,) = plugin.objectio_register_apis()
    assert driver.name == "iam"
    assert driver.config is IamConfig
    assert driver.open(IamConfig(), make_context(tmp_path)).build


def test_issuers_are_urls():
    found = msgspec.convert({"trusted_issuers": ["http://idp:8080/one"]}, IamConfig)
    assert found.trusted_issuers == ("http://idp:8080/one",)
    for wrong in ("idp", "ftp://idp", "http://idp/?q", "http://a b"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"trusted_issuers": [wrong]}, IamConfig)
