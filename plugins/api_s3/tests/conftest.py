"""A front end over a store in memory, called through the gate."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from objectio_api_s3.frontend import S3Factory

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.api import call
from objectio.testing.objects import MemoryObjects

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

    def __init__(self, objects, region="us-east-1"):
        self.objects = objects
        self.front_end = S3Factory().build(
            ApiContext(objects=objects, metrics=NullMetrics(), region=region)
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


@pytest.fixture
def objects():
    return MemoryObjects(part_size_bytes_min=16)


@pytest.fixture
def make_s3():
    return S3


@pytest.fixture
def s3(objects):
    return S3(objects)


@pytest.fixture
async def bucket(s3):
    await s3.put("/bucket", b"")
    return "/bucket"
