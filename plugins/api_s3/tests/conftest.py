"""A front end over a store in memory, called through the gate; or a whole store, called over HTTP.

Tests with the fixture `s3` run against both, the whole store in every shape that it can have. Those
that ask what is in memory, or are somebody else than the root, stay with the store in memory.
"""

from __future__ import annotations

import http.client
import itertools
import xml.etree.ElementTree as ET
from contextlib import closing
from importlib.util import find_spec
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from objectio_api_s3.frontend import S3Factory

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import Answer, call
from objectio.testing.objects import MemoryObjects
from objectio.testing.shapes import SHAPES, make_server

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Document:
    """An XML answer: `one("A/B")` is a text, `all("A/B")` are texts, `count("A")` a number."""

    def __init__(self, answer):
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/xml"
        self.root = ET.fromstring(answer.body)
        assert self.root.tag.startswith(NAMESPACE)
        self.name = self.root.tag.removeprefix(NAMESPACE)

    def _path(self, path):
        return "/".join(NAMESPACE + step for step in path.split("/"))

    def one(self, path):
        return self.root.findtext(self._path(path))

    def all(self, path):
        return [node.text or "" for node in self.root.findall(self._path(path))]

    def count(self, path):
        return len(self.root.findall(self._path(path)))


class S3:
    """`await s3("GET", "/bucket/key", …)` → `Answer`."""

    clock_stands_still = True

    def __init__(self, objects, region="us-east-1", **more):
        self.objects = objects
        self.front_end = S3Factory().build(
            ApiContext(objects=objects, metrics=NullMetrics(), region=region, **more)
        )

    async def __call__(self, method, path, **more):
        return await call(self.front_end, method, path, **more)

    async def put(self, path, body=b"data", headers=(), **more):
        answer = await self("PUT", path, body=body, headers=headers, **more)
        assert answer.status == 200, answer
        return answer

    async def get(self, path, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self("GET", path, headers=names)

    async def document(self, path, method="GET", **more):
        return Document(await self(method, path, **more))

    async def refused(self, method, path, **more):
        """The status and code of a refusal."""
        answer = await self(method, path, **more)
        assert answer.status >= 400, answer
        return answer.status, self.code(answer)

    @staticmethod
    def code(answer):
        root = ET.fromstring(answer.body)
        assert root.tag == "Error"
        assert root.findtext("RequestId") == answer.headers["x-amz-request-id"]
        return root.findtext("Code")


class S3OverHttp(S3):
    """Each request by another gateway than the one before, or over another connection at least."""

    def __init__(self, server):
        hosts = [endpoint.removeprefix("http://") for endpoint in server.client_endpoints]
        self._hosts = itertools.cycle(hosts)

        self.objects = ObjectsOverHttp(self)

    @property
    def front_end(self):
        pytest.skip("asks the front end itself")

    @property
    def clock_stands_still(self):
        pytest.skip("knows when objects were made")

    async def __call__(
        self, method, path, *, headers=(), body=b"", identity=None, allows=None, **_
    ):
        if identity is not None or allows is not None:
            pytest.skip("everybody is the root there")
        return self.send(method, path, headers, body)

    def send(self, method, path, headers=(), body=b""):
        pairs = headers.items() if hasattr(headers, "items") else headers
        sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        told = dict(sent)
        if told.get(b"content-length", b"%d" % len(body)) != b"%d" % len(body):
            pytest.skip("a server waits for the rest of such a body")
        if b"host" not in told:
            sent.append((b"host", b"localhost:9000"))
        if (body or method in ("PUT", "POST")) and b"content-length" not in told:
            sent.append((b"content-length", b"%d" % len(body)))
        with closing(http.client.HTTPConnection(next(self._hosts), timeout=30)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            found = [(k.lower().encode(), v.encode("latin-1")) for k, v in answer.getheaders()]
            return Answer(answer.status, found, content, 1)


class ObjectsOverHttp:
    """As much of `MemoryObjects` as can be seen from outside."""

    def __init__(self, s3):
        super().__setattr__("_s3", s3)

    def __getattr__(self, name):
        pytest.skip("asks the store in memory")

    def __setattr__(self, name, value):
        pytest.skip("changes the store in memory")

    def snapshot(self):
        """{bucket: (name, objects, uploads)}"""
        buckets = Document(self._s3.send("GET", "/")).all("Buckets/Bucket/Name")
        return {name: (name, self._objects(name), self._uploads(name)) for name in buckets}

    def _objects(self, bucket):
        found, after = {}, ""
        while True:
            query = f"list-type=2&encoding-type=url&start-after={after}"
            page = Document(self._s3.send("GET", f"/{bucket}?{query}"))
            keys = page.all("Contents/Key")
            rows = zip(page.all("Contents/ETag"), page.all("Contents/LastModified"), strict=True)
            found |= dict(zip(map(unquote_to_bytes, keys), rows, strict=True))
            if page.one("IsTruncated") != "true":
                return found
            after = keys[-1]

    def _uploads(self, bucket):
        page = Document(self._s3.send("GET", f"/{bucket}?uploads&encoding-type=url"))
        keys = map(unquote_to_bytes, page.all("Upload/Key"))
        return dict(zip(page.all("Upload/UploadId"), keys, strict=True))

    def clear(self):
        for bucket, (_, _, uploads) in self.snapshot().items():
            for upload, key in uploads.items():
                path = f"/{bucket}/{quote_from_bytes(key)}?uploadId={upload}"
                assert self._s3.send("DELETE", path).status == 204
            while self._clear_versions(bucket):
                pass
            assert self._s3.send("DELETE", f"/{bucket}").status == 204

    def _clear_versions(self, bucket):
        bypass = {"x-amz-bypass-governance-retention": "true"}
        page = Document(self._s3.send("GET", f"/{bucket}?versions&encoding-type=url"))
        for kind in ("Version", "DeleteMarker"):
            keys, versions = page.all(f"{kind}/Key"), page.all(f"{kind}/VersionId")
            for key, version in zip(keys, versions, strict=True):
                path = f"/{bucket}/{quote_from_bytes(unquote_to_bytes(key))}?versionId={version}"
                assert self._s3.send("DELETE", path, bypass.items()).status == 204
        return page.one("IsTruncated") == "true"


SETTINGS = {"store.part_size_bytes_min": "16"}
SLOW = [pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES]


@pytest.fixture(scope="session", params=["memory", *SLOW])
def whole_store(request, tmp_path_factory):
    """A server without authentication; None for the store in memory."""
    if request.param == "memory":
        yield None
        return
    if find_spec("objectio_kv_lmdb") is None:
        pytest.skip("several processes need metadata that lasts: objectio_kv_lmdb is not installed")
    where = tmp_path_factory.mktemp(request.param) / "data"
    options = {"settings": SETTINGS, "arguments": ["--no-auth"]}
    with make_server(where, shape=request.param, **options) as server:
        yield server


@pytest.fixture
def objects():
    return MemoryObjects(part_size_bytes_min=16)


@pytest.fixture
def make_s3():
    return S3


@pytest.fixture
async def s3(objects, whole_store):
    if whole_store is None:
        yield S3(objects)
        return
    s3 = S3OverHttp(whole_store)
    yield s3
    s3.objects.clear()


@pytest.fixture
async def bucket(s3):
    await s3.put("/bucket", b"")
    return "/bucket"
