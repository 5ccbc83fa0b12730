"""The doctor: from what every part says of itself to what is wrong, what it means and what to do.

Pure functions of values, so that each finding can be tested without breaking a store. A finding is
critical if data is lost, cannot be had, or would be with one more failure; a warning if somebody
should do something; an info if it mends itself or was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from objectio.abc.admin import (
    DiskStatus,
    Finding,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubReport,
    ScrubStatus,
    Severity,
)
from objectio.model.units import count_text, size_text, span_text

NEARLY_FULL: Final = 0.85
"""Share of a device from which it should be taken care of: compaction and repair need room, too."""

_ORDER: Final[dict[Severity, int]] = {"critical": 0, "warning": 1, "info": 2}
_CLOCK_SLACK_MS: Final = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the storage itself does not know: how it is served, and what it was told to do."""

    auth: bool = True
    listen: str = "127.0.0.1:9000"
    data_dir: str = ""
    credentials_path: str = ""
    kv_driver: str = ""
    scrub_interval_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolFacts:
    """`margin` says how many more shards may be lost of the group that is worst off, counting the
    shards of OSDs that are being refilled as lost; `margin_of_readable` counts them as there, and
    is negative where a group cannot be read."""

    pool: int
    profile: str
    parity_shards: int
    current: bool
    margin: int
    margin_of_readable: int
    groups: int
    groups_unwritable: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """`replace_blank` are OSDs outside of the data directory for which a blank device is taken into
    service without asking; `credentials_mode` is None where there is no such file; `others` are what parts
    say of themselves."""

    now_ms: int
    disks: Sequence[DiskStatus]
    pools: Sequence[PoolFacts]
    repair: RepairStatus
    scrub: ScrubStatus
    rebalance: RebalanceStatus
    journal: JournalStatus
    surroundings: Surroundings
    credentials_mode: int | None = None
    replace_blank: Sequence[int] = ()
    others: Sequence[Finding] = ()


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that is wrong, worst first."""
    parts = (_pools, _disks, _repair, _journal, _scrub, _rebalance, _surroundings)
    found = [*facts.others, *(finding for part in parts for finding in part(facts))]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def basis(scrub: ScrubStatus, now_ms: int) -> str:
    """What "nothing is wrong" rests on: only what was read is known to be healthy."""
    last = scrub.last
    if last is None:
        return (
            "This rests on what the devices say of themselves and on what clients have read: no "
            "scrub has finished yet, so the rest of what is stored has not been read and verified. "
            "To do that now: objectio scrub start"
        )
    return (
        f"This rests on the scrub that ended {_ago(last.finished_ms, now_ms)}: it read "
        f"{size_text(last.bytes)} in {count_text(last.shards, 'shard')}, and found "
        f"{last.healthy:,} of {count_text(last.blobs, 'blob')} healthy. What was written since then "
        "has not been read again."
    )


def _ago(then_ms: int, now_ms: int) -> str:
    return f"{span_text(max(0, now_ms - then_ms) / 1000)} ago"


# Pools.


def _pools(facts: Facts) -> Iterator[Finding]:
    absent = any(disk.state == "down" and disk.groups for disk in facts.disks)
    for pool in facts.pools:
        name = f"pool {pool.pool} ({pool.profile})"
        if pool.margin_of_readable < 0:
            yield Finding(
                severity="critical",
                what=f"Objects in {name} cannot be read.",
                meaning="More of its disks are down than it has parity for. Nothing is lost as long "
                "as enough of them come back.",
                action="Bring disks back that are down: objectio disk list. Do not replace or "
                "remove any of them before.",
            )
        elif pool.margin <= 0 and pool.parity_shards:
            yield Finding(
                severity="critical",
                what=f"There are objects in {name} that have no shard to spare.",
                meaning="Everything can be read, but losing one more disk may lose objects for good.",
                action="Take no disk out. "
                + (
                    "Bring those that are down back, or replace them: objectio disk list."
                    if absent
                    else "The disks are being refilled; watch it: objectio repair status."
                ),
            )
        elif not pool.parity_shards:
            yield Finding(
                severity="info",
                what=f"There is no parity in {name}.",
                meaning="Any disk that is lost takes objects with it: that is how the pool was set up.",
                action="For a pool that survives losses, set parity_shards in [pool]; objects "
                "written from then on are in it.",
            )
        if pool.groups_unwritable:
            yield Finding(
                severity="critical" if pool.current else "warning",
                what=f"{name.capitalize()} takes no writes in {pool.groups_unwritable} of "
                f"{pool.groups} groups.",
                meaning="Too few of their disks take writes for an acknowledged write to be safe; "
                "such writes are answered 503 and nothing of them is kept.",
                action="Bring disks back that are down or failed, or make room on those that are "
                "full: objectio disk list.",
            )


def _reserve(facts: Facts) -> str:
    """How many more may be lost, as a sentence."""
    margin = min((pool.margin for pool in facts.pools), default=0)
    if min((pool.margin_of_readable for pool in facts.pools), default=0) < 0:
        return "Some objects cannot be read until disks come back."
    if margin <= 0:
        return "Everything can be read, but no further disk may be lost."
    return f"Everything can be read, and {count_text(margin, 'more disk')} may be lost."


def _grave(facts: Facts) -> Severity:
    return "critical" if any(pool.margin <= 0 for pool in facts.pools) else "warning"


# Disks.


def _disks(facts: Facts) -> Iterator[Finding]:
    for disk in facts.disks:
        name = f"OSD {disk.osd}"
        if disk.membership != "in" and not disk.groups and not facts.rebalance.groups_waiting:
            yield Finding(
                severity="info",
                what=f"{name} is {disk.membership} and has nothing left.",
                meaning="No object needs it.",
                action=f"Take its [[osd.disk]] with id = {disk.osd} out of the configuration and "
                f"restart the node; or have it back: objectio disk undrain {disk.osd}",
            )
            continue
        if disk.state == "down":
            if (
                disk.membership != "out"
            ):  # else its going was declared, and its shards are made anew
                yield _down(facts, disk)
        elif disk.state == "failed":
            yield Finding(
                severity=_grave(facts),
                what=f"{name} at {disk.path} takes no writes: {disk.reason}",
                meaning=f"What is on it can still be read; what should be written is not. "
                f"{_reserve(facts)}",
                action=f"Look at the disk (dmesg, smartctl). Put a blank one in its place and run: "
                f"objectio disk replace {disk.osd}; or move everything off it: "
                f"objectio disk drain {disk.osd}",
            )
        elif disk.state == "full" or _share(disk) > NEARLY_FULL:
            yield _filled(disk)
        if disk.slow:
            yield Finding(
                severity="warning",
                what=f"{name} at {disk.path} is slow to read.",
                meaning="Reads are made up for from the other disks, which costs them work. A disk "
                "often gets slow before it fails.",
                action=f"Look at the disk (iostat, smartctl); to move everything off it: "
                f"objectio disk drain {disk.osd}",
            )
        if disk.refilling and disk.state != "down":
            yield Finding(
                severity="info",
                what=f"{name} is being refilled.",
                meaning=f"Its shards are made anew from the others. {_reserve(facts)}",
                action="Take no other disk out meanwhile; watch it: objectio repair status",
            )


def _down(facts: Facts, disk: DiskStatus) -> Finding:
    if not disk.groups:
        return Finding(
            severity="info",
            what=f"OSD {disk.osd} at {disk.path} is down: {disk.reason}",
            meaning="It has no data.",
            action="Bring it back, or take it out of the configuration.",
        )
    if not disk.path:
        return Finding(
            severity=_grave(facts),
            what=f"OSD {disk.osd} is not in the configuration any more, but has data.",
            meaning=f"Its shards count as missing. {_reserve(facts)}",
            action="Put its [[osd.disk]] back and restart the node, or, if it will not come back: "
            f"objectio disk remove {disk.osd}",
        )
    return Finding(
        severity=_grave(facts),
        what=f"OSD {disk.osd} at {disk.path} is down: {disk.reason}",
        meaning=_reserve(facts),
        action="If it is not mounted or not plugged in, mend that: it is taken into service by "
        f"itself. If it is broken, put a blank disk at {disk.path} and run: objectio disk replace "
        f"{disk.osd}. If neither will happen: objectio disk remove {disk.osd}",
    )


def _share(disk: DiskStatus) -> float:
    if not disk.capacity_bytes or disk.used_bytes is None:
        return 0.0
    return disk.used_bytes / disk.capacity_bytes


def _filled(disk: DiskStatus) -> Finding:
    full = disk.state == "full"
    used = f"{size_text(disk.used_bytes or 0)} of {size_text(disk.capacity_bytes or 0)}"
    return Finding(
        severity="warning",
        what=f"OSD {disk.osd} at {disk.path} is "
        + (f"full: {used}." if full else f"filled to {_share(disk):.0%}: {used}."),
        meaning="It takes deletions only; objects are written with one shard less, while that is "
        "safe, and not at all when it is not."
        if full
        else "Writes go on, but there is little room for them and for what repair has to put there.",
        action="Add disks ([[osd.disk]] in the configuration), or delete objects; space comes back "
        "by itself after that.",
    )


# What runs in the background.


def _repair(facts: Facts) -> Iterator[Finding]:
    repair = facts.repair
    lost = sum(blobs for margin, blobs in repair.waiting.items() if margin < 0)
    bare = repair.waiting.get(0, 0)
    waiting = sum(repair.waiting.values())
    if lost:
        yield Finding(
            severity="critical",
            what=f"{count_text(lost, 'blob')} cannot be read: too many shards are missing.",
            meaning="The objects that they belong to answer 503. They come back if enough of the "
            "disks that are down do.",
            action="Bring disks back that are down: objectio disk list. Do not replace or remove "
            "any of them before.",
        )
    if bare:
        yield Finding(
            severity="critical",
            what=f"{count_text(bare, 'blob')} waiting for repair can lose no further shard.",
            meaning="They can be read. They are repaired before all others.",
            action="Take no disk out; watch it: objectio repair status",
        )
    if waiting and repair.blocked:
        yield Finding(
            severity="warning",
            what=f"{repair.blocked:,} of {count_text(waiting, 'blob')} cannot be repaired now.",
            meaning="Their shards belong on a disk that is down, or too few of the others can be "
            "read.",
            action="Bring back or replace the disks that are down: objectio disk list",
        )
    for osd, why in repair.waiting_for.items():
        yield Finding(
            severity="warning",
            what=f"OSD {osd} takes no shards from repair: it {why}.",
            meaning="What belongs on it has one shard less until it does.",
            action="If it is full, add disks or delete objects; see objectio disk list.",
        )
    if waiting - lost - bare > repair.blocked:
        left = "" if repair.seconds_left is None else f", {span_text(repair.seconds_left)} left"
        yield Finding(
            severity="info",
            what=f"{count_text(waiting - repair.blocked, 'blob')} are being repaired{left}.",
            meaning="They can be read, and lose nothing unless more disks are lost first.",
            action="Nothing; watch it: objectio repair status",
        )


def _scrub(facts: Facts) -> Iterator[Finding]:
    scrub, interval = facts.scrub, facts.surroundings.scrub_interval_seconds
    late_ms = facts.now_ms - (scrub.next_ms or facts.now_ms)
    begun = scrub.current.begun_ms if scrub.running and scrub.current else facts.now_ms
    if not interval:
        yield Finding(
            severity="warning",
            what="What is stored is never read and verified by itself: scrubbing is off.",
            meaning="Damage to objects that nobody reads gathers unseen, until it cannot be "
            "repaired.",
            action="Set [store] scrub_interval_seconds (604800 is a week), and restart the node; "
            "for one pass now: objectio scrub start",
        )
    elif scrub.running and facts.now_ms - begun > interval * 1000:
        yield Finding(
            severity="warning",
            what=f"The scrub has been running for {span_text((facts.now_ms - begun) / 1000)}, longer "
            f"than the {span_text(interval)} within which everything should be read.",
            meaning="Damage is found later than was asked for.",
            action="Raise [store] scrub_bytes_per_second, or scrub_interval_seconds.",
        )
    elif not scrub.running and late_ms > interval * 1000:
        yield Finding(
            severity="warning",
            what=f"The scrub is overdue by {span_text(late_ms / 1000)}.",
            meaning="Damage is found later than was asked for.",
            action="Start it: objectio scrub start; and look for `scrub` in the server's log.",
        )
    if scrub.last is not None:
        yield from _report(scrub.last, facts.now_ms)


def _report(last: ScrubReport, now_ms: int) -> Iterator[Finding]:
    when = _ago(last.finished_ms, now_ms)
    if last.inconsistent:
        yield Finding(
            severity="critical",
            what=f"The scrub that ended {when} found {count_text(last.inconsistent, 'stripe')} whose "
            "shards are whole, and yet do not fit together.",
            meaning="A write went wrong, or a device returned other bytes than were written, with "
            "checksums that fit: which of the shards is right is not known.",
            action="Compare the objects (the server's log names them) with a copy elsewhere, and "
            "write them again.",
        )
    if last.unrepairable:
        yield Finding(
            severity="critical",
            what=f"The scrub that ended {when} found {count_text(last.unrepairable, 'stripe')} that "
            "cannot be repaired.",
            meaning="Too few of their shards are left, or which of them are wrong cannot be told. "
            "The objects that they belong to cannot be read in full.",
            action="Bring disks back that are down, and scrub again: objectio scrub start. The "
            "server's log names what is affected.",
        )
    kinds = ("missing", "corrupt", "stale", "misplaced", "orphaned")
    found = [f"{getattr(last, kind):,} {kind}" for kind in kinds if getattr(last, kind)]
    if found:
        yield Finding(
            severity="warning",
            what=f"The scrub that ended {when} found shards that are not as they should be: "
            f"{', '.join(found)}.",
            meaning="They were handed over to repair, which makes them anew from the others.",
            action="When objectio repair status is empty, see that it stays so: objectio scrub "
            "start. If corrupt shards come again on one disk, replace that disk.",
        )
    if last.unread:
        yield Finding(
            severity="warning",
            what=f"The scrub that ended {when} could not read all of {count_text(last.unread, 'blob')}.",
            meaning="Shards of them are on disks that were down: nothing is known of these shards.",
            action="When all disks are up: objectio scrub start",
        )
    if last.finished_ms > now_ms + _CLOCK_SLACK_MS:
        yield Finding(
            severity="warning",
            what="The clock of this machine went back: the last scrub ended in the future.",
            meaning="Scrubs come late, and signed requests are refused if it is off by 15 minutes.",
            action="Have the clock set by NTP: timedatectl",
        )


def _journal(facts: Facts) -> Iterator[Finding]:
    journal = facts.journal
    if facts.surroundings.kv_driver == "memory":
        yield Finding(
            severity="critical",
            what="The metadata is kept in memory.",
            meaning="When the server ends, the names of all objects are lost, and with them the "
            "objects.",
            action="Install an engine that keeps it, objectio[lmdb] for one, and name it: [kv] "
            "driver. For tests only, this is fine.",
        )
    if not journal.enabled:
        yield Finding(
            severity="warning",
            what=f"The metadata has no copy on the devices{_because(journal.reason)}.",
            meaning="If the metadata directory is lost, the names of all objects are lost, and with "
            "them the objects, however many disks are whole.",
            action="Set [kv] journal = true, unless the engine keeps copies on several machines.",
        )
        return
    copies = len(journal.osds)
    if copies < journal.copies_wanted:
        yield Finding(
            severity="warning" if copies else "critical",
            what=f"The metadata journal has {copies} of the {journal.copies_wanted} copies wanted"
            f"{_because(journal.reason)}.",
            meaning="With the metadata directory and that many disks lost, the names of objects "
            "would be lost."
            if copies
            else "If the metadata directory is lost now, the names of objects are lost.",
            action="Bring disks back that are down: objectio disk list. More copies are made by "
            "themselves.",
        )
    if journal.waiting:
        yield Finding(
            severity="warning",
            what=f"{journal.waiting:,} batches of metadata are not on enough devices yet.",
            meaning="They are in the metadata directory. Should it be lost now, so are they.",
            action="Usually this passes at once. If it stays, look at the disks that have the "
            "journal: objectio meta status",
        )


def _because(reason: str) -> str:
    return f": {reason.rstrip('.')}" if reason else ""


def _rebalance(facts: Facts) -> Iterator[Finding]:
    moves = facts.rebalance
    for sentence in moves.degraded_spread:
        yield Finding(
            severity="warning",
            what=sentence,
            meaning="Shards of one stripe share what may fail at once, so a single failure may "
            "take more of them than it should.",
            action="Add disks, hosts or racks, or choose a smaller failure_domain for new pools.",
        )
    moving = moves.groups_moving + moves.groups_waiting
    if moving:
        left = "" if moves.seconds_left is None else f", {span_text(moves.seconds_left)} left"
        yield Finding(
            severity="info",
            what=f"{count_text(moving, 'placement group')} of {moves.groups:,} are on the move: "
            f"{size_text(moves.bytes_left)} to go{left}.",
            meaning="Everything can be read and written meanwhile.",
            action="Nothing; leave disks that are draining in until they are empty. Watch it: "
            "objectio rebalance status",
        )


# Surroundings.


def _surroundings(facts: Facts) -> Iterator[Finding]:
    around, mode = facts.surroundings, facts.credentials_mode
    if not around.auth:
        near = _is_loopback(around.listen)
        yield Finding(
            severity="info" if near else "critical",
            what=f"Nobody has to authenticate, and the server listens on {around.listen}.",
            meaning="Every program on this machine may read, change and delete everything."
            if near
            else "Everybody on the network may read, change and delete everything.",
            action="Start it without --no-auth (auth = true in [gateway])"
            + ("." if near else ", or listen on 127.0.0.1."),
        )
    if mode is not None and mode & 0o077:
        yield Finding(
            severity="warning",
            what=f"{around.credentials_path} may be read by others (mode {mode:04o}).",
            meaning="It holds the root's secret key.",
            action=f"chmod 600 {around.credentials_path}; if others have used this machine, move the "
            "file away and restart the node, which makes new keys.",
        )
    for osd in facts.replace_blank:
        yield Finding(
            severity="warning",
            what=f"OSD {osd} has replace_blank = true.",
            meaning="If its file system is not mounted one day, the empty directory below is taken "
            "for a new disk, and is filled.",
            action="Set it to false, and say it when a disk was replaced: objectio disk replace "
            f"{osd}",
        )


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
