"""What operators see of a store, and what counts it."""

from __future__ import annotations

import math
import time

import pytest

from objectio.abc.admin import Finding, JournalStatus, ScrubReport, ScrubStatus
from objectio.errors import NotFound
from objectio.model.cluster import Osd, OsdId
from objectio.store.admin import StoreAdmin
from objectio.store.doctor import Surroundings
from objectio.store.gauges import Gauges

DATA = bytes(range(256)) * 100
CREATED_MS = 1_000_000_000_000


class Journal:
    def status(self):
        return JournalStatus(
            enabled=True,
            copies_wanted=3,
            osds=(0, 1, 2),
            sequence=4,
            checkpoint_sequence=1,
            waiting=0,
            bytes_since_checkpoint=99,
        )


class Numbers:
    """Metrics that are read by name and labels."""

    def __init__(self):
        self.functions = {}

    def gauge_function(self, name, help, read, **labels):
        assert (name, *labels.items()) not in self.functions
        self.functions[(name, *labels.items())] = read

    counter_function = gauge_function

    def __call__(self, name, **labels):
        return self.functions[(name, *labels.items())]()


def admin_of(kit, **more):
    upkeep = kit.maintenance
    parts = {
        "repairer": upkeep.repairer,
        "scrubber": upkeep.scrubber,
        "rebalancer": upkeep.rebalancer,
        "journal": Journal(),
        "slow": lambda: kit.store.reads.slow,
        "surroundings": Surroundings(
            data_dir=str(kit.where), kv_driver="lmdb", scrub_interval_seconds=604_800
        ),
        **more,
    }
    topology = [Osd(id=OsdId(slot.osd), host=f"h{slot.osd}") for slot in kit.slots]
    return StoreAdmin(kit.kv, kit.devices, kit.pools, topology, **parts)


@pytest.fixture
def admin(kit):
    return admin_of(kit)


async def test_disks_of_a_healthy_store(kit, admin):
    await kit.put(b"key", DATA)
    disks = await admin.disks()
    assert [disk.osd for disk in disks] == [0, 1, 2, 3, 4, 5]
    for disk in disks:
        store = kit.devices.stores[disk.osd]
        usage = store.usage()
        assert (disk.state, disk.reason, disk.membership) == ("up", "", "in")
        assert (disk.host, disk.path) == (f"h{disk.osd}", kit.slots[disk.osd].path)
        assert disk.device_id == store.device_id
        assert (disk.live_bytes, disk.shards) == (usage.live_bytes, usage.shards)
        assert disk.groups == 8
        assert disk.journal == (disk.osd < 3)
        assert not disk.refilling
        assert not disk.slow
    assert await admin.disk(2) == disks[2]


async def test_a_disk_that_is_down(kit, admin):
    await kit.take_out(4)
    disk = await admin.disk(4)
    assert (disk.state, disk.reason, disk.groups) == ("down", "taken out", 8)
    assert disk.capacity_bytes is disk.live_bytes is disk.shards is None
    assert disk.device_id, "which device is missed stands in the metadata"


async def test_a_disk_that_left_the_configuration(kit, admin):
    await kit.take_out(5)
    kit.slots.pop()
    disk = await admin.disk(5)
    assert (disk.state, disk.path, disk.groups) == ("down", "", 8)
    assert any("OSD 5 is not in the configuration" in each.what for each in await admin.doctor())


@pytest.mark.parametrize("order", ["replace", "drain", "undrain", "remove", "disk"])
async def test_no_such_osd(admin, order):
    with pytest.raises(NotFound) as caught:
        await getattr(admin, order)(77)
    assert caught.value.fields["kind"] == "osd"


async def test_the_doctor_counts_what_may_still_be_lost(kit, admin):
    for down, severity, said in (
        ((), None, ""),
        ((1,), "warning", "1 more disk may be lost"),
        ((1, 3), "critical", "no further disk"),
        ((1, 3, 5), "critical", "cannot be read"),
    ):
        for osd in down[-1:]:
            await kit.take_out(osd)
        found = [each for each in await admin.doctor() if "OSD 1" in each.what]
        assert [each.severity for each in found] == ([severity] if severity else [])
        assert all(said in each.meaning for each in found)
    worst = (await admin.doctor())[0]
    assert (worst.severity, "cannot be read" in worst.what) == ("critical", True)


