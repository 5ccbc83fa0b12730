"""Conformance of a filter: what it wraps is still what it was.

    class TestMine(KVFilterConformance):
        filter = "objectio_filter_mine.plugin:DRIVER"

The whole suite of key-value engines runs through the filter, with the settings under which it has
nothing to do, around an engine in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from objectio.abc.context import Context
from objectio.abc.driver import API_VERSION, AnyDriver, ThreadModel
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.abc.kv import KVDriver
from objectio.testing import kv_child
from objectio.testing.context import make_context
from objectio.testing.kv import KVConformance, OpenDriver


class KVFilterConformance(KVConformance):
    """Set `filter`, and `filter_settings` if it does something without any."""

    filter: ClassVar[str]
    filter_settings: ClassVar[dict[str, Any]] = {}
    driver: ClassVar[str] = "objectio.kv.memory:DRIVER"

    @pytest.fixture
    def filter_driver(self) -> FilterDriver:
        driver: Any = kv_child.load(self.filter)
        assert isinstance(driver, FilterDriver)
        return driver

    @pytest.fixture
    def filter_context(self, tmp_path: Path) -> Context:
        return make_context(tmp_path, "filter")

    @pytest.fixture
    def open_driver(
        self,
        descriptor: AnyDriver,
        data_dir: Path,
        filter_driver: FilterDriver,
        filter_context: Context,
    ) -> OpenDriver:
        config = msgspec.convert(self.filter_settings, filter_driver.config)

        def open_filtered() -> KVDriver:
            inner = kv_child.open_at(descriptor, self.settings, data_dir)
            filtered: KVDriver = filter_driver.open(config, filter_context, inner)
            return filtered

        return open_filtered

    @pytest.fixture
    def threads(self) -> ThreadModel:
        """As of the engine: a filter is called as what it wraps is."""
        return ThreadModel.PARALLEL

    def test_it_says_what_it_wraps(self, filter_driver: FilterDriver) -> None:
        assert filter_driver.wraps is FilterKind.KV
        assert filter_driver.api == API_VERSION

    def test_failures_of_the_engine_come_through(
        self, filter_driver: FilterDriver, filter_context: Context
    ) -> None:
        config = msgspec.convert(self.filter_settings, filter_driver.config)
        filtered: KVDriver = filter_driver.open(config, filter_context, _Broken())
        for call in (
            lambda: filtered.get(b"k"),
            lambda: filtered.get_many([b"k"]),
            lambda: filtered.scan(b"a", b"z", limit=1),
            lambda: filtered.commit([]),
        ):
            with pytest.raises(OSError, match="broken on purpose"):
                call()

    def test_closing_closes_the_engine(
        self, filter_driver: FilterDriver, filter_context: Context
    ) -> None:
        config = msgspec.convert(self.filter_settings, filter_driver.config)
        inner = _Broken()
        filter_driver.open(config, filter_context, inner).close()
        assert inner.closed


class _Broken:
    closed = False

    def __getattr__(self, name: str) -> Any:
        def fail(*words: Any, **named: Any) -> Any:
            raise OSError("broken on purpose")

        return fail

    def close(self) -> None:
        self.closed = True
