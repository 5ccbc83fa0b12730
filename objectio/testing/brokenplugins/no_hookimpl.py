"""A plugin that forgot to decorate its hook."""

from __future__ import annotations

from typing import Any


def objectio_register_kv() -> list[Any]:
    return []
