"""The times that requests are signed with. Pure."""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Mapping
from email.utils import parsedate_tz
from functools import lru_cache
from typing import Any, Final

from objectio.errors import AccessDenied

_TIMESTAMP: Final = re.compile(rb"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")


def header_time(headers: Mapping[bytes, bytes]) -> tuple[bytes, int]:
    """(timestamp as it is signed, Unix seconds) from x-amz-date, else from Date."""
    timestamp = headers.get(b"x-amz-date") or headers.get(b"date", b"")
    seconds = parse_timestamp(timestamp)
    if seconds is None and b"x-amz-date" not in headers:
        seconds = _parse_http_date(timestamp)
        if seconds is not None:
            # SigV4 signs the basic ISO 8601 form, whatever form the Date header has.
            timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds)).encode()
    if seconds is None:
        raise AccessDenied(
            "AWS authentication requires a valid Date or x-amz-date header", reason="AccessDenied"
        )
    return timestamp, seconds


@lru_cache(maxsize=64)
def parse_timestamp(text: bytes) -> int | None:
    """ISO 8601 basic, UTC: 20130524T000000Z."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        seconds = timegm((year, month, day, hour, minute, second))
    except ValueError:  # a month or day that does not exist
        return None
    # timegm carries hour 25 over into the next day; only what names itself is a time.
    if time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds)).encode() != text:
        return None
    return seconds


def _parse_http_date(text: bytes) -> int | None:
    try:
        parts: Any = parsedate_tz(text.decode("ascii"))
        if parts is None:
            return None
        seconds = timegm(parts[:6]) - (parts[9] or 0)
        time.gmtime(seconds)
    except (ValueError, OverflowError, OSError):
        return None
    return seconds
