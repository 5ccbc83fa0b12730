"""Find the installed plugins, let pluggy ask them, and keep what they answer.

    entry points of group "objectio.plugins"          (stevedore finds and imports)
      → PluginManager.register → check_pending        (pluggy: names and arguments of hooks are right)
      → each registration hook, once for each plugin  (what drivers it offers)
      → Registry

A plugin may be wrong at each step: fail to import, misspell a hook, raise, answer rubbish, never
answer. It then becomes a row that says so, and the others are not disturbed. Whether that stops the
node is decided when the configuration asks for one of its drivers (`Registry.get`).
"""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, Final

import pluggy
from stevedore.extension import Extension
from stevedore.named import NamedExtensionManager

from objectio import hookspecs
from objectio.errors import PluginError, PluginLoadFailed
from objectio.hookspecs.lifecycle import NodeEvent
from objectio.hookspecs.marker import PROJECT_NAME
from objectio.limits import PLUGIN_HOOK_TIMEOUT_SECONDS
from objectio.plugin.describe import Descriptor, check_answer
from objectio.plugin.info import PluginInfo, PluginStatus
from objectio.plugin.kinds import KINDS
from objectio.plugin.registry import Registry
from objectio.plugin.watchdog import call_with_deadline

GROUP: Final = "objectio.plugins"

log = logging.getLogger("objectio.plugin")


@dataclass(frozen=True, slots=True)
class Plugins:
    """Everything that was found. `infos` has one row for each plugin, the kernel's own first."""

    pm: pluggy.PluginManager
    registry: Registry
    infos: tuple[PluginInfo, ...]

    def emit(self, event: NodeEvent) -> None:
        """Tell every plugin that listens. An exception is logged and goes no further."""
        plugins = self.pm.get_plugins()
        for impl in reversed(self.pm.hook.objectio_node_event.get_hookimpls()):
            others = [plugin for plugin in plugins if plugin is not impl.plugin]
            try:
                self.pm.subset_hook_caller("objectio_node_event", others)(event=event)
            except Exception:
                log.exception("plugin %s failed on event %s", impl.plugin_name, event.kind.value)


def load_plugins(
    *,
    disabled: Sequence[str] = (),
    builtin: Sequence[ModuleType] = (),
    search: Sequence[str] | None = None,
    timeout_seconds: float = PLUGIN_HOOK_TIMEOUT_SECONDS,
) -> Plugins:
    """Load the kernel's own modules, then every installed plugin that is not disabled.

    `search` are directories to look for installed distributions in, instead of `sys.path`.
    """
    loading = _Loading(timeout_seconds)
    for module in builtin:
        loading.register(module, _builtin_info(module))
    finder = _Finder(disabled, search, loading)
    for extension in sorted(finder.extensions, key=lambda found: found.name):
        loading.register(extension.plugin, _info(extension.entry_point))
    loading.check_hooks()
    plugins = loading.finish()
    for info in plugins.infos:
        if info.error is not None:
            log.warning("plugin %s is broken: %s", info.origin, info.error)
    return plugins


class _Finder(NamedExtensionManager[Any]):
    """Stevedore's manager over the entry points, read afresh: its cache in the user's home forgets
    which distribution an entry point came from."""

    def __init__(
        self, disabled: Sequence[str], search: Sequence[str] | None, loading: _Loading
    ) -> None:
        self._loading = loading
        self._entry_points = _entry_points(search)
        for name in sorted(set(disabled) - {found.name for found in self._entry_points}):
            log.warning("[node] disabled_plugins names %r, which is not installed", name)
        for found in self._entry_points:
            if found.name in disabled:
                loading.note(replace(_info(found), status=PluginStatus.DISABLED))
        super().__init__(
            GROUP,
            names=[found.name for found in self._entry_points if found.name not in disabled],
            on_load_failure_callback=lambda _, found, error: loading.fail(_info(found), error),
            on_missing_entrypoints_callback=None,
        )

    def list_entry_points(self) -> list[EntryPoint]:
        return self._entry_points

    def _load_one_plugin(
        self, ep: EntryPoint, invoke_on_load: bool, invoke_args: Any, invoke_kwds: Any
    ) -> Extension[Any] | None:
        if ep.name not in self._names:
            return None
        what = f"importing {ep.module}"
        return Extension(ep.name, ep, _guard(ep.load, self._loading.timeout_seconds, what), None)


