"""A plugin whose registration hook does not return."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl
from objectio.testing.brokenplugins import release


@hookimpl
def objectio_register_kv() -> list[Any]:
    release.wait()
    return []
