"""The page on the on-disk format is enough to read a device."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from objectio.osd.format import Superblock, parse_header

SIZE = 2**20 + 200 * 16 * 1024
PAGE = Path(__file__).resolve().parents[3] / "docs/explanation/on-disk.md"


@pytest.fixture(scope="module")
def live_shards():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["live_shards"]


def live(bench, source, steps=120):
    for _ in range(steps):
        match source.randrange(8):
            case 0:
                bench.delete(*source.sample(range(12), 2))
            case 1 if victims := bench.victims():
                bench.compact(source.choice(victims))
            case 2 if victims := bench.victims():
                bench.compact_partly(source.choice(victims), 2)
            case 3:
                bench.checkpoint()
            case 4:
                bench.crash()
            case _:
                bench.put(source.randrange(12), source.choice([0, 1, 500, 3000, 9000]))


@pytest.mark.parametrize("seed", range(4))
def test_the_reader_of_the_page_finds_what_is_live(bench, live_shards, seed):
    live(bench, random.Random(seed))
    found = live_shards(bench.file.read_bytes())
    assert found == {tuple(key): payload for key, payload in bench.model.items()}


@pytest.mark.parametrize("direct", ["always", "auto", "never"])
def test_an_image(make_bench, direct_path, live_shards, direct):
    """Written past the page cache or through it, and by turns."""
    path = direct_path / "image"
    bench = make_bench(path=path, size_bytes=SIZE, direct="auto")
    assert bench.log.device.block_bytes >= 4096
    bench.direct = direct
    for seed in range(3):
        live(bench, random.Random(f"{direct}{seed}"), 80)
        bench.check()
        found = live_shards(path.read_bytes())
        assert found == {tuple(key): payload for key, payload in bench.model.items()}
        bench.direct = ["auto", direct, "never"][seed]


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_a_block_device(make_bench, make_loop_device, live_shards, sector_bytes):
    path = Path(make_loop_device(SIZE, sector_bytes))
    bench = make_bench(path=path, size_bytes=SIZE, direct="always")
    live(bench, random.Random(sector_bytes))
    bench.check()
    found = live_shards(path.read_bytes())
    assert found == {tuple(key): payload for key, payload in bench.model.items()}
    bench.lose_index()
    bench.check()


def test_large_payloads_have_a_checksum_per_block(make_bench, live_shards):
    bench = make_bench(segment_bytes=2**20)
    for number, size in enumerate((65_535, 65_536, 65_537, 300_000)):
        bench.put(number, size)
    found = live_shards(bench.file.read_bytes())
    assert found == {tuple(key): payload for key, payload in bench.model.items()}


def test_a_superblock_that_is_damaged_or_newer(bench):
    raw = bench.file.read_bytes()[:80]
    assert Superblock.unpack(raw).opens == 1
    for at in range(80):
        assert Superblock.unpack(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]) is None


def test_any_flipped_bit_of_a_header_is_noticed(bench, shard_key):
    bench.put(1, 10)
    at = int.from_bytes(bench.log.index.get(shard_key(1).pack())[:8], "little")
    raw = bench.file.read_bytes()[at:]
    record = parse_header(raw)
    assert record is not None
    for byte in range(record.header_bytes):
        for bit in range(8):
            changed = bytearray(raw)
            changed[byte] ^= 1 << bit
            assert parse_header(changed) is None
