"""Times as S3 writes them: ISO 8601 in XML, HTTP dates in headers (RFC 9110 §5.6.7).

Both are asked for again and again with the same second, in listings and hot reads, so the last
ones are remembered.
"""

from __future__ import annotations

import calendar
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
# IMF-fixdate, RFC 850 and asctime, all three of which a recipient must accept.
_TIME: Final = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)"
_HTTP_DATES: Final = (
    re.compile(rf"[A-Za-z]{{3}}, (?P<d>\d\d) (?P<b>[A-Za-z]{{3}}) (?P<y>\d{{4}}) {_TIME} GMT"),
    re.compile(rf"[A-Za-z]{{6,9}}, (?P<d>\d\d)-(?P<b>[A-Za-z]{{3}})-(?P<y>\d\d) {_TIME} GMT"),
    re.compile(rf"[A-Za-z]{{3}} (?P<b>[A-Za-z]{{3}}) (?P<d>[ \d]\d) {_TIME} (?P<y>\d{{4}})"),
)


@lru_cache(maxsize=1024)
def _day(days: int) -> str:
    return time.strftime("%Y-%m-%dT", time.gmtime(days * 86_400))


@lru_cache(maxsize=65_536)
def _iso8601(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    return f"{_day(days)}{hours:02d}:{minutes:02d}:{rest:02d}.000Z"


def iso8601(milliseconds: int) -> str:
    """To the second, as S3 does, so that it agrees with Last-Modified."""
    return _iso8601(milliseconds // 1000)


def iso8601_exact(milliseconds: int) -> str:
    """To the millisecond, for times that were given and not measured."""
    return f"{_iso8601(milliseconds // 1000)[:-4]}{milliseconds % 1000:03d}Z"


_ISO8601: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)


def parse_iso8601(text: str) -> int | None:
    """Unix milliseconds; UTC where no zone is named. None if it is no such time."""
    if _ISO8601.fullmatch(text) is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        return int(found.timestamp() * 1000)
    except (OverflowError, ValueError):
        return None


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> bytes:
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    ).encode("ascii")


def http_date(milliseconds: int) -> bytes:
    return _http_date(milliseconds // 1000)


def parse_http_date(value: bytes) -> int | None:
    """Unix seconds, or None if it is no HTTP date: then the header is ignored (RFC 9110 §13.1)."""
    text = value.decode("latin-1").strip()
    for pattern in _HTTP_DATES:
        if match := pattern.fullmatch(text):
            break
    else:
        return None
    month = match["b"].capitalize()
    if month not in _MONTHS:
        return None
    year = int(match["y"])
    if year < 100:  # RFC 9110 §5.6.7: two digits that seem far ahead mean the past
        year += 2000 if year < 70 else 1900
    day, hour, minute, second = (int(match[name]) for name in "dhms")
    if not (1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    return calendar.timegm((year, _MONTHS.index(month) + 1, day, hour, minute, second))
