"""Which number a disk has. From most to least certain: the device that is on it has one; it stands
where a number's device stood last; the configuration gives it one; it is new and gets the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from objectio.abc.cluster import DiskOffer, NodeOffer
from objectio.errors import ConfigError
from objectio.meta.records import LocationRecord


class Known(NamedTuple):
    """Of a number: where it is, and the device that stands for it; empty while there is none."""

    location: LocationRecord | None
    device_id: str


class Census(NamedTuple):
    """All numbers that were ever given, and the first that may be given next."""

    known: Mapping[int, Known]
    following: int
    raw_locations: Mapping[int, bytes]
    raw_osds: Mapping[int, bytes]


Holding = Literal["no", "listed", "serving"]
Holds = Callable[[str, int], Holding]
"""Whether a node, by name, is alive and has an OSD among its own; serving: with its device in
service."""


def number_disks(offer: NodeOffer, census: Census, holds: Holds) -> tuple[tuple[int, ...], int]:
    """The numbers of the disks in their order, and the one that follows all that were ever given.
    Raises `ConfigError`."""
    by_device = {one.device_id: osd for osd, one in census.known.items() if one.device_id}
    found: dict[int, int] = {}
    """By place in the offer."""
    for index, disk in enumerate(offer.disks):
        if disk.device_id in by_device:
            found[index] = _checked(disk, by_device[disk.device_id])
    for index, disk in enumerate(offer.disks):
        if index not in found:
            osd = _by_place(offer, disk, census, set(found.values()))
            if osd is not None:
                found[index] = osd
    following = max([census.following, *(osd + 1 for osd in found.values())])
    for index in range(len(offer.disks)):
        if index not in found:
            found[index], following = following, following + 1
    osds = tuple(found[index] for index in range(len(offer.disks)))
    for osd, disk in zip(osds, offer.disks, strict=True):
        _check_place(offer, disk, osd, census.known.get(osd), holds)
    return osds, following


def _checked(disk: DiskOffer, osd: int) -> int:
    if disk.osd not in (None, osd):
        raise ConfigError(
            f"{disk.path} holds the device of OSD {osd}, and the configuration calls it OSD "
            f"{disk.osd}. Were disks swapped? Give each its own path again"
        )
    return osd


def _by_place(offer: NodeOffer, disk: DiskOffer, census: Census, taken: set[int]) -> int | None:
    """The number of a disk that is blank, or whose device is not known yet."""
    if disk.osd is not None:
        if disk.osd in taken:
            raise ConfigError(
                f"the configuration calls {disk.path} OSD {disk.osd}, but the device of that OSD is "
                f"another disk of {offer.node}"
            )
        return disk.osd
    for osd, one in census.known.items():
        location = one.location
        if osd in taken or location is None:
            continue
        if location.node == offer.node and location.path == disk.path:
            return osd
    return None


def _check_place(
    offer: NodeOffer, disk: DiskOffer, osd: int, known: Known | None, holds: Holds
) -> None:
    """A number is at one place. Its device may be carried elsewhere; a disk without that device may
    take the number of one whose node is gone, and is not let in by what it holds then."""
    if known is None or known.location is None or known.location.node == offer.node:
        return
    there = known.location
    holding = holds(there.node, osd)
    if holding == "serving":
        raise ConfigError(
            f"{disk.path} of {offer.node} is said to be OSD {osd}, which is in service at "
            f"{there.node}: is its device copied, or the number given twice?"
        )
    if holding == "listed" and (not disk.device_id or disk.device_id != known.device_id):
        raise ConfigError(
            f"{disk.path} of {offer.node} is said to be OSD {osd}, and so is {there.path} of "
            f"{there.node}. For a new disk take another number, or none"
        )
