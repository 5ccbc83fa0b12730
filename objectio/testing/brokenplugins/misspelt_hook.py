"""A plugin that implements a hook which does not exist."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl


@hookimpl
def objectio_register_codec() -> list[Any]:
    return []
