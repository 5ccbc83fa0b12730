"""What is fuzzed: each target takes bytes, and raises only if they have found a mistake of ours.

request     a request of S3, as the root and as a stranger, on a store in memory: no answer is a
            failure of ours, every error is S3's document, a stranger changes nothing
policy      a policy, of each kind: refused by `MalformedPolicy`, else it answers every question,
            and never allows what a copy of it that denies everything allows
chunked     a body in aws-chunked: refused by a `PayloadError`, else as long as it said
xml         a document: refused by a `Refusal`, else a tree within bounds
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from objectio_api_s3.errors import Refusal
from objectio_api_s3.frontend import S3Factory
from objectio_api_s3.parse import Node, parse

from objectio.abc.api import ANONYMOUS, ApiContext, Identity
from objectio.abc.metrics import NullMetrics
from objectio.errors import PayloadError
from objectio.iam import signer
from objectio.iam.chunked import ChunkedDecoder
from objectio.iam.patterns import Lookup, MalformedPolicy
from objectio.iam.policy import Asked, Policy
from objectio.iam.public import is_public_policy
from objectio.testing.api import NOBODY, call
from objectio.testing.objects import MemoryObjects
from tests.fuzz.seeds import POLICY, SEEDS

REFUSED_OF_OURS = (501, 503)
REQUESTS_OF_A_STORE = 200
_ILLEGAL_REFERENCE = re.compile(rb"&#x(?:[0-8bcef]|1[0-9a-f]|fff[ef]);")
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"))


@dataclass(frozen=True)
class Target:
    seeds: Sequence[bytes]
    run: Callable[[bytes], None]


class Store:
    """A store in memory with something in it, behind the front end."""

    @classmethod
    async def make(cls) -> Store:
        store = cls()
        store.objects = MemoryObjects()
        store._front_end = S3Factory().build(
            ApiContext(objects=store.objects, metrics=NullMetrics(), region="us-east-1")
        )
        for path, body in (("/bucket", b""), ("/other", b""), ("/bucket/key", b"content")):
            answer = await store.call("PUT", path, [], body)
            assert answer.status == 200, answer
        return store

    async def call(self, method, target, headers, body, **who):
        return await call(self._front_end, method, target, headers=headers, body=body, **who)


class Requests:
    """The target `request`. The root has a store for some requests, then a fresh one. Strangers have
    one in which nobody has allowed them anything."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done = 0

    def __call__(self, data: bytes) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._run(data))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    async def _run(self, data: bytes) -> None:
        if self._done == 0:
            self._private = await Store.make()
        if self._done % REQUESTS_OF_A_STORE == 0:
            self._store = await Store.make()
        self._done += 1
        request = read_request(data)
        check_answer(request[0], await self._store.call(*request))
        before = self._private.objects.snapshot()
        for identity in (ANONYMOUS, NOBODY):
            answer = await self._private.call(*request, identity=identity)
            check_answer(request[0], answer)
            check_stranger(request[0], answer)
        assert self._private.objects.snapshot() == before, "a stranger changed something"


