"""A plugin that fails when it hears of an event."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl
from objectio.hookspecs.lifecycle import NodeEvent


@hookimpl
def objectio_node_event(event: NodeEvent) -> Any:
    raise RuntimeError("cannot reach the pager")
