"""Check what a registration hook returned before anything relies on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from objectio.abc.driver import API_VERSION, AnyDriver, Driver
from objectio.abc.filter import FilterDriver
from objectio.errors import PluginIncompatible, PluginLoadFailed

Descriptor = AnyDriver | FilterDriver

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]*")


def check_answer(kind: str, hook: str, answer: object) -> list[Descriptor]:
    """The descriptors in what one plugin's hook returned. Raises `PluginLoadFailed`."""
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        raise PluginLoadFailed(
            f"{hook} returned {_a(answer)}; it must return a list of Driver descriptors"
        )
    return [_check_descriptor(kind, hook, item) for item in answer]


def check_api(kind: str, driver: Descriptor) -> PluginIncompatible | None:
    """Why this kernel cannot use the driver, if it cannot."""
    if driver.api == API_VERSION:
        return None
    return PluginIncompatible(
        f"{kind} driver {driver.name!r} was written for version {driver.api} of the plugin "
        f"contract and this ObjectIO has version {API_VERSION}",
        kind=kind,
        name=driver.name,
    )


def _check_descriptor(kind: str, hook: str, item: Any) -> Descriptor:
    wanted = FilterDriver if kind == "filter" else Driver
    if not isinstance(item, wanted):
        raise PluginLoadFailed(f"{hook} returned {_a(item)} where a {wanted.__name__} must be")
    # A plugin need not be type-checked: look at what is there, whatever the annotations say.
    name, api, config = (getattr(item, field) for field in ("name", "api", "config"))
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise PluginLoadFailed(f"{hook}: driver name {name!r} must be a letter, then a-z, 0-9 or _")
    where = f"{hook}, driver {name!r}"
    if not isinstance(api, int):
        raise PluginLoadFailed(f"{where}: api must be an int, not {_a(api)}")
    if not callable(item.open):
        raise PluginLoadFailed(f"{where}: open must be callable, not {_a(item.open)}")
    if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        raise PluginLoadFailed(f"{where}: config must be a msgspec Struct class, not {_a(config)}")
    if not config.__struct_config__.frozen:
        raise PluginLoadFailed(f"{where}: config must be a frozen Struct (frozen=True)")
    return item


def _a(value: object) -> str:
    return "None" if value is None else f"{value!r:.60} ({type(value).__name__})"
