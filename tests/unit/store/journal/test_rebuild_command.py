"""`objectio meta rebuild`, on the devices of a kit."""

from __future__ import annotations

import asyncio
import shutil
import uuid

import pytest

from objectio.cli.app import main
from objectio.store.journalformat import ENTRY, Name


@pytest.fixture
def rebuild(kit, capsys):
    """`await rebuild(…)` gives the exit code and what was said."""
    where = kit.where

    def write(driver="lmdb", more=""):
        disks = "".join(f'[[osd.disk]]\nid = {osd}\npath = "disk{osd}"\n' for osd in range(5))
        (where / "objectio.toml").write_text(
            f'[node]\ndata_dir = "."\n[kv]\ndriver = "{driver}"\n{more}\n{disks}'
        )

    async def rebuild_(*arguments):
        command = ["meta", "rebuild", "--config", str(where / "objectio.toml"), *arguments]
        code = await asyncio.to_thread(main, command)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    write()
    rebuild_.write = write
    return rebuild_


def rows_in(kit, name):
    kv = kit.open_kv(name)
    try:
        return kit.rows(kv)
    finally:
        kv.close_sync()


async def lose_metadata(kit):
    rows = kit.rows()
    await kit.stop()
    shutil.rmtree(kit.where / "meta")
    return rows


async def test_everything_comes_back(kit, rebuild):
    await kit.put(*((b"%d" % number, b"v" * number) for number in range(500)))
    rows = await lose_metadata(kit)
    shutil.rmtree(kit.where / "disk1")
    code, said = await rebuild("--dry-run")
    assert code == 0, said
    assert not (kit.where / "meta").exists()
    code, said = await rebuild()
    assert code == 0, said
    assert "not read     1: absent or blank" in said
    assert rows_in(kit, "meta") == rows
    assert not (kit.where / "meta.rebuilding").exists()
    code, said = await rebuild()
    assert code == 2
    assert "--replace" in said


async def test_where_the_drivers_path_says(kit, rebuild, tmp_path):
    rows = await lose_metadata(kit)
    rebuild.write(more=f'[kv.lmdb]\npath = "{tmp_path}/far/away"')
    code, said = await rebuild()
    assert code == 0, said
    shutil.move(tmp_path / "far" / "away", kit.where / "meta")
    assert rows_in(kit, "meta") == rows


async def test_losses_must_be_accepted(kit, rebuild):
    for number in range(4):
        await kit.put((b"%d" % number, b""))
    last = kit.kv.outbox.number
    rows = await lose_metadata(kit)
    stores = await kit.stores()
    for store in stores.values():
        answer = asyncio.get_running_loop().create_future()
        store.submit_delete([Name(ENTRY, 1, last - 1).key()], answer.set_result)
        assert await answer is None
        await store.close()
    code, said = await rebuild()
    assert code == 1
    assert "1 batches of changes would be lost" in said
    assert "--accept-loss" in said
    assert not (kit.where / "meta").exists()
    code, said = await rebuild("--accept-loss")
    assert code == 0, said
    del rows[b"2"], rows[b"3"]
    assert rows_in(kit, "meta") == rows


async def test_disks_of_two_clusters(kit, rebuild):
    await lose_metadata(kit)
    shutil.rmtree(kit.where / "disk4")
    kit.factory.prepare(str(kit.where / "disk4"), cluster_id=str(uuid.uuid4()))
    code, said = await rebuild()
    assert code == 2
    assert "different clusters" in said


async def test_no_disks(kit, rebuild):
    await lose_metadata(kit)
    for osd in range(5):
        shutil.rmtree(kit.where / f"disk{osd}")
    code, said = await rebuild()
    assert code == 3
    assert "none of the configured disks holds data" in said


async def test_an_engine_without_a_journal(kit, rebuild):
    await kit.stop()
    rebuild.write("memory")
    code, said = await rebuild()
    assert code == 2
    assert "not journaled" in said


async def test_a_damaged_engine_needs_a_word(kit, rebuild):
    await kit.put((b"key", b"v"))
    rows = await lose_metadata(kit)
    (kit.where / "meta").mkdir()
    (kit.where / "meta" / "data.mdb").write_bytes(b"not an engine" * 1000)
    code, said = await rebuild()
    assert code == 2
    code, said = await rebuild("--replace")
    assert code == 0, said
    assert rows_in(kit, "meta") == rows
    assert len(list(kit.where.glob("meta.old-*"))) == 1
