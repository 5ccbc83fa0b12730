"""The Range header (RFC 9110 §14), as S3 reads it: one range of bytes, or else the whole object."""

from __future__ import annotations

import re
from typing import Final

from objectio.errors import RangeNotSatisfiable

_RANGE: Final = re.compile(rb"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*")


def parse_range(value: bytes, size: int) -> tuple[int, int] | None:
    """(start, length) within `size`, or None if the header does not count: malformed, of another
    unit, last before first, or more than one range. Raises `RangeNotSatisfiable`."""
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable("an empty suffix", size=size)
        return size - length, length
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable("behind the end", size=size)
    stop = min(int(last) + 1, size) if last else size
    return start, stop - start
