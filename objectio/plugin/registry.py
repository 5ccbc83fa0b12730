"""The registry: every driver of every plugin, by kind and name.

Two plugins that offer one (kind, name) make it unusable, whichever was found first, since a store
must not be opened by a driver that happens to win. That, and a driver for another version of the
contract, is an error only when the driver is asked for: by name, or as the best of its kind.

Filters are kept by what they wrap, as kinds "filter.kv", "filter.shardstore", "filter.volume".
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass

from objectio.abc.driver import AnyDriver, Driver
from objectio.abc.filter import FilterDriver, FilterKind
from objectio.errors import PluginConflict, PluginError, PluginNotFound
from objectio.plugin.describe import Descriptor, check_api
from objectio.plugin.info import PluginInfo, PluginStatus
from objectio.plugin.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Entry:
    """One (kind, name) and who offers it, with its fault if it cannot be used."""

    kind: str
    driver: Descriptor
    providers: tuple[PluginInfo, ...]
    fault: PluginError | None = None


class Registry:
    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._infos: Sequence[PluginInfo] = ()

    def add(self, kind: str, driver: Descriptor, provider: PluginInfo) -> None:
        """Take a driver in. A second one of its name spoils both."""
        if isinstance(driver, FilterDriver):
            kind = f"{kind}.{driver.wraps.value}"
        other = self._entries.get((kind, driver.name))
        if other is None:
            entry = Entry(kind, driver, (provider,), check_api(kind, driver))
        else:
            providers = (*other.providers, provider)
            highest = min(other.driver, driver, key=_by_rank)
            entry = Entry(kind, highest, providers, _conflict(kind, driver.name, providers))
        self._entries[kind, driver.name] = entry

    def explain_with(self, infos: Sequence[PluginInfo]) -> None:
        """Use these rows to say why a driver is missing."""
        self._infos = infos

    def get(self, kind: str, name: str) -> AnyDriver:
        """The driver that the configuration names. Raises a `PluginError` that says what to do."""
        driver = self._usable(kind, name)
        assert isinstance(driver, Driver)
        return driver

    def get_filter(self, wraps: FilterKind, name: str) -> FilterDriver:
        driver = self._usable(f"filter.{wraps.value}", name)
        assert isinstance(driver, FilterDriver)
        return driver

    def best(self, kind: str) -> AnyDriver:
        """The driver of highest rank, the first by name among equals. If that one has a fault, it is
        raised: a node must not silently open another engine than the one it used yesterday."""
        drivers = [entry.driver for entry in self._entries.values() if entry.kind == kind]
        if not drivers:
            raise PluginNotFound(
                f"no {_title(kind)} is installed{self._broken_of(kind)}", kind=kind
            )
        return self.get(kind, min(drivers, key=_by_rank).name)

    def names(self, kind: str) -> list[str]:
        """Names of the usable drivers of the kind, sorted."""
        entries = self._entries.values()
        return sorted(e.driver.name for e in entries if e.kind == kind and not e.fault)

    def known(self, kind: str, name: str) -> bool:
        """Whether some installed plugin offers it, usable or not."""
        return (kind, name) in self._entries

    def entries(self) -> list[Entry]:
        """All, by kind and name."""
        return [self._entries[key] for key in sorted(self._entries)]

    def drivers(self) -> list[tuple[str, AnyDriver]]:
        """Every usable driver with its kind, but for filters."""
        usable = [entry for entry in self.entries() if entry.fault is None]
        return [(entry.kind, entry.driver) for entry in usable if isinstance(entry.driver, Driver)]

    def offered_by(self, info: PluginInfo) -> list[tuple[str, Descriptor]]:
        """What the plugin of this row offers, usable or not."""
        return [
            (entry.kind, entry.driver)
            for entry in self.entries()
            if any(provider.origin == info.origin for provider in entry.providers)
        ]

    def unavailable(self, name: str) -> PluginInfo | None:
        """The broken or disabled plugin that would provide a driver of this name, by its own."""
        for info in self._infos:
            if info.status is not PluginStatus.OK and info.could_provide(name):
                return info
        return None

    def _usable(self, kind: str, name: str) -> Descriptor:
        entry = self._entries.get((kind, name))
        if entry is None:
            raise self._missing(kind, name)
        if entry.fault is not None:
            raise type(entry.fault)(entry.fault.message, **entry.fault.fields)
        return entry.driver

    def _missing(self, kind: str, name: str) -> PluginError:
        info = self.unavailable(name)
        if info is not None and info.status is PluginStatus.DISABLED:
            return PluginNotFound(
                f"{_title(kind)} {name!r} is not there because plugin {info.name} is disabled: "
                "take it out of [node] disabled_plugins",
                kind=kind,
                name=name,
                plugin=info.name,
            )
        if info is not None and info.error is not None:
            error = type(info.error)(
                f"{_title(kind)} {name!r} is not there: {info.error.message}; "
                f"repair or upgrade {info.distribution}, or configure another driver",
                **{**info.error.fields, "kind": kind, "name": name},
            )
            error.__cause__ = info.error.__cause__
            return error
        names = self.names(kind)
        known = f"installed: {', '.join(names)}" if names else "none is installed"
        hint = ""
        if close := difflib.get_close_matches(name, names, n=1):
            hint = f"; did you mean {close[0]!r}?"
        elif name in _extras():
            hint = f"; it comes with the extra {name!r} of objectio"
        return PluginNotFound(
            f"unknown {_title(kind)} {name!r} ({known}){hint}", kind=kind, name=name
        )

    def _broken_of(self, kind: str) -> str:
        prefix = KINDS[kind].prefix + "_"
        reasons = [
            f"{info.name} is {info.status.value}"
            for info in self._infos
            if info.status is not PluginStatus.OK and info.name.startswith(prefix)
        ]
        return f" ({', '.join(reasons)}: see `objectio plugin list`)" if reasons else ""


def _by_rank(driver: Descriptor) -> tuple[int, str]:
    return (-driver.rank if isinstance(driver, Driver) else 0, driver.name)


def _conflict(kind: str, name: str, providers: Sequence[PluginInfo]) -> PluginConflict:
    origins = " and ".join(info.origin for info in providers)
    return PluginConflict(
        f"{_title(kind)} {name!r} is provided by {origins}: uninstall all but one of them, or name "
        "one plugin in [node] disabled_plugins",
        kind=kind,
        name=name,
        distributions=tuple(info.distribution for info in providers),
    )


def _title(kind: str) -> str:
    base, _, wraps = kind.partition(".")
    return f"{wraps} {KINDS[base].title}".strip()


def _extras() -> Sequence[str]:
    """The kernel's extras: names of drivers that are known to exist."""
    try:
        return importlib.metadata.metadata("objectio").get_all("Provides-Extra") or ()
    except importlib.metadata.PackageNotFoundError:
        return ()
