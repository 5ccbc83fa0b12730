"""A power cut tears the end of the log at any byte: what was acknowledged before stays, and nothing
wrong is read."""

from __future__ import annotations

import random
import shutil

import pytest

from objectio.model.stripe import BlobId, ShardKey
from objectio.osd.index import ENTRY


def tear(file, at, how, source):
    """From `at` on the device has something else: nothing, zeroes, noise, or what a disk left of
    an earlier use, whose sectors are whole."""
    raw = file.read_bytes()
    rest = len(raw) - at
    replaced = {
        "cut": b"",
        "zeroes": bytes(rest),
        "noise": source.randbytes(rest),
        "a hole": bytes(min(rest, 60)) + raw[at + 60 :],
    }[how]
    file.write_bytes(raw[:at] + replaced)


@pytest.mark.parametrize("how", ["cut", "zeroes", "noise", "a hole"])
@pytest.mark.parametrize("with_index", [True, False])
def test_a_tail_torn_at_any_byte(bench, shard_key, how, with_index):
    source = random.Random(how)
    bench.put(1, 200)
    bench.put(2, 200)
    bench.checkpoint()
    states = [(bench.log.tail.offset_in_segment + 2**20, dict(bench.model))]
    for call in (
        lambda: bench.put(3, 30),
        lambda: bench.put(1, 25),
        lambda: bench.delete(2),
        lambda: bench.put(4, 40),
    ):
        call()
        states.append((bench.log.tail.offset_in_segment + 2**20, dict(bench.model)))
    bench.close()
    saved = bench.where / "saved"
    shutil.copytree(bench.path, saved)
    shutil.copytree(bench.where / "index", bench.where / "saved-index")
    began, ended = states[0][0], states[-1][0]
    every = set(states[-1][1]) | {shard_key(2)}
    step = 7 if how == "cut" and with_index else 23
    for at in [*range(began, ended, step), ended - 1]:
        shutil.copy(saved / "log", bench.file)
        shutil.rmtree(bench.where / "index")
        if with_index:
            shutil.copytree(bench.where / "saved-index", bench.where / "index")
        tear(bench.file, at, how, source)
        bench.open()
        promised = [state for end, state in states if end <= at][-1]
        later = [state for end, state in states if end > at]
        held = bench.held()
        for key in every:
            assert held.get(key) in {state.get(key) for state in [promised, *later]}, at
        assert set(held) <= every
        bench.model = held
        bench.put(5, 10)
        bench.crash()
        bench.check()
        bench.close()


@pytest.mark.parametrize("with_index", [True, False])
def test_a_replacement_that_is_cut_short_leaves_the_old_or_the_new(bench, shard_key, with_index):
    """The old one is in another segment, so that a tombstone goes with the new one."""
    bench.put(1, 200)
    before = bench.model[shard_key(1)]
    number = 100
    while bench.log.tail.segment_index == bench.log.segment_of(entry_offset(bench, 1)):
        assert bench.put(number, 3_000) is None
        number += 1
    bench.put(2, 50)
    began = bench.log.tail.offset_in_segment
    bench.put(1, 90)
    after = bench.model[shard_key(1)]
    ended = bench.log.tail.offset_in_segment
    base = 2**20 + bench.log.tail.segment_index * bench.log.superblock.segment_bytes
    bench.close()
    shutil.copytree(bench.path, bench.where / "saved")
    shutil.copytree(bench.where / "index", bench.where / "saved-index")
    found = set()
    for at in range(base + began, base + ended + 1, 3):
        shutil.copy(bench.where / "saved" / "log", bench.file)
        shutil.rmtree(bench.where / "index")
        if with_index:
            shutil.copytree(bench.where / "saved-index", bench.where / "index")
        tear(bench.file, at, "cut", random.Random(0))
        bench.open()
        held = bench.held()[shard_key(1)]
        assert held in (before, after), at
        found.add(held)
        bench.close()
    assert found == {before, after}
    bench.open()


def test_what_was_replaced_stays_dead_when_the_new_one_is_damaged(bench, shard_key):
    bench.put(1, 200)
    number = 100
    while bench.log.tail.segment_index == bench.log.segment_of(entry_offset(bench, 1)):
        assert bench.put(number, 3_000) is None
        number += 1
    bench.put(1, 90)
    offset = entry_offset(bench, 1)
    bench.put(2, 90)
    bench.close()
    with bench.file.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(40))
    bench.model.pop(shard_key(1))
    shutil.rmtree(bench.where / "index")
    bench.open()
    bench.check()


def entry_offset(bench, number):
    return ENTRY.unpack(bench.log.index.get(bench_key(number)))[0]


def bench_key(number):
    return ShardKey(BlobId(number.to_bytes(16, "big")), 0, 0).pack()
