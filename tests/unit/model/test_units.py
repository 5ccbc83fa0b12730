"""Sizes and times as people read them."""

from __future__ import annotations

import pytest

from objectio.model.units import count_text, size_text, span_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (130, "2 minutes"),
        (7300, "2 hours"),
        (86_400, "1 day"),
        (86_400 * 400, "400 days"),
    ],
)
def test_spans(seconds, text):
    assert span_text(seconds) == text


def test_counts():
    assert count_text(1, "blob") == "1 blob"
    assert count_text(12_000, "blob") == "12,000 blobs"
