"""A plugin that was written for a later version of the contract."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl
from objectio.abc.driver import API_VERSION, Driver, NoConfig


@hookimpl
def objectio_register_kv() -> list[Any]:
    return [
        Driver(
            name="wrong_api", config=NoConfig, open=lambda config, context: 0, api=API_VERSION + 1
        )
    ]
