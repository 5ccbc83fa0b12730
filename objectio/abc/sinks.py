"""Sinks: where events of buckets go to, a web hook or a message queue.

The kernel writes an event down in the commit of the change that it tells of, hands it to a sink as
often as it takes until `send` returns, and strikes it out then. So whoever is at the other end hears
of each event at least once: again if a process dies, or an answer is lost, after it was sent. An
event has the same `id` each time. Events may come out of order; the `sequencer` within the record
orders those of one key.

A driver's `open` gives one `EventSink`, for all the targets that its settings name. It is opened in the
process that keeps the store in order, and used by one event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol


class EventMessage(NamedTuple):
    """One event. `record` is one element of S3's `Records`, as JSON (S3 user guide, "Event message
    structure"); `key` what a queue with partitions may keep in order: bucket and object key."""

    id: str
    key: bytes
    record: bytes


class EventSink(Protocol):
    @property
    def targets(self) -> Collection[str]:
        """The ARNs that rules of buckets may name."""
        ...

    def messages_max(self, target: str) -> int:
        """How many may be sent at once."""
        ...

    async def send(self, target: str, messages: Sequence[EventMessage]) -> None:
        """All of them are with the receiver for good when it returns. Raises `Unavailable` if none
        can be sent there now, `InvalidRequest` if the receiver does not want these, and would
        perhaps take others. Never called twice at once for one target."""
        ...

    async def close(self) -> None:
        """What is being sent may fail."""
        ...
