"""Disks: what they are, and taking them in and out of service."""

from __future__ import annotations

from typing import Any, Final

from objectio.abc.admin import StorageAdmin
from objectio.errors import NotFound
from objectio_api_admin.shapes import Route


async def _disks(admin: StorageAdmin, osd: int) -> Any:
    return {"disks": await admin.disks()}


async def _disk(admin: StorageAdmin, osd: int) -> Any:
    for disk in await admin.disks():
        if disk.osd == osd:
            return disk
    raise NotFound(f"there is no OSD {osd} in the configuration", kind="osd")


ROUTES: Final = (
    Route("GET", "/v1/disks", "ListDisks", "disk/*", _disks),
    Route("GET", "/v1/disks/{osd}", "GetDisk", "disk/{osd}", _disk),
    Route(
        "POST",
        "/v1/disks/{osd}/replace",
        "ReplaceDisk",
        "disk/{osd}",
        lambda admin, osd: admin.replace(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/drain",
        "DrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.drain(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/undrain",
        "UndrainDisk",
        "disk/{osd}",
        lambda admin, osd: admin.undrain(osd),
    ),
    Route(
        "POST",
        "/v1/disks/{osd}/remove",
        "RemoveDisk",
        "disk/{osd}",
        lambda admin, osd: admin.remove(osd),
    ),
)
