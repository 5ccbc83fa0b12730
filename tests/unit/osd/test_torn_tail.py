"""A power cut tears the end of the log at any byte: what was acknowledged before stays, and nothing
wrong is read."""

from __future__ import annotations

import random
import shutil

import pytest


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
        lambda: bench.put(1, 25),  # replaces: a tombstone and a shard
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
            possible = {state.get(key) for state in [promised, *later]}
            if any(state.get(key) != promised.get(key) for state in later):
                possible.add(None)  # its tombstone may be there, and what replaced it not
            assert held.get(key) in possible, at
        assert set(held) <= every
        bench.model = held
        bench.put(5, 10)
        bench.crash()
        bench.check()
        bench.close()
