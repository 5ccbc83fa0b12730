"""The store answers every sequence of calls as its model does."""

from __future__ import annotations

import asyncio
import shutil

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectio.abc.objects import (
    CompletePart,
    Conditions,
    DeleteTarget,
    Encryption,
    Listing,
    ObjectAttributes,
    PayloadDigests,
)
from objectio.errors import (
    AlreadyExists,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ObjectIOError,
    PreconditionFailed,
)
from objectio.kms.local import DRIVER, LocalKmsConfig
from objectio.store.datakeys import DataKeys
from objectio.testing.census_versions import version_problems
from objectio.testing.context import make_context
from objectio.testing.objects import BytesPayload, MemoryObjects

BUCKETS = st.sampled_from(["alpha", "alpha", "beta", "no", "Bad_Name"])
KEYS = st.sampled_from(
    [b"a", b"a/b", b"a/c", b"a/c/d", b"b", b"z/", b"z//\xff", b"\0", b"k" * 1025]
)
DATA = st.sampled_from([b"", b"x", b"some bytes", b"0123456789abcdef", b"y" * 9000, b"z" * 70_000])
ETAGS = st.sampled_from(["*", "none", "9dd4e461268c8034f5c8564e155c67a6"])  # the last is of b"x"
CONDITIONS = st.none() | st.builds(
    Conditions,
    if_match=st.lists(ETAGS, max_size=1),
    if_none_match=st.lists(ETAGS, max_size=1),
)
VERSIONS = st.sampled_from([None, None, "null", "other"]) | st.integers(0, 7)
"""A number is the version that was made as that."""
ATTRIBUTES = st.sampled_from(
    [
        ObjectAttributes(),
        ObjectAttributes(headers={"content-type": "text/plain"}, metadata={"a": "ä"}),
        ObjectAttributes(checksum_algorithm="CRC32", checksum_type="COMPOSITE"),
        ObjectAttributes(storage_class="COLD", checksum_algorithm="SHA1"),
    ]
)
MINE, OTHER = b"m" * 32, b"o" * 32
ENCRYPTION = st.sampled_from(
    [
        *(None, None, None, None),
        Encryption(method="AES256"),
        Encryption(method="aws:kms:dsse", bucket_key=True),
        Encryption(method="SSE-C", customer_key=MINE),
    ]
)
CUSTOMER_KEYS = st.sampled_from([None, None, None, MINE, OTHER])
NUMBERS = st.integers(1, 4)
UPLOADS = st.integers(0, 3)
PREFIX = st.sampled_from([b"", b"a", b"a/", b"z", b"q"])
DELIMITER = st.sampled_from([b"", b"/", b"c"])
AFTER = st.sampled_from([b"", b"a", b"a/", b"a/b", b"a/c/d", b"z/", b"~"])
LIMIT = st.integers(0, 4)


FIELDS = {
    AlreadyExists: ["owner"],
    InvalidRequest: ["reason", "size_min"],
    MethodNotAllowed: ["delete_marker", "version_id"],
    NotFound: ["kind", "delete_marker"],
    PreconditionFailed: ["condition"],
}


class Payload(BytesPayload):
    def finish(self):
        etag = super().finish().etag
        return PayloadDigests(etag, {"CRC32": etag[:8]})


def call(name, *arguments):
    return st.tuples(st.just(name), *arguments)


CALLS = st.one_of(
    call("create_bucket", BUCKETS),
    call("set_versioning", BUCKETS, st.sampled_from(["Enabled", "Suspended"])),
    call("set_versioning", st.just("alpha"), st.just("Enabled")),
    call("delete_bucket", BUCKETS),
    call("put", BUCKETS, KEYS, DATA, ATTRIBUTES, CONDITIONS, ENCRYPTION),
    call("put", st.just("alpha"), KEYS, DATA, ATTRIBUTES, st.none(), ENCRYPTION),
    call("get", BUCKETS, KEYS, VERSIONS, CUSTOMER_KEYS),
    call("delete", BUCKETS, KEYS, VERSIONS, CONDITIONS),
    call("delete_many", BUCKETS, st.lists(st.builds(DeleteTarget, KEYS, VERSIONS), max_size=3)),
    call(
        *("copy", BUCKETS, KEYS, BUCKETS, KEYS, CONDITIONS, st.none() | ATTRIBUTES),
        *(ENCRYPTION, CUSTOMER_KEYS),
    ),
    call("list_objects", BUCKETS, PREFIX, DELIMITER, AFTER, LIMIT),
    call("list_versions", BUCKETS, PREFIX, DELIMITER, AFTER, LIMIT),
    call("list_versions", st.just("alpha"), PREFIX, DELIMITER, AFTER, LIMIT),
    call("update", BUCKETS, KEYS, VERSIONS, st.sampled_from([{}, {"a": "b"}])),
    call("get", st.just("alpha"), KEYS, VERSIONS, CUSTOMER_KEYS),
    call("delete", st.just("alpha"), KEYS, VERSIONS, st.none()),
    call("list_uploads", BUCKETS, PREFIX, DELIMITER, AFTER, LIMIT),
    call("create_upload", BUCKETS, KEYS, ATTRIBUTES, ENCRYPTION),
    call("put_part", UPLOADS, NUMBERS, DATA, CUSTOMER_KEYS),
    call("put_part", UPLOADS, NUMBERS, DATA, CUSTOMER_KEYS),
    call("list_parts", UPLOADS, st.integers(0, 5), LIMIT),
    call(
        *("complete", UPLOADS, st.lists(NUMBERS, max_size=4), st.integers(0, 9), CONDITIONS),
        CUSTOMER_KEYS,
    ),
    call("abort", UPLOADS),
)


