"""Disks: what they are, and taking them in and out of service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from objectio.abc.admin import DiskStatus, StorageAdmin
from objectio.errors import NotFound
from objectio_api_admin.shapes import Route


class DiskList(msgspec.Struct, frozen=True, kw_only=True):
    """By the numbers of their OSDs."""

    disks: Sequence[DiskStatus]


async def _disks(admin: StorageAdmin, osd: int) -> DiskList:
    return DiskList(disks=await admin.disks())


async def _disk(admin: StorageAdmin, osd: int) -> DiskStatus:
    for disk in await admin.disks():
        if disk.osd == osd:
            return disk
    raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd")


ROUTES: Final = (
    Route(
        "GET",
        "/v1/disks",
        "ListDisks",
        "disk/*",
        _disks,
        returns=DiskList,
        summary="Lists the disks of all nodes.",
    ),
    Route(
        "GET",
        "/v1/disks/{osd}",
        "GetDisk",
        "disk/{osd}",
        _disk,
        returns=DiskStatus,
        summary="Shows a disk.",
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/replace",
        "ReplaceDisk",
        "disk/{osd}",
        lambda admin, osd: admin.replace(osd),
        returns=DiskStatus,
        summary="Takes the blank device that is now at the path of a disk into service in its place, "
        "and refills it. Refused while the disk is in service.",
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/drain",
        "DrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.drain(osd),
        returns=DiskStatus,
        summary="Moves everything off a disk, which stays readable until that is done.",
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/undrain",
        "UndrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.undrain(osd),
        returns=DiskStatus,
        summary="Has a disk that is drained take shards again.",
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/remove",
        "RemoveDisk",
        "disk/{osd}",
        lambda admin, osd: admin.remove(osd),
        returns=DiskStatus,
        summary="Declares a disk that will not come back as gone: its shards are made anew elsewhere. "
        "Refused while it is up.",
    ),
)
