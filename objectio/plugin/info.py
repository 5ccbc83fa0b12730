"""What is known of one plugin after loading: a row of `objectio plugin list`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from objectio.errors import PluginError


class PluginStatus(enum.Enum):
    OK = "ok"
    BROKEN = "broken"
    """It could not be loaded, or a driver of it cannot be used; `PluginInfo.error` says why."""
    DISABLED = "disabled"
    """`[node] disabled_plugins` names it; it was not imported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginInfo:
    """`name` is that of the entry point; `drivers` are (kind, name) of those that can be used."""

    name: str
    distribution: str
    version: str
    module: str
    status: PluginStatus = PluginStatus.OK
    error: PluginError | None = None
    drivers: tuple[tuple[str, str], ...] = field(default=())

    def could_provide(self, name: str) -> bool:
        """Whether a plugin of this name would, by the naming rule `<kind>_<driver>`, offer a driver
        called `name`. The only clue there is for a plugin that could not be asked."""
        return self.name == name or self.name.endswith(f"_{name}")

    @property
    def origin(self) -> str:
        """The plugin and what it was installed from, for messages."""
        return f"{self.name} ({self.distribution} {self.version})".replace(" )", ")")
