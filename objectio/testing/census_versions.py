"""Whether the rows of versions agree with each other: what must hold after every commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from objectio.abc.objects import NULL_VERSION
from objectio.kv.keys import decode_uint, unescape
from objectio.meta import keys
from objectio.meta.records import ObjectRecord, decode_object

_NAME: int = 1 + keys.BUCKET_ID_BYTES


class _Place(NamedTuple):
    bucket_id: bytes
    key: bytes


def version_problems(rows: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Of all rows `o`, `d`, `v` and `n`: each key has one current version, if it has any, and the
    others are older; at most one is called "null", and is found; no two are of one id."""
    problems: list[str] = []
    heads: dict[_Place, ObjectRecord] = {}
    others: dict[_Place, list[ObjectRecord]] = {}
    pointers: dict[_Place, int] = {}
    for row, raw in rows:
        place = _Place(row[1:_NAME], row[_NAME:])
        if row[:1] == b"n":
            pointers[place] = decode_uint(raw)
            continue
        record = decode_object(raw)
        if row[:1] == b"v":
            place = _Place(row[1:_NAME], unescape(row, _NAME)[0])
            others.setdefault(place, []).append(record)
            if row != keys.version(place.bucket_id, place.key, record.sequence):
                problems.append(f"a version of {place.key!r} under the sequence of another")
            continue
        if place in heads:
            problems.append(f"two versions of {place.key!r} are current")
        if record.delete_marker != (row[:1] == b"d"):
            problems.append(f"the current version of {place.key!r} is in the wrong table")
        heads[place] = record
    for place in heads.keys() | others.keys() | pointers.keys():
        problems += _problems_of(place, heads.get(place), others.get(place, []), pointers)
    return problems


def _problems_of(
    place: _Place,
    head: ObjectRecord | None,
    others: list[ObjectRecord],
    pointers: dict[_Place, int],
) -> list[str]:
    problems = []
    if head is None:
        problems.append(f"no version of {place.key!r} is current")
    elif any(each.sequence >= head.sequence for each in others):
        problems.append(f"a version of {place.key!r} is newer than the current one")
    ids = [each.version_id for each in others] + ([] if head is None else [head.version_id])
    if len(ids) != len(set(ids)):
        problems.append(f"two versions of {place.key!r} have one id")
    nulls = [each.sequence for each in others if each.version_id == NULL_VERSION]
    if nulls != [pointers[each] for each in (place,) if each in pointers]:
        problems.append(f"the null version of {place.key!r} is not where it is said to be")
    return problems
