"""A plugin whose registration hook raises."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl


@hookimpl
def objectio_register_kv() -> list[Any]:
    raise RuntimeError("no licence key")
