"""What stands in where a part of the store is not there: it says so, and does nothing."""

from __future__ import annotations

from typing import Any

from objectio.abc.admin import JournalStatus


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
