"""Preconditions (RFC 9110 §13): reading the headers, and evaluating them for reads.

For writes they go to the object service, which evaluates them in the same step as the change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from objectio.abc.objects import Conditions, ObjectInfo
from objectio.errors import PreconditionFailed
from objectio_api_s3.errors import refuse
from objectio_api_s3.times import parse_http_date, parse_iso8601

# An entity-tag; S3 also takes one without quotes. RFC 9110 §8.8.3.
_ETAG: Final = re.compile(r'[ \t]*(?:(W/)?"([^"]*)"|([^",\s]+))[ \t]*(?:,|$)')

READ_HEADERS: Final = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
)


def parse_etags(value: bytes, *, weak: bool) -> tuple[str, ...]:
    """The tags of a list, "*" as itself. Without `weak` a weak tag stays one that equals nothing,
    since If-Match compares strongly (§13.1.1). Never empty: what cannot be read matches nothing."""
    text = value.decode("latin-1")
    tags = []
    at = 0
    while at < len(text) and (match := _ETAG.match(text, at)):
        at = match.end()
        mark, quoted, bare = match.groups()
        tag = bare if quoted is None else quoted
        tags.append(tag if weak or not mark else f"W/{tag}")
    return tuple(tags) or ("",)


def parse_conditions(headers: Mapping[bytes, bytes], prefix: bytes = b"") -> Conditions | None:
    """Those named `prefix` + if-match and so on; None if there are none."""
    match = headers.get(prefix + b"if-match")
    none_match = headers.get(prefix + b"if-none-match")
    modified = headers.get(prefix + b"if-modified-since")
    unmodified = headers.get(prefix + b"if-unmodified-since")
    if match is None and none_match is None and modified is None and unmodified is None:
        return None
    return Conditions(
        if_match=() if match is None else parse_etags(match, weak=False),
        if_none_match=() if none_match is None else parse_etags(none_match, weak=True),
        if_modified_since=None if modified is None else parse_http_date(modified),
        if_unmodified_since=None if unmodified is None else parse_http_date(unmodified),
    )


def write_conditions(headers: Mapping[bytes, bytes]) -> Conditions | None:
    """S3 knows only the two about ETags on writes."""
    found = parse_conditions(headers)
    if found is None or not (found.if_match or found.if_none_match):
        return None
    return Conditions(if_match=found.if_match, if_none_match=found.if_none_match)


def delete_conditions(headers: Mapping[bytes, bytes]) -> Conditions | None:
    """S3's own three: an ETag, the exact time of the last change, the size."""
    match = headers.get(b"if-match")
    modified = headers.get(b"x-amz-if-match-last-modified-time")
    size = headers.get(b"x-amz-if-match-size")
    if match is None and modified is None and size is None:
        return None
    return Conditions(
        if_match=() if match is None else parse_etags(match, weak=False),
        if_modified_at=None if modified is None else _parse_modified(modified),
        if_size=None if size is None else _parse_size(size),
    )


def _parse_modified(value: bytes) -> int:
    """An HTTP date in the header, ISO 8601 in documents."""
    found = parse_http_date(value)
    if found is None:
        milliseconds = parse_iso8601(value.decode("latin-1").strip())
        if milliseconds is None:
            refuse("InvalidArgument", ArgumentName="x-amz-if-match-last-modified-time")
        found = milliseconds // 1000
    return found


def _parse_size(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        refuse("InvalidArgument", ArgumentName="x-amz-if-match-size")
    return int(value)


def _matches(etag: str, wanted: tuple[str, ...]) -> bool:
    return "*" in wanted or etag in wanted


def not_modified(info: ObjectInfo, conditions: Conditions) -> bool:
    """Whether a read is answered 304. Raises `PreconditionFailed`. The order is that of §13.2.2."""
    modified = info.modified_ms // 1000
    if conditions.if_match:
        if not _matches(info.etag, tuple(conditions.if_match)):
            raise PreconditionFailed("another ETag", condition="If-Match")
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        raise PreconditionFailed("modified", condition="If-Unmodified-Since")
    if conditions.if_none_match:
        return _matches(info.etag, tuple(conditions.if_none_match))
    since = conditions.if_modified_since
    return since is not None and modified <= since


def range_counts(if_range: bytes, info: ObjectInfo) -> bool:
    """Whether a Range stands, given If-Range (§13.1.5): the tag compares strongly, a date
    exactly."""
    text = if_range.strip()
    if text.startswith((b'"', b"W/")):
        return parse_etags(text, weak=False) == (info.etag,)
    date = parse_http_date(text)
    if date is None:
        return parse_etags(text, weak=False) == (info.etag,)
    return date == info.modified_ms // 1000
