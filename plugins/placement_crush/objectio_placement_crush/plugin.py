"""Registers the placement "crush"."""

from __future__ import annotations

from collections.abc import Iterable

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel
from objectio.abc.placement import Placement


def _open(config: NoConfig, context: Context) -> Placement:
    from objectio_placement_crush.placement import CrushPlacement

    return CrushPlacement()


@hookimpl
def objectio_register_placements() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="crush",
            config=NoConfig,
            open=_open,
            summary="weighted draws over racks, hosts and disks",
            rank=100,
            threads=ThreadModel.PARALLEL,
        )
    ]
