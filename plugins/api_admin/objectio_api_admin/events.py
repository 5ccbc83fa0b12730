"""What happens in the cluster, as events, and how they are told apart from what stays as it is. Pure.

`GET /v1/events` is answered with server-sent events (WHATWG HTML, §9.2), each of which is

    id: 5f3a91c2-17
    event: disk
    data: {"type":"disk","id":"5f3a91c2-17","time_ms":1790000000000,"osd":3,…}

with its data in one line. The first is always `state`, and says how everything is; each further one says
what has changed since. Of disks and nodes numbers are no change: they always do. Of a directory the
capacity does, too, which is what its file system has left. A rate alone is none either, nor the time that
is left by it: long after the last byte it still sinks. Lines that begin with a colon are there to
keep the connection; nothing is in them.

The response ends after a quarter of an hour, so that nobody listens on who may not any more, and when the
process stops. A client then asks again, after a second or so, and is told the state first: what came and
went between is not told. An `id` is not to be sent again. One that does not read is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
)
from objectio.abc.cluster import ClusterState, ClusterStatus, NodeStatus

Part = Literal["cluster", "disks", "repair", "scrub", "rebalance", "findings"]
"""What is looked at. The nodes and the epoch of the cluster map are in `cluster`."""

_DISK_FACTS: Final = (
    "path",
    "host",
    "rack",
    "weight",
    "state",
    "reason",
    "membership",
    "device_id",
    "refilling",
    "journal",
    "slow",
)
_NODE_FACTS: Final = ("address", "alive")
_encode: Final = msgspec.json.Encoder().encode
_T = TypeVar("_T")


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """`id` is unique, and ends in a number that ascends while the process that tells it runs."""

    id: str
    time_ms: int


class StateEvent(_Event, frozen=True, kw_only=True, tag="state"):
    """How everything is. What cannot be asked now is null, and stands in `unknown`."""

    cluster: ClusterStatus | None
    disks: Sequence[DiskStatus] | None
    repair: RepairStatus | None
    scrub: ScrubStatus | None
    rebalance: RebalanceStatus | None
    findings: Sequence[Finding] | None
    unknown: Sequence[Part]


class ClusterEvent(_Event, frozen=True, kw_only=True, tag="cluster"):
    """Whether objects are served has changed, or for what that waits, or which pool takes them."""

    state: ClusterState
    reason: str
    pool: str


class MapEvent(_Event, frozen=True, kw_only=True, tag="map"):
    """There is another cluster map."""

    epoch: int
    epoch_before: int


class NodeEvent(_Event, frozen=True, kw_only=True, tag="node"):
    """A process came (`before` is null), went (`now` is null), moved, or is alive, or is not."""

    node: str
    before: NodeStatus | None
    now: NodeStatus | None


class DiskEvent(_Event, frozen=True, kw_only=True, tag="disk"):
    """A disk came (`before` is null), went (`now` is null), or has changed in the fields that are
    named in `changed`."""

    osd: int
    changed: Sequence[str]
    before: DiskStatus | None
    now: DiskStatus | None


class RepairEvent(_Event, frozen=True, kw_only=True, tag="repair"):
    now: RepairStatus


class ScrubEvent(_Event, frozen=True, kw_only=True, tag="scrub"):
    now: ScrubStatus


class RebalanceEvent(_Event, frozen=True, kw_only=True, tag="rebalance"):
    now: RebalanceStatus


class FindingsEvent(_Event, frozen=True, kw_only=True, tag="findings"):
    """The doctor's page is another one. `findings` are all that there are now, worst first; `new` of
    them were not there before, and `gone` are not any more."""

    findings: Sequence[Finding]
    new: Sequence[Finding]
    gone: Sequence[Finding]


class UnknownEvent(_Event, frozen=True, kw_only=True, tag="unknown"):
    """What cannot be asked now is another; nothing is told of it until it can. Empty: all can be."""

    unknown: Sequence[Part]


Event = (
    StateEvent
    | ClusterEvent
    | MapEvent
    | NodeEvent
    | DiskEvent
    | RepairEvent
    | ScrubEvent
    | RebalanceEvent
    | FindingsEvent
    | UnknownEvent
)

Facts = Mapping[Part, Any]
"""What the parts said; one that did not is not there."""

Make = Callable[..., Any]
"""`make(kind, **fields)` gives an event its id and its time."""


def frame(event: Event) -> bytes:
    """As it goes over the wire. JSON has no line breaks."""
    kind = str(type(event).__struct_config__.tag)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), kind.encode(), _encode(event))


def state(facts: Facts, unknown: Sequence[Part], make: Make) -> StateEvent:
    known: dict[str, Any] = {
        field.name: None if field.name in unknown else facts.get(field.name)  # type: ignore[call-overload]
        for field in msgspec.structs.fields(StateEvent)
        if field.name not in ("id", "time_ms", "unknown")
    }
    made: StateEvent = make(StateEvent, unknown=unknown, **known)
    return made


def changes(before: Facts, now: Facts, make: Make) -> Iterator[Event]:
    """What is different. A part that nothing was known of has changed in everything."""
    if (cluster := now.get("cluster")) is not None:
        yield from _cluster_changes(before.get("cluster"), cluster, make)
    if (disks := now.get("disks")) is not None:
        yield from _disk_changes(before.get("disks", ()), disks, make)
    kinds: Mapping[Part, Any] = {
        "repair": RepairEvent,
        "scrub": ScrubEvent,
        "rebalance": RebalanceEvent,
    }
    for part, kind in kinds.items():
        if part in now and _without_rates(now[part]) != _without_rates(before.get(part)):
            yield make(kind, now=now[part])
    if (findings := now.get("findings")) is not None:
        former = before.get("findings", ())
        if list(findings) != list(former) or "findings" not in before:
            yield make(
                FindingsEvent,
                findings=findings,
                new=[each for each in findings if each not in former],
                gone=[each for each in former if each not in findings],
            )


def _cluster_changes(
    before: ClusterStatus | None, now: ClusterStatus, make: Make
) -> Iterator[Event]:
    said = (now.state, now.reason, now.pool)
    if before is None or said != (before.state, before.reason, before.pool):
        yield make(ClusterEvent, state=now.state, reason=now.reason, pool=now.pool)
    if before is not None and now.epoch != before.epoch:
        yield make(MapEvent, epoch=now.epoch, epoch_before=before.epoch)
    former = {(node.node, node.role): node for node in ([] if before is None else before.nodes)}
    nodes = {(node.node, node.role): node for node in now.nodes}
    for key, was, node in _pairs(former, nodes):
        if was is None or node is None or _differences(was, node, _NODE_FACTS):
            yield make(NodeEvent, node=key[0], before=was, now=node)


def _disk_changes(
    before: Sequence[DiskStatus], now: Sequence[DiskStatus], make: Make
) -> Iterator[Event]:
    former = {disk.osd: disk for disk in before}
    for osd, was, disk in _pairs(former, {disk.osd: disk for disk in now}):
        changed = [] if was is None or disk is None else _differences(was, disk, _DISK_FACTS)
        if changed or was is None or disk is None:
            yield make(DiskEvent, osd=osd, changed=changed, before=was, now=disk)


def _pairs(
    before: Mapping[Any, _T], now: Mapping[Any, _T]
) -> Iterator[tuple[Any, _T | None, _T | None]]:
    for key in sorted(before.keys() | now.keys()):
        yield key, before.get(key), now.get(key)


def _without_rates(status: Any) -> Any:
    if not isinstance(status, RepairStatus | RebalanceStatus):
        return status
    return msgspec.structs.replace(status, bytes_per_second=0.0, seconds_left=None)


def _differences(one: object, other: object, fields: Sequence[str]) -> list[str]:
    return [field for field in fields if getattr(one, field) != getattr(other, field)]
