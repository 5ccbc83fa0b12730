"""Blob → group: these numbers may never change."""

from __future__ import annotations

from collections import Counter

import pytest

from objectio.model.stripe import new_blob_id
from objectio.placement.groups import group_of


@pytest.mark.parametrize(
    ("blob", "group"),
    [(bytes(16), 104), (bytes(range(16)), 219), (b"\xff" * 16, 19)],
)
def test_known_answers(blob, group):
    assert group_of(blob, 256) == group


def test_groups_fill_evenly():
    counts = Counter(group_of(new_blob_id(), 16) for _ in range(16_000))
    assert set(counts) == set(range(16))
    assert max(counts.values()) < 1.25 * 1000
