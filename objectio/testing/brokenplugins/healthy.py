"""A plugin with nothing wrong: it must not suffer from the others."""

from __future__ import annotations

from typing import Any

from objectio import hookimpl
from objectio.abc.driver import Driver, NoConfig
from objectio.hookspecs.lifecycle import NodeEvent

heard: list[NodeEvent] = []


@hookimpl
def objectio_register_kv() -> list[Any]:
    return [Driver(name="healthy", config=NoConfig, open=lambda config, context: 1, rank=10)]


@hookimpl
def objectio_node_event(event: NodeEvent) -> None:
    heard.append(event)
