"""The store as a whole: repair, scrub, rebalance, journal, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from objectio.abc.admin import (
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubStatus,
    StorageAdmin,
)
from objectio_api_admin.shapes import Route


class FindingList(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is wrong, worst first; empty if nothing is."""

    findings: Sequence[Finding]


async def _findings(admin: StorageAdmin, osd: int) -> FindingList:
    return FindingList(findings=await admin.doctor())


ROUTES: Final = (
    Route(
        "GET",
        "/v1/repair",
        "GetRepair",
        "repair",
        lambda admin, _: admin.repair(),
        returns=RepairStatus,
        summary="Shows what waits to be made anew, and how fast that goes.",
    ),
    Route(
        "GET",
        "/v1/scrub",
        "GetScrub",
        "scrub",
        lambda admin, _: admin.scrub(),
        returns=ScrubStatus,
        summary="Shows the pass of verification that runs, and what the last one found.",
    ),
    Route(
        "POST",
        "/v1/scrub",
        "StartScrub",
        "scrub",
        lambda admin, _: admin.start_scrub(),
        returns=ScrubStatus,
        summary="Begins a pass of verification over everything stored; one that runs goes on.",
    ),
    Route(
        "GET",
        "/v1/rebalance",
        "GetRebalance",
        "rebalance",
        lambda admin, _: admin.rebalance(),
        returns=RebalanceStatus,
        summary="Shows what still has to move to where the cluster map wants it.",
    ),
    Route(
        "GET",
        "/v1/journal",
        "GetJournal",
        "journal",
        lambda admin, _: admin.journal(),
        returns=JournalStatus,
        summary="Shows the copies of the metadata journal that the devices have.",
    ),
    Route(
        "GET",
        "/v1/doctor",
        "Diagnose",
        "doctor",
        _findings,
        returns=FindingList,
        summary="Says everything that is wrong with the store, what it means, and what to do.",
    ),
)
