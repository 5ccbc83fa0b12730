"""The doctor: every finding from values, without a store."""

from __future__ import annotations

import msgspec
import pytest

from objectio.abc.admin import (
    DiskStatus,
    JournalStatus,
    RebalanceStatus,
    RepairStatus,
    ScrubReport,
    ScrubStatus,
)
from objectio.limits import GIB
from objectio.store.doctor import Facts, PoolFacts, Surroundings, basis, diagnose

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
change = msgspec.structs.replace


def disk(osd=0, **more):
    fields = {
        "path": f"/srv/disk{osd}",
        "host": "localhost",
        "rack": "default",
        "weight": 1.0,
        "state": "up",
        "groups": 128,
        "capacity_bytes": 100 * GIB,
        "used_bytes": 10 * GIB,
    }
    return DiskStatus(osd=osd, **{**fields, **more})


def pool(**more):
    fields = {
        "pool": 1,
        "profile": "rs-cauchy-0x11d:4+2",
        "parity_shards": 2,
        "current": True,
        "margin": 2,
        "margin_of_readable": 2,
        "groups": 128,
        "groups_unwritable": 0,
    }
    return PoolFacts(**{**fields, **more})


REPAIR = RepairStatus(
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
REPORT = ScrubReport(
    begun_ms=NOW_MS - 3 * DAY_MS,
    finished_ms=NOW_MS - 2 * DAY_MS,
    blobs=1200,
    healthy=1200,
    shards=7200,
    bytes=5 * GIB,
)
SCRUB = ScrubStatus(
    running=False, progress=0.0, current=None, last=REPORT, next_ms=NOW_MS + 4 * DAY_MS
)
MOVES = RebalanceStatus(
    epoch=1,
    groups=128,
    groups_moving=0,
    groups_waiting=0,
    moved_shards=0,
    moved_bytes=0,
    bytes_left=0,
    bytes_per_second=0.0,
    seconds_left=None,
    degraded_spread=(),
)
JOURNAL = JournalStatus(
    enabled=True,
    copies_wanted=3,
    osds=(0, 1, 2),
    sequence=9,
    checkpoint_sequence=3,
    waiting=0,
    bytes_since_checkpoint=100,
)
AROUND = {"data_dir": "/var/lib/objectio", "kv_driver": "lmdb", "scrub_interval_seconds": 604_800.0}


def facts(around=None, **more):
    fields = {
        "now_ms": NOW_MS,
        "disks": [disk(osd) for osd in range(6)],
        "pools": [pool()],
        "repair": REPAIR,
        "scrub": SCRUB,
        "rebalance": MOVES,
        "journal": JOURNAL,
        "surroundings": Surroundings(**{**AROUND, **(around or {})}),
        "credentials_mode": 0o600,
    }
    return Facts(**{**fields, **more})


def with_disk(**more):
    return {"disks": [disk(3, **more), *(disk(osd) for osd in (0, 1, 2, 4, 5))]}


def test_a_healthy_store_has_nothing_wrong():
    assert diagnose(facts()) == []


@pytest.mark.parametrize(
    ("changed", "severity", "said", "advised"),
    [
        (
            {**with_disk(state="down", reason="it is gone"), "pools": [pool(margin=1)]},
            "warning",
            "OSD 3 at /srv/disk3 is down: it is gone",
            "objectio disk replace 3",
        ),
        (
            {**with_disk(state="down", reason="it is gone"), "pools": [pool(margin=0)]},
            "critical",
            "no shard to spare",
            "Take no disk out",
        ),
        (
            {"pools": [pool(margin=-1, margin_of_readable=-1)]},
            "critical",
            "cannot be read",
            "Do not replace or remove",
        ),
        (with_disk(state="down", groups=0), "info", "is down", "out of the configuration"),
        (
            with_disk(state="down", path="", membership="in"),
            "warning",
            "not in the configuration any more",
            "objectio disk remove 3",
        ),
        (
            with_disk(state="failed", reason="I/O error"),
            "warning",
            "takes no writes: I/O error",
            "objectio disk drain 3",
        ),
        (with_disk(state="full"), "warning", "is full: 10.0 GiB of 100.0 GiB", "Add disks"),
        (with_disk(used_bytes=86 * GIB), "warning", "filled to 86%", "Add disks"),
        (with_disk(slow=True), "warning", "slow to read", "objectio disk drain 3"),
        (with_disk(refilling=True), "info", "is being refilled", "objectio repair status"),
        (
            with_disk(membership="draining", groups=0),
            "info",
            "draining and has nothing left",
            "id = 3 out of the configuration",
        ),
        (
            with_disk(membership="out", groups=0, state="down"),
            "info",
            "out and has nothing left",
            "objectio disk undrain 3",
        ),
        (
            {"pools": [pool(groups_unwritable=128)]},
            "critical",
            "takes no writes in 128 of 128 groups",
            "objectio disk list",
        ),
        (
            {"pools": [pool(), pool(pool=2, current=False, groups_unwritable=1)]},
            "warning",
            "takes no writes in 1 of 128",
            "objectio disk list",
        ),
        (
            {"pools": [pool(profile="replicate:1+0", parity_shards=0, margin=0)]},
            "info",
            "no parity",
            "parity_shards",
        ),
        (
            {"repair": change(REPAIR, waiting={-1: 2, 1: 3}, blocked=2)},
            "critical",
            "2 blobs cannot be read",
            "objectio disk list",
        ),
        (
            {"repair": change(REPAIR, waiting={0: 1})},
            "critical",
            "1 blob waiting for repair can lose no further shard",
            "objectio repair status",
        ),
        (
            {"repair": change(REPAIR, waiting={1: 3}, blocked=3)},
            "warning",
            "3 of 3 blobs cannot be repaired now",
            "objectio disk list",
        ),
        (
            {"repair": change(REPAIR, waiting={1: 3}, seconds_left=130.0)},
            "info",
            "3 blobs are being repaired, 2 minutes left",
            "Nothing",
        ),
        (
            {"repair": change(REPAIR, waiting_for={4: "has no room"})},
            "warning",
            "OSD 4 takes no shards from repair: it has no room",
            "add disks",
        ),
        (
            {"around": {"scrub_interval_seconds": 0.0}},
            "warning",
            "scrubbing is off",
            "scrub_interval_seconds",
        ),
        (
            {"scrub": change(SCRUB, next_ms=NOW_MS - 8 * DAY_MS)},
            "warning",
            "overdue by 8 days",
            "objectio scrub start",
        ),
        (
            {
                "scrub": change(
                    SCRUB, running=True, current=change(REPORT, begun_ms=NOW_MS - 9 * DAY_MS)
                )
            },
            "warning",
            "running for 9 days",
            "scrub_bytes_per_second",
        ),
        (
            {"scrub": change(SCRUB, last=change(REPORT, missing=2, orphaned=1))},
            "warning",
            "2 missing, 1 orphaned",
            "objectio scrub start",
        ),
        (
            {"scrub": change(SCRUB, last=change(REPORT, inconsistent=1))},
            "critical",
            "1 stripe whose shards are whole",
            "a copy elsewhere",
        ),
        (
            {"scrub": change(SCRUB, last=change(REPORT, unrepairable=4))},
            "critical",
            "4 stripes that cannot be repaired",
            "objectio scrub start",
        ),
        (
            {"scrub": change(SCRUB, last=change(REPORT, unread=7))},
            "warning",
            "could not read all of 7 blobs",
            "objectio scrub start",
        ),
        (
            {"scrub": change(SCRUB, last=change(REPORT, finished_ms=NOW_MS + DAY_MS))},
            "warning",
            "The clock",
            "timedatectl",
        ),
        ({"around": {"kv_driver": "memory"}}, "critical", "kept in memory", "[kv] driver"),
        (
            {"journal": change(JOURNAL, enabled=False, reason="it is switched off")},
            "warning",
            "no copy on the devices: it is switched off",
            "journal = true",
        ),
        (
            {"journal": change(JOURNAL, osds=(1,), reason="OSD 0 is down")},
            "warning",
            "has 1 of the 3 copies wanted: OSD 0 is down",
            "objectio disk list",
        ),
        ({"journal": change(JOURNAL, osds=())}, "critical", "has 0 of the 3", "disk list"),
        ({"journal": change(JOURNAL, waiting=2)}, "warning", "2 batches", "objectio meta status"),
        (
            {"rebalance": change(MOVES, degraded_spread=("pool 1: degraded spread, 2 hosts",))},
            "warning",
            "degraded spread",
            "failure_domain",
        ),
        (
            {"rebalance": change(MOVES, groups_moving=2, groups_waiting=5, bytes_left=3 * GIB)},
            "info",
            "7 placement groups of 128 are on the move: 3.0 GiB to go",
            "objectio rebalance status",
        ),
        (
            {"around": {"auth": False, "listen": "0.0.0.0:9000"}},
            "critical",
            "Nobody has to authenticate",
            "--no-auth",
        ),
        ({"around": {"auth": False, "listen": "[::1]:9000"}}, "info", "Nobody has to", "--no-auth"),
        (
            {"credentials_mode": 0o644, "around": {"credentials_path": "/d/credentials.json"}},
            "warning",
            "may be read by others (mode 0644)",
            "chmod 600 /d/credentials.json",
        ),
        ({"replace_blank": [2]}, "warning", "OSD 2 has replace_blank", "objectio disk replace 2"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(changed, severity, said, advised):
    found = diagnose(facts(**changed))
    matching = [each for each in found if said in each.what]
    assert matching, found
    assert matching[0].severity == severity
    assert advised in matching[0].action
    assert matching[0].meaning.endswith(".")


def test_no_credentials_file_is_nothing_wrong():
    assert diagnose(facts(credentials_mode=None)) == []


def test_the_worst_comes_first():
    found = diagnose(
        facts(
            **with_disk(refilling=True),
            around={"scrub_interval_seconds": 0.0},
            repair=change(REPAIR, waiting={0: 1}),
        )
    )
    assert [each.severity for each in found] == ["critical", "warning", "info"]


@pytest.mark.parametrize(
    ("margin", "said"),
    [(1, "1 more disk may be lost"), (3, "3 more disks may be lost"), (0, "no further disk")],
)
def test_a_disk_that_is_down_tells_how_many_more_may_be_lost(margin, said):
    pools = [pool(margin=margin), pool(pool=2, margin=max(margin, 4))]
    found = diagnose(facts(**with_disk(state="down", reason="gone"), pools=pools))
    [down] = [each for each in found if each.what.startswith("OSD 3")]
    assert said in down.meaning


def test_a_disk_that_was_removed_is_not_to_be_brought_back():
    assert diagnose(facts(**with_disk(state="down", membership="out"))) == []


def test_what_nothing_is_wrong_rests_on():
    said = basis(SCRUB, NOW_MS)
    assert "ended 2 days ago" in said
    assert "5.0 GiB in 7,200 shards" in said
    assert "1,200 of 1,200 blobs healthy" in said
    assert "no scrub has finished yet" in basis(change(SCRUB, last=None), NOW_MS)
