"""Sizes, rates and times as people read them."""

from __future__ import annotations

from typing import Final

_SIZES: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def size_text(size_bytes: float) -> str:
    """512 is "512 B", 1536 is "1.5 KiB"."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    size = size_bytes / 1024
    units = iter(_SIZES)
    unit = next(units)
    while size >= 1023.95 and unit != _SIZES[-1]:
        size, unit = size / 1024, next(units)
    return f"{size:.1f} {unit}"


def span_text(seconds: float) -> str:
    """In the unit that says most: 30 is "30 seconds", 7300 is "2 hours"."""
    for length, unit in _SPANS:
        count = int(seconds // length)
        if count:
            return count_text(count, unit)
    return "less than a second"


def count_text(count: int, what: str) -> str:
    """1, "blob" is "1 blob"; 12000, "blob" is "12,000 blobs"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
