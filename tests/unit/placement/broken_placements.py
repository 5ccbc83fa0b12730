"""Placements that are wrong, each in one way."""

from __future__ import annotations

from objectio.abc.placement import Placed
from objectio.model.cluster import FailureDomain
from objectio.placement.rendezvous import RendezvousPlacement


class Right(RendezvousPlacement):
    """Not broken: what the others start from."""


class Modulo(RendezvousPlacement):
    """Rotates over the OSDs: an OSD more or less moves nearly everything."""

    def place(self, group, cluster, rule):
        ids = [osd.id for osd in cluster.osds if osd.in_ and osd.weight > 0]
        members = [ids[(group + i) % len(ids)] for i in range(min(rule.width, len(ids)))]
        members += [None] * (rule.width - len(members))
        return Placed(tuple(members), FailureDomain.DISK)


class Salted(RendezvousPlacement):
    """Depends on Python's salted hash."""

    def place(self, group, cluster, rule):
        return super().place(hash(f"group {group}") & 0xFFFFFFFF, cluster, rule)


class Weightless(RendezvousPlacement):
    """Ignores weights."""

    def place(self, group, cluster, rule):
        osds = tuple(
            type(osd)(id=osd.id, host=osd.host, rack=osd.rack, in_=osd.in_)
            for osd in cluster.osds
            if osd.weight > 0
        )
        return super().place(group, type(cluster)(epoch=1, osds=osds), rule)


class Shorter(RendezvousPlacement):
    """Leaves holes out."""

    def place(self, group, cluster, rule):
        placed = super().place(group, cluster, rule)
        return Placed(tuple(osd for osd in placed.osds if osd is not None), placed.level)


class Sorted(RendezvousPlacement):
    """The right members, in positions that shift when one of them changes."""

    def place(self, group, cluster, rule):
        placed = super().place(group, cluster, rule)
        members = sorted(osd for osd in placed.osds if osd is not None)
        return Placed((*members, *[None] * (rule.width - len(members))), placed.level)


class Epochal(RendezvousPlacement):
    """Starts anew with each epoch."""

    def place(self, group, cluster, rule):
        return super().place(group + 1000 * cluster.epoch, cluster, rule)


class Silent(RendezvousPlacement):
    """Falls back and does not say so."""

    def place(self, group, cluster, rule):
        return Placed(super().place(group, cluster, rule).osds, rule.failure_domain)
