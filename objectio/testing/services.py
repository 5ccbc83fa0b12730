"""Conformance of a role: its service starts, answers and stops, as the runtime makes it.

    class TestMine(RoleConformance):
        @pytest.fixture
        def factory(self, context):
            return DRIVER.open(Config(), context)

A role that needs parts of others overrides `parts`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from objectio.abc.context import Context
from objectio.abc.metrics import Metrics, NullMetrics
from objectio.abc.role import NodeParts, RoleFactory, Service
from objectio.config.config import Config
from objectio.errors import ConfigError
from objectio.testing.context import make_context

SECONDS_MAX = 30.0


class MemoryParts:
    """An `objectio.abc.role.NodeParts` that holds what the test puts into it, and opens nothing."""

    def __init__(self, **provided: Any) -> None:
        self.provided = provided
        self.config = Config()
        self.metrics: Metrics = NullMetrics()
        self.exporter = None
        self.events = None

    def part(self, name: str) -> Any:
        if name not in self.provided:
            raise ConfigError(f"no role of this node provides {name}")
        return self.provided[name]

    def has(self, name: str) -> bool:
        return name in self.provided

    def provide(self, name: str, part: Any) -> None:
        self.provided[name] = part

    def health(self) -> Mapping[str, Any]:
        return {"ok": True}

    def shown_config(self) -> Mapping[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        """For what opens drivers."""
        raise ConfigError(f"a test's node has no {name}; override the fixture `parts`")


class RoleConformance:
    """Subclass, give the fixture `factory`; every test must pass."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return make_context(tmp_path, "role")

    @pytest.fixture
    def factory(self, context: Context) -> RoleFactory:
        raise NotImplementedError("give the fixture `factory`")

    @pytest.fixture
    def parts(self) -> NodeParts:
        return cast(NodeParts, MemoryParts())

    @pytest.fixture
    def service(self, factory: RoleFactory, parts: NodeParts, context: Context) -> Service:
        return factory.build(parts, context)

    def test_after_names_roles(self, factory: RoleFactory) -> None:
        assert all(name.isidentifier() for name in factory.after)

    async def test_it_starts_is_well_and_stops(self, service: Service) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await service.start()
            assert service.health()["ok"] is True
            await service.stop()

    async def test_health_answers_at_any_time(self, service: Service) -> None:
        """The health endpoint asks when it likes."""
        assert isinstance(service.health()["ok"], bool)
        async with asyncio.timeout(SECONDS_MAX):
            await service.start()
            await service.stop()
        assert isinstance(service.health()["ok"], bool)

    async def test_it_is_stopped_though_it_never_started(self, service: Service) -> None:
        """As after the failed start of another role."""
        async with asyncio.timeout(SECONDS_MAX):
            await service.stop()

    async def test_nothing_goes_on_when_it_has_stopped(self, service: Service) -> None:
        before = asyncio.all_tasks(), set(threading.enumerate())
        async with asyncio.timeout(SECONDS_MAX):
            await service.start()
            await asyncio.sleep(0.05)
            await service.stop()
        gc.collect()
        assert asyncio.all_tasks() <= before[0]
        left = set(threading.enumerate()) - before[1]
        # The pool of the loop is not the service's.
        assert not [each for each in left if not each.name.startswith("asyncio_")]

    async def test_two_of_a_kind(
        self, factory: RoleFactory, parts: NodeParts, context: Context, service: Service
    ) -> None:
        """A node that is started again in one process: nothing global is left behind."""
        async with asyncio.timeout(SECONDS_MAX):
            await service.start()
            await service.stop()
            again = factory.build(parts, context)
            await again.start()
            assert again.health()["ok"] is True
            await again.stop()
