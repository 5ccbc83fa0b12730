"""The driver."""

from __future__ import annotations

import objectio_api_admin.plugin as plugin

from objectio.abc.driver import NoConfig
from objectio.testing.context import make_context


def test_driver(tmp_path):
    (driver,) = plugin.objectio_register_apis()
    assert driver.name == "admin"
    assert driver.config is NoConfig
    assert driver.open(NoConfig(), make_context(tmp_path)).build
