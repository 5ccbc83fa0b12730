"""The store as a whole: repair, scrub, rebalance, journal, and what is wrong."""

from __future__ import annotations

from typing import Any, Final

from objectio.abc.admin import StorageAdmin
from objectio_api_admin.shapes import Route


async def _findings(admin: StorageAdmin, osd: int) -> Any:
    return {"findings": await admin.doctor()}


ROUTES: Final = (
    Route("GET", "/v1/repair", "GetRepair", "repair", lambda admin, _: admin.repair()),
    Route("GET", "/v1/scrub", "GetScrub", "scrub", lambda admin, _: admin.scrub()),
    Route("POST", "/v1/scrub", "StartScrub", "scrub", lambda admin, _: admin.start_scrub()),
    Route("GET", "/v1/rebalance", "GetRebalance", "rebalance", lambda admin, _: admin.rebalance()),
    Route("GET", "/v1/journal", "GetJournal", "journal", lambda admin, _: admin.journal()),
    Route("GET", "/v1/doctor", "Diagnose", "doctor", _findings),
)
