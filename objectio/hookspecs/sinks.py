"""Hook: where events of buckets are sent."""

from __future__ import annotations

from collections.abc import Iterable

from objectio.abc.driver import AnyDriver
from objectio.hookspecs.marker import hookspec


@hookspec
def objectio_register_sinks() -> Iterable[AnyDriver]:  # type: ignore[empty-body]
    """Offer sinks that events of buckets are sent to.

    Called: once, at start, in every process of ObjectIO (servers and the command line).
    Arguments: none.
    Returns: descriptors whose `open` gives an `objectio.abc.sinks.EventSink`. All that have a table
        in the configuration, `[sinks.<driver>]`, are opened in the process with the metadata.
    Ordering: none; every plugin's answers are collected, and two drivers of one name are an error.
    Failure: an exception, or no answer within `PLUGIN_HOOK_TIMEOUT_SECONDS`, disables the plugin:
        an error that stops the node if the configuration names one of its drivers, else a warning
        and a row in `objectio plugin list`.
    Since: 26.11
    """
