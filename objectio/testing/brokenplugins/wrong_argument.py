"""A plugin whose hook asks for an argument that the hook does not have."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl


@hookimpl
def objectio_register_kv(config: Any) -> list[Any]:
    return []
