"""What is on a disk before it is prepared, and what is said of devices that cannot be opened."""

from __future__ import annotations

import logging
import os
import random
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from objectio.errors import ConfigError
from objectio.limits import MIB
from objectio.osd.blank import contents, is_blank
from objectio.osd.format import Superblock
from objectio.osd.store import LogStoreConfig, LogStoreFactory
from objectio.osd.superblock import look
from objectio.testing.context import make_context
from objectio.testing.shardstore_calls import (
    CLUSTER,
    OTHER_CLUSTER,
    noise,
    read,
    scan_all,
    shard_key,
    submit,
    submit_delete,
)

SIZE = 64 * MIB


@pytest.fixture
def factory(tmp_path):
    return LogStoreFactory(LogStoreConfig(segment_bytes=MIB), make_context(tmp_path))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, SIZE)
    return path


def put(path, at, data):
    with path.open("r+b") as file:
        file.seek(at if at >= 0 else SIZE + at)
        file.write(data)


SIGNATURES = [
    (0, b"XFSB", "xfs"),
    (1080, b"\x53\xef", "ext4"),
    (65_600, b"_BHRfS_M", "btrfs"),
    (512, b"LABELONE", "LVM"),
    (0, b"LUKS\xba\xbe\0\2", "LUKS"),
    (4096, struct.pack("<I", 0xA92B4EFC), "RAID"),
    (-8192, struct.pack("<I", 0xA92B4EFC), "RAID"),
    (4086, b"SWAPSPACE2", "swap"),
    (512, b"EFI PART", "GPT"),
    (-512, b"EFI PART", "GPT"),
    (510, b"\x55\xaa", "MBR"),
    (128 * 1024 + 37 * 1024, struct.pack("<Q", 0x00BAB10C), "ZFS"),
    (0, b"bluestore block device\n", "Ceph"),
    (0, b"OBJECTIO", "ObjectIO"),
    (MIB, b"OIR1", "without its superblock"),
    (700_000, b"x", "not known"),
    (-1, b"x", "not known"),
    (-MIB, b"x", "not known"),
]


@pytest.mark.parametrize(("at", "magic", "what"), SIGNATURES)
def test_what_is_there_is_left_alone_and_named(factory, image, at, magic, what):
    put(image, at, magic)
    before = image.read_bytes()
    with pytest.raises(ConfigError, match=what) as refused:
        factory.prepare(str(image), cluster_id=CLUSTER)
    assert "wipefs -a" in str(refused.value)
    assert image.read_bytes() == before
    with pytest.raises(ConfigError):
        factory.probe(str(image))


