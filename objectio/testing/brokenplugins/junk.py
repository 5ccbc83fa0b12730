"""A plugin whose registration hook returns something else than descriptors."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl


@hookimpl
def objectio_register_kv() -> list[Any]:
    return ["not a driver"]