class _Loading:
    """The state of one `load_plugins`."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._pm = pluggy.PluginManager(PROJECT_NAME)
        for spec in hookspecs.ALL:
            self._pm.add_hookspecs(spec)
        self._infos: list[PluginInfo] = []
        self._registered: list[tuple[Any, PluginInfo]] = []

    def note(self, info: PluginInfo) -> None:
        self._infos.append(info)

    def fail(self, info: PluginInfo, error: BaseException) -> None:
        if not isinstance(error, PluginError):
            cause = error
            error = PluginLoadFailed(f"plugin {info.origin}: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
        error.fields.update(plugin=info.name, distribution=info.distribution)
        self.note(replace(info, status=PluginStatus.BROKEN, error=error))

    def register(self, module: Any, info: PluginInfo) -> None:
        name = info.name if not self._pm.has_plugin(info.name) else info.origin
        try:
            self._pm.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._pm.get_plugin(name) is module:
                self._pm.unregister(module)
            self.fail(info, _shorter(error))
            return
        if not self._pm.get_hookcallers(module):
            self._pm.unregister(module)
            self.fail(info, PluginLoadFailed(_no_hooks(module, info)))
            return
        self._registered.append((module, info))

    def check_hooks(self) -> None:
        """Put out each plugin that implements a hook that does not exist."""
        while True:
            try:
                self._pm.check_pending()
            except pluggy.PluginValidationError as error:
                culprit = error.plugin
                callers = self._pm.get_hookcallers(culprit) or ()
                unknown = sorted(caller.name for caller in callers if not caller.has_spec())
                self._pm.unregister(culprit)
                [info] = [info for module, info in self._registered if module is culprit]
                self._registered = [pair for pair in self._registered if pair[0] is not culprit]
                self.fail(info, PluginLoadFailed(_unknown_hook(unknown[0], info)))
            else:
                return

    def finish(self) -> Plugins:
        """Ask every plugin what it offers."""
        registry = Registry()
        asked: list[PluginInfo] = []
        for module, info in list(self._registered):
            try:
                offers = self._ask(module, info)
            except (PluginError, Exception) as error:
                self._pm.unregister(module)
                self.fail(info, error)
                continue
            for kind, driver in offers:
                registry.add(kind, driver, info)
            asked.append(info)
        infos = [*(_with_drivers(info, registry) for info in asked), *self._infos]
        infos.sort(key=lambda info: (info.distribution != PROJECT_NAME, info.name))
        registry.explain_with(infos)
        return Plugins(self._pm, registry, tuple(infos))

    def _ask(self, module: Any, info: PluginInfo) -> list[tuple[str, Descriptor]]:
        offers: list[tuple[str, Descriptor]] = []
        others = [plugin for plugin in self._pm.get_plugins() if plugin is not module]
        for kind in KINDS.values():
            if not any(impl.plugin is module for impl in self._impls(kind.hook)):
                continue
            caller = self._pm.subset_hook_caller(kind.hook, others)
            what = f"{kind.hook} of plugin {info.origin}"
            # Inside of the deadline also the iteration, since the answer may be a generator.
            answers = _guard(
                lambda caller=caller, kind=kind: [  # type: ignore[misc]
                    check_answer(kind.name, kind.hook, answer) for answer in caller()
                ],
                self.timeout_seconds,
                what,
            )
            offers += [(kind.name, driver) for answer in answers for driver in answer]
        return offers

    def _impls(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._pm.hook, hook)
        return caller.get_hookimpls()


def _guard(call: Callable[[], Any], timeout_seconds: float, what: str) -> Any:
    try:
        return call_with_deadline(call, timeout_seconds, what)
    except PluginError:
        raise
    except BaseException as error:
        # Also SystemExit and AssertionError, which stevedore would let through to end the node.
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginLoadFailed(f"{what} raised {type(error).__name__}: {error}") from error


def _with_drivers(info: PluginInfo, registry: Registry) -> PluginInfo:
    mine = [entry for entry in registry.entries() if info in entry.providers]
    faults = [entry.fault for entry in mine if entry.fault is not None]
    return replace(
        info,
        status=PluginStatus.BROKEN if faults else PluginStatus.OK,
        error=faults[0] if faults else None,
        drivers=tuple((entry.kind, entry.driver.name) for entry in mine if entry.fault is None),
    )


def _entry_points(search: Sequence[str] | None) -> list[EntryPoint]:
    if search is None:
        return list(importlib.metadata.entry_points(group=GROUP))
    # The first directory that holds a distribution wins, as it does for imports.
    distributions = {
        dist.name: dist for dist in reversed([*importlib.metadata.distributions(path=list(search))])
    }
    return [
        found
        for dist in distributions.values()
        for found in dist.entry_points
        if found.group == GROUP
    ]


def _info(found: EntryPoint) -> PluginInfo:
    dist = found.dist
    return PluginInfo(
        name=found.name,
        distribution=dist.name if dist else "unknown",
        version=dist.version if dist else "",
        module=found.module,
    )


def _builtin_info(module: ModuleType) -> PluginInfo:
    from objectio import __version__

    name = module.__name__.rpartition(".")[2]
    return PluginInfo(
        name=name, distribution=PROJECT_NAME, version=__version__, module=module.__name__
    )


def _shorter(error: Exception) -> PluginLoadFailed:
    """Pluggy's sentence without the repr of the module."""
    failed = PluginLoadFailed(" ".join(str(error).split()))
    failed.__cause__ = error
    return failed


def _no_hooks(module: Any, info: PluginInfo) -> str:
    named = sorted(name for name in vars(module) if name.startswith("objectio_"))
    if named:
        return f"plugin {info.origin}: {named[0]} has no @hookimpl, so it is never called"
    return f"plugin {info.origin} implements no hook"


def _unknown_hook(name: str, info: PluginInfo) -> str:
    known = [name for spec in hookspecs.ALL for name in vars(spec) if name.startswith("objectio_")]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"plugin {info.origin}: there is no hook {name}{hint}"
