"""Hook: events in the life of a node."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from objectio.hookspecs.marker import hookspec


class EventKind(enum.Enum):
    STARTED = "started"
    """Every role of the node is ready."""
    STOPPING = "stopping"
    """The node has been told to stop; roles still answer."""
    MAP_CHANGED = "map_changed"
    """A new cluster map is in force: `epoch`."""
    OSD_DOWN = "osd_down"
    """A device failed or went away: `osd`, `reason`."""
    OSD_UP = "osd_up"
    """A device is (again) in service: `osd`."""
    OSD_OLD_COPY = "osd_old_copy"
    """A device came back as an old copy of itself, restored from an image: `osd`, `opens`, and
    `expected`, how often at least it should have been opened. What it lacks is made anew."""


class NodeEvent(NamedTuple):
    kind: EventKind
    node: str
    details: Mapping[str, object] = {}


@hookspec
def objectio_node_event(event: NodeEvent) -> None:
    """Hear that something happened on this node.

    Called: on control-plane events only, on the event loop of a server process; must not block.
    Arguments: `event`: what happened, on which node, and the details named in `EventKind`.
    Returns: nothing.
    Ordering: the last registered plugin hears first; the kernel's own parts hear last.
    Failure: an exception is logged with the plugin's name and goes no further.
    Since: 26.11
    """
