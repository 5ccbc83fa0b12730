"""A server and a model of S3 in fifty lines are given the same calls, and say the same.

Buckets begin unversioned, and are made to keep versions, or to keep none more, at any time. Whatever was
done, every way to list tells of the same versions, and each has the bytes that were put.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from objectio.testing.shapes import SHAPES_SLOW, Spread, make_server

pytest.importorskip("objectio_api_s3", reason="the plugin api_s3 is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

KEYS = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/c",
    "a b",
    "a+b",
    "a%2Fb",
    "b",
    "b/é",
    "é",
    "\U0001f600",
    "zz",
]
keys = st.sampled_from(KEYS)
bodies = st.binary(max_size=40)
_buckets = itertools.count()


class Version:
    """A version or, without bytes, a delete marker."""

    def __init__(self, id, body, etag=None):
        self.id = id
        self.body = body
        self.etag = etag or (None if body is None else f'"{hashlib.md5(body).hexdigest()}"')


class Model:
    """What a bucket holds: of each key its versions, the newest first."""

    def __init__(self):
        self.status = None
        self.keys = {}

    def put(self, key, version):
        kept = self.keys.setdefault(key, [])
        if self.status != "Enabled":
            kept[:] = [each for each in kept if each.id != "null"]
        kept.insert(0, version)

    def delete(self, key, version_id):
        """Without a version. `version_id` is that of the delete marker, as the server says it."""
        if self.status is None:
            self.keys.pop(key, None)
        else:
            self.put(key, Version(version_id, None))

    def delete_version(self, key, version_id):
        kept = [each for each in self.keys.get(key, ()) if each.id != version_id]
        self.keys[key] = kept
        if not kept:
            del self.keys[key]

    def current(self, key):
        found = self.keys.get(key)
        return found[0] if found and found[0].body is not None else None

    def listed(self):
        """Keys that a listing shows, with their ETags."""
        found = sorted(self.keys, key=str.encode)
        return [(key, self.current(key).etag) for key in found if self.current(key)]

    def every(self):
        """(key, version id, newest, delete marker) of all versions, as they are listed."""
        return [
            (key, each.id, number == 0, each.body is None)
            for key in sorted(self.keys, key=str.encode)
            for number, each in enumerate(self.keys[key])
        ]


class Machine(RuleBasedStateMachine):
    """The same calls to a server and a model."""

    s3 = None

    def __init__(self):
        super().__init__()
        self.bucket = f"model-{next(_buckets)}"
        self.model = Model()
        self.s3.create_bucket(Bucket=self.bucket)

    def at(self, key, **more):
        return {"Bucket": self.bucket, "Key": key, **more}

    def learn(self, key, body, answer, etag=None):
        version = answer.get("VersionId", "null")
        assert (version != "null") == (self.model.status == "Enabled"), answer
        made = Version(version, body, etag)
        assert answer.get("ETag", made.etag) == made.etag
        self.model.put(key, made)

    # Writes.

    @rule(status=st.sampled_from(["Enabled", "Suspended"]))
    def set_versioning(self, status):
        self.s3.put_bucket_versioning(
            Bucket=self.bucket, VersioningConfiguration={"Status": status}
        )
        self.model.status = status
        assert self.s3.get_bucket_versioning(Bucket=self.bucket)["Status"] == status

    @rule(key=keys, body=bodies)
    def put(self, key, body):
        self.learn(key, body, self.s3.put_object(**self.at(key), Body=body))

    @rule(key=keys, body=bodies)
    def put_if_absent(self, key, body):
        with refusal() as refused:
            self.learn(key, body, self.s3.put_object(**self.at(key), Body=body, IfNoneMatch="*"))
        if refused.code:
            assert refused.code == "PreconditionFailed"
            assert self.model.current(key)

    @rule(key=keys, body=bodies, right=st.booleans())
    def put_if_match(self, key, body, right):
        current = self.model.current(key)
        etag = current.etag if current and right else '"00000000000000000000000000000000"'
        with refusal() as refused:
            self.learn(key, body, self.s3.put_object(**self.at(key), Body=body, IfMatch=etag))
        if refused.code:
            expected = "PreconditionFailed" if current else "NoSuchKey"
            assert refused.code == expected
            assert not (current and right)

    @rule(key=keys, pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3))
    def upload_in_parts(self, key, pieces):
        where = self.at(key, UploadId=self.s3.create_multipart_upload(**self.at(key))["UploadId"])
        parts = [
            {
                "PartNumber": n,
                "ETag": self.s3.upload_part(**where, PartNumber=n, Body=piece)["ETag"],
            }
            for n, piece in enumerate(pieces, 1)
        ]
        answer = self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        whole = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
        self.learn(key, b"".join(pieces), answer, f'"{whole}-{len(pieces)}"')

    @rule(source=keys, to=keys, data=st.data())
    def copy(self, source, to, data):
        versions = [each for each in self.model.keys.get(source, ()) if each.body is not None]
        if not versions:
            return
        version = data.draw(st.sampled_from(versions))
        where = {"Bucket": self.bucket, "Key": source, "VersionId": version.id}
        more = {"MetadataDirective": "REPLACE", "Metadata": {"copied": "yes"}}
        answer = self.s3.copy_object(**self.at(to), CopySource=where, **more)
        answer["ETag"] = answer["CopyObjectResult"]["ETag"]
        self.learn(to, version.body, answer, answer["ETag"])

    @rule(key=keys)
    def delete(self, key):
        answer = self.s3.delete_object(**self.at(key))
        assert answer.get("DeleteMarker", False) == (self.model.status is not None)
        self.model.delete(key, answer.get("VersionId", "null"))

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def delete_a_version(self, data):
        key, version, _, marker = data.draw(st.sampled_from(self.model.every()))
        answer = self.s3.delete_object(**self.at(key, VersionId=version))
        assert answer.get("DeleteMarker", False) == marker
        self.model.delete_version(key, version)

    @rule(chosen=st.lists(keys, min_size=1, max_size=4, unique=True))
    def delete_many(self, chosen):
        answer = self.s3.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in chosen]}
        )
        assert "Errors" not in answer
        told = {
            each["Key"]: each.get("DeleteMarkerVersionId", "null") for each in answer["Deleted"]
        }
        assert set(told) == set(chosen)
        for key in chosen:
            self.model.delete(key, told[key])

    # Reads.

    @rule(key=keys, begin=st.integers(0, 50), length=st.integers(1, 50))
    def read(self, key, begin, length):
        current = self.model.current(key)
        if current is None:
            with refusal() as refused:
                self.s3.get_object(**self.at(key))
            assert refused.code == "NoSuchKey"
            return
        answer = self.s3.get_object(**self.at(key))
        assert (answer["Body"].read(), answer["ETag"]) == (current.body, current.etag)
        with refusal() as refused:
            answer = self.s3.get_object(**self.at(key), Range=f"bytes={begin}-{begin + length - 1}")
            assert answer["Body"].read() == current.body[begin : begin + length]
        assert (refused.code == "InvalidRange") == (begin >= len(current.body))

    @precondition(lambda self: self.model.keys)
    @rule(data=st.data())
    def read_a_version(self, data):
        key = data.draw(st.sampled_from(sorted(self.model.keys)))
        version = data.draw(st.sampled_from(self.model.keys[key]))
        with refusal() as refused:
            answer = self.s3.get_object(**self.at(key, VersionId=version.id))
            assert answer["Body"].read() == version.body
        assert (refused.code == "MethodNotAllowed") == (version.body is None)

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "b", "é", "none"]),
        delimiter=st.sampled_from(["", "/", "b", "%"]),
        page=st.integers(1, 5),
        call=st.sampled_from(["list_objects", "list_objects_v2"]),
    )
    def list_keys(self, prefix, delimiter, page, call):
        found, folded = [], []
        pages = self.s3.get_paginator(call).paginate(
            Bucket=self.bucket, Prefix=prefix, Delimiter=delimiter,
            PaginationConfig={"PageSize": page},
        )  # fmt: skip
        for each in pages:
            assert len(each.get("Contents", ())) + len(each.get("CommonPrefixes", ())) <= page
            found += [(item["Key"], item["ETag"]) for item in each.get("Contents", ())]
            folded += [item["Prefix"] for item in each.get("CommonPrefixes", ())]
        wanted, wanted_folded = [], []
        for key, etag in self.model.listed():
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                common = prefix + rest[: rest.index(delimiter) + len(delimiter)]
                if common not in wanted_folded:
                    wanted_folded.append(common)
            else:
                wanted.append((key, etag))
        assert (found, folded) == (wanted, wanted_folded)

    @rule(page=st.integers(1, 5))
    def list_versions(self, page):
        assert self.versions(page) == self.model.every()

    def versions(self, page):
        found = []
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, PaginationConfig={"PageSize": page}
        )
        for each in pages:
            rows = [(item, False) for item in each.get("Versions", ())]
            rows += [(item, True) for item in each.get("DeleteMarkers", ())]
            assert len(rows) <= page
            found += [(i["Key"], i["VersionId"], i["IsLatest"], marker) for i, marker in rows]
        # boto3 gives versions and delete markers apart: their order is that of each kind.
        order = {row: number for number, row in enumerate(self.model.every())}
        for marker in (False, True):
            kind = [order.get(row, -1) for row in found if row[3] == marker]
            assert kind == sorted(kind), found
        return sorted(found, key=lambda row: order.get(row, -1))

    def teardown(self):
        assert self.versions(1000) == self.model.every()
        for key, version, _, _ in self.model.every():
            self.s3.delete_object(**self.at(key, VersionId=version))
        self.s3.delete_bucket(Bucket=self.bucket)


class Refused:
    code = ""


@contextlib.contextmanager
def refusal():
    """What is within may be refused: `code` says with what, "" if it was not."""
    found = Refused()
    try:
        yield found
    except ClientError as error:
        found.code = error.response["Error"]["Code"]


@pytest.fixture(scope="module", params=SHAPES_SLOW)
def s3(request, tmp_path_factory):
    """With several gateways each call goes to another one than that before."""
    settings = {"store.part_size_bytes_min": "1"}
    where = tmp_path_factory.mktemp("model") / "data"
    with (
        make_server(where, shape=request.param, settings=settings) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for number in range(len(set(server.client_endpoints))):
            found = server.s3_settings(number) if number else server.s3_settings()
            client = boto3.client("s3", config=Config(retries={"max_attempts": 0}), **found)
            clients.append(stack.enter_context(contextlib.closing(client)))
        yield Spread(clients)


def run(s3, examples, steps):
    found = type("Machine", (Machine,), {"s3": s3})
    run_state_machine_as_test(
        found,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_server_is_what_the_model_is(s3):
    run(s3, examples=12, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_is_what_the_model_is_for_long(s3):
    run(s3, examples=300, steps=50)