async def test_a_wide_open_credentials_file(kit, tmp_path):
    file = tmp_path / "credentials.json"
    file.write_text("{}")
    around = Surroundings(
        data_dir=str(kit.where), credentials_path=str(file), scrub_interval_seconds=1.0
    )
    for mode, count in ((0o600, 0), (0o640, 1)):
        file.chmod(mode)
        found = await admin_of(kit, surroundings=around).doctor()
        assert sum("may be read by others" in each.what for each in found) == count


async def test_others_have_something_to_tell(kit):
    told = Finding(severity="critical", what="w", meaning="m", action="a")
    assert (await admin_of(kit, findings=lambda: [told]).doctor())[0] == told


async def test_replace_blank_is_told_of_outside_of_the_data_directory(kit):
    around = Surroundings(data_dir="/somewhere/else", scrub_interval_seconds=1.0)
    found = await admin_of(kit, surroundings=around).doctor()
    assert sum("replace_blank" in each.what for each in found) == 6
    found = await admin_of(kit).doctor()
    assert not any("replace_blank" in each.what for each in found)


# Numbers.


@pytest.fixture
def numbers(kit, monkeypatch):
    monkeypatch.setattr("objectio.store.gauges.SNAPSHOT_SECONDS", -1)

    def of(**more):
        found = Numbers()
        Gauges(admin_of(kit, **more), found, 2, CREATED_MS)
        return found

    return of


async def test_numbers_of_disks(kit, numbers):
    of = numbers()
    await kit.put(b"key", DATA)
    usage = kit.devices.stores[2].usage()
    assert of("objectio_osd_up", osd="2") == 1
    assert of("objectio_osd_live_bytes", osd="2") == usage.live_bytes > 0
    assert of("objectio_osd_shards", osd="2") == usage.shards > 0
    assert of("objectio_osd_groups", osd="2") == 8
    await kit.take_out(2)
    assert of("objectio_osd_up", osd="2") == 0
    assert math.isnan(of("objectio_osd_live_bytes", osd="2"))


async def test_which_device_an_osd_is(kit, numbers):
    of = numbers()
    device = kit.devices.stores[2].device_id
    assert of("objectio_osd_device", osd="2", device=device) == 1
    await kit.take_out(2)
    assert of("objectio_osd_device", osd="2", device=device) == 0


async def test_numbers_of_what_runs(numbers):
    of = numbers()
    assert of("objectio_journal_copies") == 3
    assert of("objectio_rebalance_epoch") >= 1
    assert [of("objectio_repair_waiting_blobs", margin=str(n)) for n in range(3)] == [0, 0, 0]
    never = time.time() - CREATED_MS / 1000  # so old is what no scrub has read yet
    assert 0 <= of("objectio_scrub_age_seconds") - never < 60
    assert math.isnan(of("objectio_scrub_found", kind="healthy"))


async def test_numbers_of_a_scrub(numbers):
    report = ScrubReport(begun_ms=1, finished_ms=2, healthy=7, missing=2, bytes=1000)

    class Scrubber:
        def status(self):
            return ScrubStatus(
                running=True, progress=0.25, current=report, last=report, next_ms=None
            )

    of = numbers(scrubber=Scrubber())
    assert of("objectio_scrub_found", kind="healthy") == 7
    assert of("objectio_scrub_found", kind="missing") == 2
    assert of("objectio_scrub_progress") == 0.25
    assert of("objectio_scrub_read_bytes") == 1000
    assert of("objectio_scrub_age_seconds") > time.time() - 60


async def test_a_scrape_looks_once(kit, monkeypatch):
    admin, of, looks = admin_of(kit), Numbers(), []
    whole = admin.disks_now
    monkeypatch.setattr(admin, "disks_now", lambda: looks.append(1) or whole())
    monkeypatch.setattr("objectio.store.gauges.SNAPSHOT_SECONDS", 60)
    Gauges(admin, of, 2, CREATED_MS)
    for read in of.functions.values():
        read()
    assert len(looks) == 1
