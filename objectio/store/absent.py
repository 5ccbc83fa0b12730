"""What stands in where a part of the store is not there: it says so, and does nothing."""

from __future__ import annotations

from typing import Any

from objectio.abc.admin import JournalStatus, RebalanceStatus, RepairStatus, ScrubStatus
from objectio.errors import InvalidRequest


class AbsentRepairs:
    def status(self) -> RepairStatus:
        return RepairStatus(
            active=False,
            waiting={},
            blocked=0,
            refilling=(),
            repaired_shards=0,
            repaired_bytes=0,
            bytes_left=0,
            bytes_per_second=0.0,
            seconds_left=None,
        )


class AbsentScrubs:
    def status(self) -> ScrubStatus:
        return ScrubStatus(running=False, progress=0.0, current=None, last=None, next_ms=None)

    def start_now(self) -> None:
        raise InvalidRequest("there is no scrub")


class AbsentMoves:
    def status(self) -> RebalanceStatus:
        return RebalanceStatus(
            epoch=1,
            groups=0,
            groups_moving=0,
            groups_waiting=0,
            moved_shards=0,
            moved_bytes=0,
            bytes_left=0,
            bytes_per_second=0.0,
            seconds_left=None,
            degraded_spread=(),
        )

    async def drain(self, osd: int) -> None:
        raise InvalidRequest("nothing can be moved")

    undrain = remove = drain


class AbsentJournal:
    def status(self) -> JournalStatus:
        return JournalStatus(
            enabled=False,
            copies_wanted=0,
            osds=(),
            sequence=0,
            checkpoint_sequence=0,
            waiting=0,
            bytes_since_checkpoint=0,
            reason="there is no journal",
        )


def part(store: Any, name: str, otherwise: Any) -> Any:
    found = getattr(store, name, None)
    return found if hasattr(found, "status") else otherwise
