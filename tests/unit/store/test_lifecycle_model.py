"""One look of the lifecycle worker against what the rules say, for any versions and any rules."""

from __future__ import annotations

import asyncio
import os

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from objectio.abc.driver import ThreadModel
from objectio.abc.kv import CAP_FAST_READS
from objectio.kv.keys import unescape
from objectio.kv.memory import MemoryKV
from objectio.kv.store import KVStore
from objectio.meta import keys
from objectio.meta.buckets import Buckets
from objectio.meta.records import ObjectRecord, decode_object
from objectio.model.bucket import (
    LIFECYCLE,
    Lifecycle,
    LifecycleFilter,
    LifecycleRule,
    encode_document,
)
from objectio.store import lifecycle_walk
from objectio.store.documents import Documents
from objectio.store.lifecycle import LifecycleSettings, LifecycleWorker
from objectio.store.versions import Versions

DAY_MS = 1000
NOW_MS = 100 * DAY_MS
KEYS = (b"a", b"a/", b"a/1", b"a\0", b"b", b"b/\xff")
EMPTY = ObjectRecord(0, "", 0, "STANDARD", "o", "", "", "null", {}, {}, {}, [], [])


class NoUpkeep:
    def garbage(self): ...

    def repairs(self): ...


class Made(msgspec.Struct, frozen=True):
    """A version, `age` days before now."""

    key: bytes
    age: int
    size: int
    tagged: bool
    marker: bool


# Mostly what does something: many versions of few keys, and rules that choose most of them.
made = st.lists(
    st.builds(
        Made,
        st.sampled_from(KEYS),
        st.integers(0, 6),
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from((False, False, True)),
    ),
    min_size=6,
    max_size=25,
)
days = st.sampled_from((None, 1, 1, 2, 3, 5))
rules = st.lists(
    st.builds(
        LifecycleRule,
        id=st.just("r"),
        enabled=st.sampled_from((True, True, True, False)),
        filter=st.builds(
            LifecycleFilter,
            prefix=st.sampled_from(("", "", "a", "a/", "b")),
            tags=st.sampled_from(({}, {}, {}, {"t": "1"})),
            size_greater_than=st.sampled_from((None, None, None, 0, 2)),
            size_less_than=st.sampled_from((None, None, None, 2, 4)),
        ),
        expire_days=days,
        expire_delete_marker=st.booleans(),
        noncurrent_days=days,
        newer_noncurrent_versions=st.integers(0, 2),
    ),
    min_size=1,
    max_size=3,
)


def chooses(rule, key, record):
    chosen = rule.filter
    if not rule.enabled or not key.startswith(chosen.prefix.encode()):
        return False
    if record.delete_marker:
        return not chosen.tags and chosen.size_greater_than is chosen.size_less_than is None
    if chosen.size_greater_than is not None and not record.size > chosen.size_greater_than:
        return False
    if chosen.size_less_than is not None and not record.size < chosen.size_less_than:
        return False
    return all(item in record.tags.items() for item in chosen.tags.items())


def over(since_ms, wanted):
    return wanted is not None and since_ms + wanted * DAY_MS <= NOW_MS


def left(rules, key, versions, versioned):
    """What is to be left of the versions of a key, newest first; "new" is a new delete marker."""
    kept, newer = [], 0
    for place, record in enumerate(versions):
        chosen = [rule for rule in rules if chooses(rule, key, record)]
        if place > 0:
            due = any(
                over(record.since_ms, rule.noncurrent_days)
                and newer >= rule.newer_noncurrent_versions
                for rule in chosen
            )
            newer += not record.delete_marker
        elif record.delete_marker:
            due = len(versions) == 1 and any(
                rule.expire_delete_marker or over(record.modified_ms, rule.expire_days)
                for rule in chosen
            )
        else:
            due = any(over(record.modified_ms, rule.expire_days) for rule in chosen)
            if due and versioned:  # it becomes noncurrent, now
                kept.append("new")
                due, newer = False, 1
        if not due:
            kept.append(record.version_id if versioned else record.etag)
    return kept


async def one_look(versions_made, rules, versioned, page):
    kv = KVStore(MemoryKV(), frozenset({CAP_FAST_READS}), ThreadModel.PARALLEL)
    buckets = Buckets(kv)
    documents = Documents(kv, buckets)
    versions = Versions(kv, buckets, documents, NoUpkeep())
    await buckets.create("bucket", "o", "")
    if versioned:
        await buckets.set_versioning("bucket", "Enabled")
    bucket = await buckets.find("bucket")
    for each in sorted(versions_made, key=lambda each: -each.age):
        record = msgspec.structs.replace(
            EMPTY,
            size=0 if each.marker and versioned else each.size,
            etag=os.urandom(8).hex(),
            modified_ms=NOW_MS - each.age * DAY_MS,
            tags={"t": "1"} if each.tagged and not (each.marker and versioned) else {},
            delete_marker=each.marker and versioned,
        )
        await versions.put(bucket, each.key, record)
    before = shown(kv, bucket.id)
    await documents.put("bucket", LIFECYCLE, encode_document(Lifecycle(rules=tuple(rules))))
    settings = LifecycleSettings(
        interval_seconds=1, rows_per_second=1e9, day_seconds=1, clock=lambda: NOW_MS / 1000
    )
    lifecycle_walk._PAGE, kept = page, lifecycle_walk._PAGE
    try:
        assert not await LifecycleWorker(kv, versions, NoUpkeep(), settings).look()
    finally:
        lifecycle_walk._PAGE = kept
    after = shown(kv, bucket.id)
    await kv.close()
    return before, after


def shown(kv, bucket_id):
    """By key: records, newest first."""
    found = {}
    for table in (keys.objects(bucket_id), keys.markers(bucket_id)):
        for row, raw in kv.scan_prefix(table):
            found[row[len(table) :]] = [decode_object(raw)]
    table = keys.versions(bucket_id)
    for row, raw in kv.scan_prefix(table):
        found.setdefault(unescape(row, len(table))[0], []).append(decode_object(raw))
    return found


@given(made, rules, st.booleans(), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_a_look_does_what_the_rules_say(versions_made, rules, versioned, page):
    before, after = asyncio.run(one_look(versions_made, rules, versioned, page))
    expected = {}
    for key, versions in before.items():
        if kept := left(rules, key, versions, versioned):
            expected[key] = kept
    known = {each.version_id for versions in before.values() for each in versions}
    got = {
        key: [
            (each.version_id if each.version_id in known else "new") if versioned else each.etag
            for each in versions
        ]
        for key, versions in after.items()
    }
    assert got == expected
