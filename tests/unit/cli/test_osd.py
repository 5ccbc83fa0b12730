"""`objectio osd prepare`."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from objectio.cli.app import main
from objectio.cli.osd import parse_size
from objectio.limits import GIB, MIB
from objectio.meta.service import load_cluster
from objectio.osd.superblock import look
from objectio.runtime.lock import DirectoryLock

CLUSTER = str(uuid.UUID(int=7))


@pytest.fixture
def disk(tmp_path):
    return tmp_path / "disk"


def prepare(capsys, *argv):
    """Exit code, what was printed, what was said of errors."""
    code = main(["osd", "prepare", *map(str, argv), "-f", "json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


def test_an_image(capsys, disk):
    code, shown, _ = prepare(capsys, "--disk", disk, "--size", "64M", "--cluster-id", CLUSTER)
    assert code == 0
    superblock = look(disk)
    assert shown == {
        "disk": str(disk),
        "device_id": str(uuid.UUID(bytes=superblock.device_id)),
        "cluster_id": CLUSTER,
        "size_bytes": 64 * MIB,
        "segment_bytes": 4 * MIB,
        "format": 1,
    }
    assert superblock.cluster_id == uuid.UUID(CLUSTER).bytes
    assert disk.stat().st_size == 64 * MIB


def test_a_directory(capsys, disk):
    code, shown, _ = prepare(capsys, "--disk", disk, "--cluster-id", CLUSTER)
    assert code == 0
    assert shown["size_bytes"] == 0
    assert (disk / "log").exists()


def test_what_holds_something_is_refused_with_what_to_do(capsys, disk):
    disk.write_bytes(bytes(1080) + b"\x53\xef" + bytes(64 * MIB))
    before = disk.read_bytes()
    code, _, said = prepare(capsys, "--disk", disk, "--cluster-id", CLUSTER)
    assert code == 2
    assert "ext4" in said
    assert "wipefs -a" in said
    assert disk.read_bytes() == before


def test_a_prepared_disk_is_not_prepared_again(capsys, disk):
    prepare(capsys, "--disk", disk, "--size", "64M", "--cluster-id", CLUSTER)
    code, _, said = prepare(capsys, "--disk", disk, "--cluster-id", str(uuid.uuid4()))
    assert code == 2
    assert "a device of ObjectIO" in said
    assert look(disk).cluster_id == uuid.UUID(CLUSTER).bytes


@pytest.fixture
def config_file(tmp_path):
    """Of a node whose metadata is kept by the engine that is installed, if any keeps it."""
    pytest.importorskip("objectio_kv_lmdb")
    path = tmp_path / "objectio.toml"
    path.write_text('[node]\ndata_dir = "data"\n[kv]\ndriver = "lmdb"\n')
    return path


def start_once(config_file):
    """What the first start of a server leaves: the id of its cluster."""
    from objectio import builtin
    from objectio.config import load_config
    from objectio.plugin.loader import load_plugins
    from objectio.runtime.node import Node

    async def start():
        config = load_config(config_file, env={})
        config.data_dir.mkdir()
        kv = Node(config, load_plugins(builtin=(builtin,))).open_kv()
        try:
            return (await load_cluster(kv)).cluster_id
        finally:
            await kv.close()

    return asyncio.run(start())


def test_the_cluster_of_a_configuration(capsys, disk, config_file):
    cluster_id = start_once(config_file)
    code, shown, said = prepare(capsys, "--disk", disk, "--size", "64M", "--config", config_file)
    assert (code, said) == (0, "")
    assert shown["cluster_id"] == cluster_id
    assert look(disk).cluster_id == uuid.UUID(cluster_id).bytes


def test_the_cluster_of_a_data_directory(capsys, disk, config_file, tmp_path):
    cluster_id = start_once(config_file)
    (tmp_path / "data/objectio.toml").write_text('[node]\ndata_dir = "."\n[kv]\ndriver = "lmdb"\n')
    code, shown, _ = prepare(capsys, "--disk", disk, "--size", "64M", "--data", tmp_path / "data")
    assert code == 0
    assert shown["cluster_id"] == cluster_id


def test_no_cluster_yet(capsys, disk, config_file, tmp_path):
    for arguments in (["--config", config_file], ["--data", tmp_path / "nowhere"]):
        code, _, said = prepare(capsys, "--disk", disk, "--size", "64M", *arguments)
        assert code == 2
        assert "--cluster-id" in said
        assert not disk.exists()


def test_a_server_that_runs(capsys, disk, config_file, tmp_path):
    start_once(config_file)
    lock = DirectoryLock(tmp_path / "data")
    lock.acquire()
    try:
        code, _, said = prepare(capsys, "--disk", disk, "--size", "64M", "--config", config_file)
    finally:
        lock.release()
    assert code == 2
    assert "in use" in said
    assert "--cluster-id" in said
    assert not disk.exists()


@pytest.mark.parametrize("bad", [["--cluster-id", "7"], ["--size", "x"], ["--size", "0"], []])
def test_wrong_arguments(capsys, disk, bad):
    with pytest.raises(SystemExit) as refused:
        main(["osd", "prepare", "--disk", str(disk), *bad])
    assert refused.value.code == 2
    assert not disk.exists()


def test_sizes():
    assert parse_size("500M") == 500 * MIB
    assert parse_size("2 GiB") == parse_size("2g") == parse_size("2GB") == 2 * GIB
    assert parse_size("4096") == 4096
