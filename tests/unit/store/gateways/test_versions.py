"""Gateways that race on the versions of the same keys, while versioning is switched to and fro, and now
and then one of the gateways is taken for dead: what was acknowledged is there, what was deleted is not,
nothing is lost that was not asked to be, and listings miss nothing that was there all the time."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from objectio.abc.objects import CompletePart, DeleteTarget, ObjectAttributes
from objectio.errors import MethodNotAllowed, NotFound, Unavailable
from objectio.testing.census_versions import version_problems
from objectio.testing.objects import BytesPayload

TURNS = 60
KEYS = (b"a", b"a\0", b"b/1", b"b/2")


class Books:
    """What is known for sure. `there`: versions with an id of their own by (key, id), with their
    bytes, None for a delete marker; `doubtful` are those that somebody began to delete, `gone` those
    of which it was said that they are, `removed` those that were taken away by who asked."""

    def __init__(self):
        self.there = {}
        self.doubtful = set()
        self.gone = set()
        self.removed = set()

    def certain(self):
        return {each for each in self.there if each not in self.doubtful}


class Worker:
    def __init__(self, cluster, gateway, number, books):
        self.gateway, self.store, self.books = gateway, gateway.store, books
        self.random = random.Random(cluster.seed * 1000 + number)
        self.number = number
        self.did = 0

    async def run(self):
        actions = (
            [self.put] * 5 + [self.get] * 3 + [self.list] * 3 + [self.update] * 2 + [self.copy]
            + [self.delete] * 2 + [self.delete_version] * 4 + [self.delete_null, self.switch]
            + [self.upload]
        )  # fmt: skip
        for _ in range(TURNS):
            try:
                await self.random.choice(actions)(self.random.choice(KEYS))
                self.did += 1
            except (NotFound, MethodNotAllowed):
                pass
            except Unavailable as error:
                if error.fields.get("reason") not in ("fenced", "session"):
                    raise

    def note(self, key, version_id, data):
        if version_id != "null":
            self.books.there[key, version_id] = data

    async def put(self, key):
        data = self.random.randbytes(self.random.choice((0, 1, 300, 9_000)))
        info = await self.gateway.put(key, data)
        self.note(key, info.version_id, data)

    async def copy(self, key):
        source = self.random.choice(KEYS)
        info = await self.store.copy_object("bucket", source, "bucket", key, owner="me")
        self.note(key, info.version_id, await self.read(key, info.version_id))

    async def upload(self, key):
        """Of so many parts that their list is in a row of its own."""
        upload = await self.store.create_upload("bucket", key, ObjectAttributes(), owner="me")
        parts, data = [], b""
        for number in range(1, 19):
            piece = self.random.randbytes(20)
            info = await self.store.put_part(
                "bucket", key, upload.upload_id, number, BytesPayload(piece)
            )
            parts.append(CompletePart(number, info.etag))
            data += piece
        info = await self.store.complete_upload("bucket", key, upload.upload_id, parts)
        self.note(key, info.version_id, data)

    async def read(self, key, version_id=None):
        reader = await self.store.get_object("bucket", key, version_id=version_id)
        try:
            return b"".join([bytes(each) async for each in reader.stream(0, reader.info.size)])
        finally:
            reader.close()

    async def get(self, key):
        known = [each for each in self.books.certain() if each[0] == key]
        if not known:
            return
        which = self.random.choice(known)
        session = self.gateway.session
        try:
            data = await self.read(*which)
        except MethodNotAllowed:
            data = None
        except NotFound:
            assert which in self.books.doubtful
            return
        if session is not None and self.gateway.session == session:
            assert data == self.books.there[which]

    async def update(self, key):
        mark = {"by": str(self.number)}
        await self.store.update_object(
            "bucket", key, lambda info: msgspec.structs.replace(info.attributes, tags=mark)
        )

    async def delete(self, key):
        deleted = await self.store.delete_object("bucket", key)
        assert deleted.delete_marker
        self.note(key, deleted.version_id, None)

    async def delete_version(self, key):
        known = [each for each in self.books.there if each[0] == key]
        if not known:
            return
        which = self.random.choice(known)
        self.books.doubtful.add(which)
        deleted = await self.store.delete_object("bucket", key, version_id=which[1])
        if deleted.info is not None:
            assert which not in self.books.removed  # it goes once
            self.books.removed.add(which)
            assert deleted.delete_marker == (self.books.there[which] is None)
        self.books.gone.add(which)

    async def delete_null(self, key):
        await self.store.delete_object("bucket", key, version_id="null")

    async def switch(self, _):
        await self.store.set_versioning("bucket", self.random.choice(("Enabled", "Suspended")))

    async def list(self, _):
        before = self.books.certain()
        found, after, version = [], b"", None
        limit = self.random.choice((2, 7, 1000))
        while True:
            page = await self.store.list_versions(
                "bucket", after=after, after_version=version, limit=limit
            )
            found += page.objects
            if page.next_after is None:
                break
            after, version = page.next_after, page.next_version
        missing = before - {(each.key, each.version_id) for each in found}
        assert not missing & self.books.certain()
        if limit == 1000:
            latest = [each.key for each in found if each.is_latest]
            assert latest == sorted(set(latest))
            ids = [(each.key, each.version_id) for each in found]
            assert len(ids) == len(set(ids))


async def kill(cluster, seed, done):
    source, count = random.Random(seed), 0
    while not done.is_set():
        await asyncio.sleep(source.random() * 0.2)
        gateway = source.choice(cluster.gateways)
        gateway.mute()
        await cluster.fence(gateway)
        count += 1
        await asyncio.sleep(source.random() * 0.02)
        gateway.unmute()
        await gateway.open()
    return count


@pytest.mark.parametrize(
    ("gateways", "seed", "killing"), [(1, 1, False), (3, 2, False), (3, 3, True)]
)
async def test_versions_that_race(make_cluster, gateways, seed, killing):
    cluster = await make_cluster(gateways, seed=seed)
    await cluster.gateways[0].put(b"a", b"older than versioning")
    await cluster.gateways[0].store.set_versioning("bucket", "Enabled")
    books, done = Books(), asyncio.Event()
    workers = [
        Worker(cluster, gateway, 2 * number + twin, books)
        for number, gateway in enumerate(cluster.gateways)
        for twin in range(2)
    ]
    if killing:
        killer = asyncio.create_task(kill(cluster, seed, done))
    try:
        await asyncio.gather(*(worker.run() for worker in workers))
    finally:
        done.set()
        assert not killing or await killer
    assert sum(worker.did for worker in workers) > len(workers) * TURNS // 4
    await check_everything(cluster, workers[0], books)


async def check_everything(cluster, worker, books):
    await cluster.settled()
    assert version_problems(row for row in cluster.rows().items() if row[0][:1] in b"odvn") == []
    found = (await worker.store.list_versions("bucket")).objects
    listed = {(each.key, each.version_id) for each in found}
    assert books.certain() <= listed
    assert not books.gone & listed
    for each in found:
        which = (each.key, each.version_id)
        if not each.is_delete_marker:
            data = await worker.read(*which)
            assert data == books.there.get(which, data)
        else:
            assert books.there.get(which) is None
    targets = [DeleteTarget(*each) for each in listed]
    for outcome in await worker.store.delete_objects("bucket", targets):
        assert outcome.info is not None
    for upload in (await worker.store.list_uploads("bucket")).uploads:
        await worker.store.abort_upload("bucket", upload.key, upload.upload_id)
    await cluster.check_empty()
