"""Commands about what the store does by itself: scrub, repair, moving data, the metadata journal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from objectio.cli.cells import (
    Cell,
    Count,
    Flag,
    Items,
    Moment,
    Named,
    Rate,
    Share,
    Size,
    Span,
    Text,
    cells,
)
from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Row, ShowOne

if TYPE_CHECKING:
    from objectio.cli.client import Client

_POLL_SECONDS: Final = 0.5

_REPORT: Final[dict[str, Cell]] = {
    "begun_ms": Moment,
    "finished_ms": Moment,
    "blobs": Count,
    "healthy": Count,
    "unread": Count,
    "shards": Count,
    "bytes": Size,
    "missing": Count,
    "corrupt": Count,
    "stale": Count,
    "misplaced": Count,
    "orphaned": Count,
    "inconsistent": Count,
    "unrepairable": Count,
}
_SCRUB: Final[dict[str, Cell]] = {
    "running": Flag,
    "progress": Share,
    "next_ms": Moment,
    **{f"current_{name}": kind for name, kind in _REPORT.items() if name != "finished_ms"},
    **{f"last_{name}": kind for name, kind in _REPORT.items()},
}
_REPAIR: Final[dict[str, Cell]] = {
    "active": Flag,
    "waiting": Named,
    "blocked": Count,
    "refilling": Items,
    "waiting_for": Named,
    "repaired_shards": Count,
    "repaired_bytes": Size,
    "bytes_left": Size,
    "bytes_per_second": Rate,
    "seconds_left": Span,
}
_REBALANCE: Final[dict[str, Cell]] = {
    "epoch": Count,
    "groups": Count,
    "groups_moving": Count,
    "groups_waiting": Count,
    "moved_shards": Count,
    "moved_bytes": Size,
    "bytes_left": Size,
    "bytes_per_second": Rate,
    "seconds_left": Span,
    "degraded_spread": Items,
}
_JOURNAL: Final[dict[str, Cell]] = {
    "enabled": Flag,
    "reason": Text,
    "copies_wanted": Count,
    "osds": Items,
    "sequence": Count,
    "checkpoint_sequence": Count,
    "waiting": Count,
    "bytes_since_checkpoint": Size,
}


class _Status(ShowOne):
    path = ""
    kinds: dict[str, Cell]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return cells(connect(parsed_args).get(self.path), self.kinds)


class RepairStatus(_Status):
    """Show what waits for repair, and how long it will take.

    `waiting` counts blobs by how many more shards they may lose before they are lost: those with 0
    are repaired first.
    """

    path, kinds = "/repair", _REPAIR


class RebalanceStatus(_Status):
    """Show what is being moved because disks were added, drained or removed."""

    path, kinds = "/rebalance", _REBALANCE


class MetaStatus(_Status):
    """Show the metadata journal: which disks have a copy, and what is not on enough of them yet."""

    path, kinds = "/journal", _JOURNAL


class ScrubStatus(_Status):
    """Show the scrub that runs, and what the last one that finished has found."""

    path = "/scrub"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        return _scrub(connect(parsed_args).get(self.path), parsed_args)


class ScrubStart(_Status):
    """Read and verify everything stored, now. A scrub that runs goes on."""

    path = "/scrub"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--wait", action="store_true", help="until it has finished")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        client = connect(parsed_args)
        before = _last_begun_ms(client.get(self.path))
        said = client.post(self.path)
        if parsed_args.wait:
            said = self._wait(client, before)
        return _scrub(said, parsed_args)

    def _wait(self, client: Client, before_ms: int) -> Any:
        import time

        while True:
            said = client.get(self.path)
            if _last_begun_ms(said) != before_ms and not said["running"]:
                return said
            time.sleep(_POLL_SECONDS)


def _last_begun_ms(said: Any) -> int:
    return int(said["last"]["begun_ms"]) if said["last"] else 0


def _scrub(said: Any, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
    """For people without the scrub that there is none of; for programs always the same names."""
    flat = {**said}
    for which in ("current", "last"):
        flat |= {f"{which}_{name}": value for name, value in (said[which] or {}).items()}
    if parsed_args.formatter != "table" or parsed_args.columns:
        return cells(flat, _SCRUB)
    absent = tuple(f"{which}_" for which in ("current", "last") if not said[which])
    return cells(flat, {name: kind for name, kind in _SCRUB.items() if not name.startswith(absent)})
