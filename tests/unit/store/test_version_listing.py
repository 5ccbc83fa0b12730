"""A page of versions while the key is being changed: what was there all the time is on it."""

from __future__ import annotations

import pytest


class Interrupted:
    """A KV store where something happens before its n-th scan from now on."""

    def __init__(self, kv, monkeypatch):
        self._scan = kv.ascan
        self.left, self.what = -1, None
        monkeypatch.setattr(kv, "ascan", self.ascan)

    async def ascan(self, *args, **kwargs):
        self.left -= 1
        if self.left == -1 and self.what is not None:
            what, self.what = self.what, None
            await what()
        return await self._scan(*args, **kwargs)


async def listed(kit, **more):
    return (await kit.store.list_versions("bucket", **more)).objects


@pytest.mark.parametrize("change", ["put", "mark", "delete head", "delete marker", "suspend"])
@pytest.mark.parametrize("scan", range(6))
@pytest.mark.parametrize("key", [b"a", b"b", b"c"])
async def test_what_was_there_all_the_time(kit, monkeypatch, change, scan, key):
    store = kit.store
    await store.set_versioning("bucket", "Enabled")
    for each in (b"a", b"b", b"c"):
        for number in range(3):
            await kit.put(each, b"%d" % number)
        if change == "delete marker":
            await store.delete_object("bucket", each)
    before = await listed(kit)
    head = next(each for each in before if each.key == key and each.is_latest)
    interrupted = Interrupted(kit.kv, monkeypatch)
    happened = []

    async def happen():
        happened.append(change)
        if change == "put":
            await kit.put(key, b"new")
        elif change == "mark":
            await store.delete_object("bucket", key)
        elif change == "suspend":
            await store.set_versioning("bucket", "Suspended")
            await kit.put(key, b"null")
        else:
            await store.delete_object("bucket", key, version_id=head.version_id)

    interrupted.left, interrupted.what = scan, happen
    during = await listed(kit)
    assert happened or scan >= 5
    interrupted.what = None
    after = await listed(kit)
    ids = [each.version_id for each in during]
    assert len(ids) == len(set(ids))
    there = {each.version_id for each in before} & {each.version_id for each in after}
    ever = {each.version_id for each in before} | {each.version_id for each in after}
    assert there <= set(ids) <= ever
    assert during in (before, after)
    latest = [each.key for each in during if each.is_latest]
    assert latest == [b"a", b"b", b"c"]


@pytest.mark.parametrize("puts", [1, 2])
@pytest.mark.parametrize(
    ("begin", "end"), [(begin, end) for begin in range(6) for end in range(begin + 1, 7)]
)
@pytest.mark.parametrize("key", [b"a", b"b", b"c"])
async def test_versions_that_come_and_go_while_it_is_read(kit, monkeypatch, puts, begin, end, key):
    """What is current before and after is the same, and was noncurrent in between."""
    store = kit.store
    await store.set_versioning("bucket", "Enabled")
    for each in (b"a", b"b", b"c"):
        for number in range(2):
            await kit.put(each, b"%d" % number)
    right = [await listed(kit)]
    interrupted = Interrupted(kit.kv, monkeypatch)
    made = []

    async def come():
        made.extend([(await kit.put(key, b"new")).version_id for _ in range(puts)])
        right.append(await listed(kit))
        interrupted.left, interrupted.what = end - begin - 1, go

    async def go():
        while made:
            await store.delete_object("bucket", key, version_id=made.pop())

    interrupted.left, interrupted.what = begin, come
    during = await listed(kit)
    interrupted.what = None
    assert during in right
