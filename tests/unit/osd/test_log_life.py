"""Any life of a log, crashes and compactions included, ends with what was acknowledged."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

NUMBERS = st.integers(0, 9)
STEPS = st.one_of(
    st.tuples(st.just("put"), NUMBERS, st.sampled_from([0, 1, 100, 3000, 9000])),
    st.tuples(st.just("put"), NUMBERS, st.sampled_from([3000, 9000])),
    st.tuples(st.just("delete"), st.lists(NUMBERS, min_size=1, max_size=4)),
    st.tuples(st.just("compact"), st.integers(0, 5)),
    st.tuples(st.just("compact_partly"), st.integers(0, 5), st.integers(1, 3)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("lose_index")),
)


def take(bench, step):
    name, *arguments = step
    if name.startswith("compact"):
        victims = bench.victims()
        if not victims:
            return
        arguments[0] = victims[arguments[0] % len(victims)]
    if name == "delete":
        arguments = arguments[0]
    getattr(bench, name)(*arguments)


MANY = 2**20 + 200 * 16 * 1024


@pytest.mark.parametrize(
    ("size_bytes", "direct"), [(0, False), (2**20 + 40 * 16 * 1024, False), (MANY, True)]
)
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, max_size=50))
@example(  # a tombstone that was moved behind a newer record of its key
    steps=[
        ("put", 0, 9000),
        ("put", 1, 9000),
        ("delete", [0]),
        ("put", 0, 9000),
        ("put", 2, 9000),
        ("compact_partly", 1, 1),
        ("put", 3, 9000),
        ("crash",),
        ("lose_index",),
    ]
)
@example(  # a copy that is left in a segment which was compacted half
    steps=[
        ("put", 0, 3000),
        ("put", 1, 3000),
        ("put", 2, 9000),
        ("put", 3, 9000),
        ("compact_partly", 0, 1),
        ("put", 4, 9000),
        ("delete", [0]),
        ("put", 5, 9000),
        ("put", 6, 9000),
        ("compact", 2),
        ("compact", 3),
        ("checkpoint",),
        ("put", 7, 9000),
        ("compact", 2),
        ("checkpoint",),
        ("lose_index",),
    ]
)
def test_a_life(make_bench, direct_path, size_bytes, direct, steps):
    more = {"path": direct_path / "image", "direct": "always"} if direct else {}
    bench = make_bench(size_bytes=size_bytes, **more)
    try:
        for step in steps:
            take(bench, step)
            if step[0] in ("crash", "reopen", "lose_index", "compact"):
                bench.check()
        bench.check()
        bench.crash()
        bench.check()
        bench.lose_index()
        bench.check()
    finally:
        bench.close()
        shutil.rmtree(bench.where)
        (direct_path / "image").unlink(missing_ok=True)