def read_request(data: bytes) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """As `Seed.encode` writes one; as much of it as a server lets through to an application
    (RFC 9110 §5.1, §5.5; RFC 9112 §3.2)."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, target = first.partition(" ")
    target = "".join(c for c in target if "!" <= c <= "~" and c != "#")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        token = "".join(c for c in name if (c.isalnum() and c.isascii()) or c in "!#$%&'*+-.^_`|~")
        if token and token.lower() not in ("content-length", "transfer-encoding", "host"):
            headers.append((token, "".join(c for c in value.strip() if c >= " " and c != "\x7f")))
    return (
        method if method in _METHODS else "GET",
        target if target.startswith("/") else "/" + target,
        headers,
        body,
    )


def check_answer(method, answer) -> None:
    assert answer.status < 500 or answer.status in REFUSED_OF_OURS, answer
    # S3 writes characters that XML 1.0 cannot hold as references to them, and so do we.
    body = _ILLEGAL_REFERENCE.sub(b"?", answer.body)
    if answer.status >= 400 and method != "HEAD" and body:
        root = ET.fromstring(body)
        assert root.tag == "Error", answer
        assert root.findtext("Code"), answer
    elif answer.headers.get("content-type") == "application/xml" and body.startswith(b"<?xml"):
        ET.fromstring(body)


def check_stranger(method, answer) -> None:
    """Strangers may ask which buckets are theirs, and be told of each key that it is not deleted."""
    if answer.status < 300 and method != "OPTIONS":
        assert any(sign in answer.body for sign in (b"<Buckets/>", b"<DeleteResult")), answer
        assert not any(sign in answer.body for sign in (b"content", b"<Deleted>")), answer


# Policies.

_IDENTITIES = (
    ANONYMOUS,
    NOBODY,
    Identity("alice", "arn:aws:iam::111111111111:user/alice", "A", account="111111111111"),
)
_VALUES = {
    "aws:username": ["alice"],
    "aws:SourceIp": ["10.1.2.3"],
    "aws:SecureTransport": ["true"],
    "aws:CurrentTime": ["2026-11-23T00:00:00Z"],
    "aws:Referer": ["http://www.example.com/a"],
    "s3:max-keys": ["7"],
    "s3:RequestObjectTagKeys": ["a", "c"],
}
_ASKED = (
    ("s3:getobject", "arn:aws:s3:::bucket/alice/x"),
    ("s3:putbucketpolicy", "arn:aws:s3:::bucket"),
    ("sts:assumerole", "arn:aws:iam::111111111111:role/r"),
)


def run_policy(data: bytes) -> None:
    for kind in ("resource", "identity", "trust"):
        try:
            policy = Policy.parse(data, kind=kind, bucket="bucket" if kind == "resource" else "")
        except MalformedPolicy:
            continue
        document = json.loads(data)
        assert isinstance(is_public_policy(policy), bool)
        for identity in _IDENTITIES:
            for action, resource in _ASKED:
                asked = Asked(identity, action, resource, Lookup(lambda: _VALUES))
                first = policy.ask(asked)
                assert policy.ask(asked) == first
                if isinstance(document["Statement"], list):  # fewer statements, never more allowed
                    for statement in document["Statement"]:
                        if statement["Effect"] == "Allow":
                            less = json.dumps({**document, "Statement": [statement]})
                            one = Policy.parse(less, kind=kind)
                            assert one.ask(asked).allowed <= first.allowed


# Bodies.

_SIZE = 24


def run_chunked(data: bytes) -> None:
    # The first byte says how the rest is cut into pieces.
    step = 1 + (data[0] if data else 0)
    decoder = ChunkedDecoder(
        _SIZE,
        signed=False,
        with_trailer=True,
        declared_trailers=["x-amz-checksum-crc32"],
        signatures=None,
    )
    found = b""
    try:
        for at in range(1, len(data), step):
            found += decoder.feed(data[at : at + step])
            assert len(found) <= _SIZE
        decoder.finish()
        decoder.verify()
    except PayloadError as error:
        assert error.fields.get("reason"), error  # noqa: PT017
    else:
        assert len(found) == _SIZE


def _chunked_seeds() -> list[bytes]:
    trailers = ((b"x-amz-checksum-crc32", b"AAAAAA=="),)
    return [
        bytes([step]) + b"".join(signer.encode_unsigned_chunks(b"x" * _SIZE, size, trailers))
        for step, size in ((0, 7), (255, 24), (10, 1))
    ]


def run_xml(data: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(parse(data, data[1:30].split(b">")[0].decode("latin-1")), Node)


def make_targets() -> dict[str, Target]:
    seeds = [seed.encode() for seed in SEEDS]
    return {
        "request": Target(seeds, Requests()),
        "policy": Target([POLICY.encode()], run_policy),
        "chunked": Target(_chunked_seeds(), run_chunked),
        "xml": Target([s.body.encode() for s in SEEDS if s.body.startswith("<")], run_xml),
    }