def test_zeroes_are_blank(image):
    assert contents(image) is None
    put(image, SIZE // 2, b"left in the middle")
    assert is_blank(image)


def test_the_commands_that_clear_a_disk_do(factory, image):
    put(image, 0, noise(3 * MIB))
    put(image, -MIB, noise(MIB))
    with pytest.raises(ConfigError) as refused:
        factory.prepare(str(image), cluster_id=CLUSTER)
    _, commands, _ = str(refused.value).split("`")
    subprocess.run(["sh", "-c", commands], check=True, capture_output=True)
    assert image.stat().st_size == SIZE
    factory.prepare(str(image), cluster_id=CLUSTER)


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (["mkfs.ext4", "-q"], "ext4"),
        (["mkswap"], "swap"),
        (["mkfs.xfs", "-q"], "xfs"),
        (["mkfs.btrfs", "-q"], "btrfs"),
        (["sfdisk", "--quiet", "--label", "gpt"], "partition table"),
    ],
)
def test_what_real_programs_leave(image, program, what):
    os.truncate(image, 300 * MIB)
    stdin = "size=10M\n" if program[0] == "sfdisk" else None
    try:
        subprocess.run(
            [*program, str(image)], input=stdin, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip(f"{program[0]} is not installed")
    assert what in contents(image)


def test_a_mounted_disk_is_refused(factory, make_loop_device, tmp_path):
    path = make_loop_device(SIZE)
    try:
        subprocess.run(["mkfs.ext4", "-q", path], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mkfs.ext4 is not installed")
    where = tmp_path / "mnt"
    where.mkdir()
    if subprocess.run(["mount", path, str(where)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(ConfigError, match="mounted"):
            factory.prepare(path, cluster_id=CLUSTER)
    finally:
        subprocess.run(["umount", str(where)], check=True)
    with pytest.raises(ConfigError, match="ext4"):
        factory.prepare(path, cluster_id=CLUSTER)


def test_a_disk_that_is_too_small(factory, tmp_path):
    with pytest.raises(ConfigError, match="too small"):
        factory.prepare(str(tmp_path / "disk"), cluster_id=CLUSTER, size_bytes=3 * MIB)
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="too small"):
        factory.prepare(str(tmp_path / "empty"), cluster_id=CLUSTER)


# Superblocks.


async def test_a_device_of_another_cluster_says_whose_it_is(factory, image):
    factory.prepare(str(image), cluster_id=OTHER_CLUSTER)
    with pytest.raises(ConfigError, match=f"another cluster .{OTHER_CLUSTER}"):
        await factory.open(str(image), cluster_id=CLUSTER)


async def test_a_newer_format_is_refused(factory, image):
    factory.prepare(str(image), cluster_id=CLUSTER)
    newer = look(image)._replace(format_version=2).pack()
    put(image, 0, newer)
    put(image, 4096, newer)
    for call in (factory.probe, lambda path: factory._open(Path(path), CLUSTER)):
        with pytest.raises(ConfigError, match="on-disk format 2") as refused:
            call(str(image))
        assert str(image) in str(refused.value)
    assert image.read_bytes()[:4096] == newer


@pytest.mark.parametrize("copy", [0, 4096])
async def test_a_damaged_copy_of_the_superblock_is_written_anew(factory, image, copy, caplog):
    factory.prepare(str(image), cluster_id=CLUSTER)
    put(image, copy + 20, b"\xff")
    with caplog.at_level(logging.WARNING):
        store = await factory.open(str(image), cluster_id=CLUSTER)
    await store.close()
    assert "one copy of the superblock" in caplog.text
    raw = image.read_bytes()[:8192]
    assert Superblock.unpack(raw) is not None
    assert Superblock.unpack(raw) == Superblock.unpack(raw[4096:])


async def test_a_superblock_that_is_damaged_twice(factory, image):
    factory.prepare(str(image), cluster_id=CLUSTER)
    put(image, 20, b"\xff")
    put(image, 4096 + 20, b"\xff")
    with pytest.raises(ConfigError, match="both copies"):
        factory.probe(str(image))
    with pytest.raises(ConfigError, match="both copies"):
        await factory.open(str(image), cluster_id=CLUSTER)
    with pytest.raises(ConfigError, match="ObjectIO"):
        factory.prepare(str(image), cluster_id=CLUSTER)


async def test_an_image_that_was_cut(factory, image):
    factory.prepare(str(image), cluster_id=CLUSTER)
    os.truncate(image, SIZE - 4096)
    with pytest.raises(ConfigError, match="was cut"):
        await factory.open(str(image), cluster_id=CLUSTER)
    os.truncate(image, SIZE)
    store = await factory.open(str(image), cluster_id=CLUSTER)
    await store.close()


async def test_a_device_that_has_grown_is_used_to_its_end(factory, image):
    factory.prepare(str(image), cluster_id=CLUSTER)
    os.truncate(image, 2 * SIZE)
    store = await factory.open(str(image), cluster_id=CLUSTER)
    assert store.usage().capacity_bytes == look(image).size_bytes == 2 * SIZE
    source, held = random.Random(1), {}
    for number in range(100):
        held[shard_key(number)] = source.randbytes(900_000)
        await submit(store, shard_key(number), held[shard_key(number)], sync=False)
    await store.close()
    store = await factory.open(str(image), cluster_id=CLUSTER)
    assert await scan_all(store) == sorted(held)
    for key, payload in held.items():
        assert await read(store, key) == payload
    await store.close()


async def test_a_block_device_lives(factory, make_loop_device):
    """Prepared, filled, crashed, deleted from, compacted and discarded, without its index too."""
    path = make_loop_device(SIZE)
    device_id = factory.prepare(path, cluster_id=CLUSTER)
    assert factory.probe(path) == device_id
    store = await factory.open(path, cluster_id=CLUSTER)
    held = {shard_key(i): noise(500_000, i) for i in range(80)}
    for key, payload in held.items():
        await submit(store, key, payload)
    await store.close()
    factory.forget(device_id)
    store = await factory.open(path, cluster_id=CLUSTER)
    assert await scan_all(store) == sorted(held)
    segments = [segment.sequence for segment in store._core.segments]
    for number in range(0, 80, 3):
        del held[shard_key(number)]
        await submit_delete(store, shard_key(number))
    await store._checkpoint()
    await store._compact_segments(0.9, 100)
    freed = [i for i in store._core.free if i < len(segments) and segments[i]]
    assert len(freed) >= 10
    await store.close()
    with open(path, "rb") as raw:
        for index in freed:
            raw.seek(MIB + index * MIB + 4096)
            assert raw.read(MIB - 4096).count(0) == MIB - 4096, "it was not discarded"
    factory.forget(device_id)
    store = await factory.open(path, cluster_id=CLUSTER)
    assert uuid.UUID(store.device_id) == uuid.UUID(device_id)
    for key, payload in held.items():
        assert await read(store, key) == payload
    assert await scan_all(store) == sorted(held)
    await store.close()