class Side:
    """One of the two services, with what tells its answers apart taken away."""

    def __init__(self, service):
        self.service = service
        self.uploads = []
        self.parts = {}
        self.versions = []

    async def answer(self, step):
        name, *arguments = step
        try:
            return self._plain(await getattr(self, name)(*arguments))
        except ObjectIOError as error:
            return type(error), {
                each: self._plain(error.fields.get(each)) for each in FIELDS.get(type(error), ())
            }

    def _plain(self, value):
        """Without times; ids of uploads by when they were begun."""
        if isinstance(value, Listing):
            value = self._without_times(value)
        raw = msgspec.to_builtins(value)
        known = {upload.upload_id: f"upload {i}" for i, (_, upload) in enumerate(self.uploads)}
        known |= {version: f"version {i}" for i, version in enumerate(self.versions)}

        def walk(each):
            if isinstance(each, dict):
                return {
                    key: walk(inner)
                    for key, inner in each.items()
                    if key not in ("modified_ms", "created_ms", "initiated_ms", "id", "key_id")
                }
            if isinstance(each, list | tuple):
                return [walk(inner) for inner in each]
            return known.get(each, each) if isinstance(each, str) else each

        return walk(raw)

    def _without_times(self, listing):
        return listing._replace(objects=[each._replace(modified_ms=0) for each in listing.objects])

    def _upload(self, number):
        if number < len(self.uploads):
            bucket, upload = self.uploads[number]
            return bucket, upload.key, upload.upload_id
        return "alpha", b"a", "00" * 16

    async def create_bucket(self, name):
        return await self.service.create_bucket(name, owner="me")

    async def delete_bucket(self, name):
        return await self.service.delete_bucket(name)

    async def set_versioning(self, name, status):
        return await self.service.set_versioning(name, status)

    def _version(self, version):
        if not isinstance(version, int):
            return version
        return self.versions[version] if version < len(self.versions) else "f" * 32

    def _made(self, result):
        if result.version_id not in (None, "null", *self.versions):
            self.versions.append(result.version_id)
        return result

    async def put(self, bucket, key, data, attributes, conditions, encryption):
        return self._made(
            await self.service.put_object(
                bucket,
                key,
                Payload(data),
                attributes,
                owner="me",
                conditions=conditions,
                encryption=encryption,
            )
        )

    async def get(self, bucket, key, version, customer_key):
        which = {"version_id": self._version(version), "customer_key": customer_key}
        reader = await self.service.get_object(bucket, key, **which)
        try:
            size = reader.info.size
            head = await self.service.head_object(bucket, key, **which)
            assert head == reader.info
            pieces = [bytes(piece) async for piece in reader.stream(size // 3, size - size // 3)]
            return [reader.info, b"".join(pieces)]
        finally:
            reader.close()

    async def update(self, bucket, key, version, tags):
        def change(info):
            return msgspec.structs.replace(info.attributes, tags=tags)

        return await self.service.update_object(
            bucket, key, change, version_id=self._version(version)
        )

    async def delete(self, bucket, key, version, conditions):
        return self._made(
            await self.service.delete_object(
                bucket, key, version_id=self._version(version), conditions=conditions
            )
        )

    async def delete_many(self, bucket, targets):
        """Of each key once: several are deleted at the same time."""
        once = {each.key: each._replace(version_id=self._version(each[1])) for each in targets}
        outcomes = await self.service.delete_objects(bucket, list(once.values()))
        for outcome in outcomes:
            if not isinstance(outcome, Exception):
                self._made(outcome)
        return [type(each).__name__ if isinstance(each, Exception) else each for each in outcomes]

    async def copy(
        self, source_bucket, source_key, bucket, key, conditions, attributes, encryption, source
    ):
        return self._made(
            await self.service.copy_object(
                source_bucket,
                source_key,
                bucket,
                key,
                owner="you",
                source_conditions=conditions,
                attributes=attributes,
                encryption=encryption,
                source_customer_key=source,
            )
        )

    async def list_objects(self, bucket, prefix, delimiter, after, limit):
        return await self.service.list_objects(
            bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )

    async def list_versions(self, bucket, prefix, delimiter, after, limit):
        """A page, and all pages of that size one after the other."""
        where = {"prefix": prefix, "delimiter": delimiter, "limit": limit}
        page = await self.service.list_versions(bucket, after=after, **where)
        pages = [page]
        while pages[-1].next_after is not None:
            last = pages[-1]
            pages.append(
                await self.service.list_versions(
                    bucket, after=last.next_after, after_version=last.next_version, **where
                )
            )
        return [self._without_times(each) for each in pages]

    async def list_uploads(self, bucket, prefix, delimiter, after, limit):
        """Ids are not in the same order on both sides, so only whole pages are compared."""
        page = await self.service.list_uploads(
            bucket, prefix=prefix, delimiter=delimiter, after=(after, "")
        )
        begun = [upload.upload_id for _, upload in self.uploads]
        return [
            sorted((upload.key, begun.index(upload.upload_id)) for upload in page.uploads),
            page.common_prefixes,
            page.next_after,
        ]

    async def create_upload(self, bucket, key, attributes, encryption):
        upload = await self.service.create_upload(
            bucket, key, attributes, owner="me", encryption=encryption
        )
        self.uploads.append((bucket, upload))
        return upload

    async def put_part(self, number, part, data, customer_key):
        info = await self.service.put_part(
            *self._upload(number), part, Payload(data), customer_key=customer_key
        )
        self.parts[number, part] = info
        return info

    async def list_parts(self, number, after, limit):
        return await self.service.list_parts(*self._upload(number), after=after, limit=limit)

    async def complete(self, number, parts, mistake, conditions, customer_key):
        chosen = []
        for part in parts if mistake in (1, 2) else sorted(set(parts)):
            info = self.parts.get((number, part))
            etag = "0" * 32 if info is None or mistake == 3 else info.etag
            checksums = {} if info is None else dict(info.checksums)
            if mistake == 4:
                checksums["CRC32"] = "wrong"
            if mistake == 5:
                checksums = {}
            chosen.append(CompletePart(part, etag, checksums))
        return self._made(
            await self.service.complete_upload(
                *self._upload(number), chosen, conditions=conditions, customer_key=customer_key
            )
        )

    async def abort(self, number):
        return await self.service.abort_upload(*self._upload(number))


def several_wrong(step):
    """Calls with more than one mistake, of which either side may name any."""
    name, *arguments = step
    if name == "complete":
        return arguments[2] in (1, 2, 3, 4) or arguments[3] is not None
    if name == "copy":
        return True
    return name in ("put", "create_upload", "delete") and len(arguments[1]) > 1024


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(CALLS, max_size=40))
def test_agreement(tmp_path, make_kit, steps):
    try:
        asyncio.run(compare(make_kit.kit_class(tmp_path / "kit"), steps))
    finally:
        shutil.rmtree(tmp_path / "kit")


async def compare(kit, steps):
    kit.where.mkdir()
    kms = DRIVER.open(LocalKmsConfig(), make_context(kit.where, "keys"))
    await kms.start(None)
    kit.keys = DataKeys(kms)
    await kit.start()
    try:
        model = Side(MemoryObjects(part_size_bytes_min=16))
        store = Side(kit.store)
        for step in [("create_bucket", "alpha"), *steps]:
            expected, found = await model.answer(step), await store.answer(step)
            if isinstance(expected, tuple) and several_wrong(step):
                assert isinstance(found, tuple), (step, expected, found)
            else:
                assert found == expected, step
            rows = kit.rows().items()
            assert version_problems([row for row in rows if row[0][:1] in b"odvn"]) == []
        await empty(kit)
    finally:
        await kit.stop()


async def empty(kit):
    """When everything is deleted, nothing is left: no shard, and no row but the cluster's."""
    store = kit.store
    for bucket in await store.list_buckets():
        page = await store.list_versions(bucket.name)
        await store.delete_objects(
            bucket.name, [DeleteTarget(each.key, each.version_id) for each in page.objects]
        )
        for upload in (await store.list_uploads(bucket.name)).uploads:
            await store.abort_upload(bucket.name, upload.key, upload.upload_id)
        await store.delete_bucket(bucket.name)
    await kit.settle()
    assert {row[:1] for row in kit.rows()} <= {b"c"}
    assert not any(kit.shards().values())
    assert store.in_use.pins == {}
    assert store.in_use.active == set()
    assert store._write_budget.used_bytes == store._read_budget.used_bytes == 0
