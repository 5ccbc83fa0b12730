"""The kit for front ends must notice what is wrong."""

from __future__ import annotations

import pytest

from objectio.abc.api import ANONYMOUS, Access, Mount, Response
from objectio.errors import OperationNotImplemented
from objectio.testing.api import (
    NOBODY,
    FrontEndConformance,
    Sample,
    call,
    check_messages,
    encode_headers,
    make_scope,
)
from objectio.testing.objects import MemoryObjects

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}


class FrontEnd:
    """`GET /x` answers, `PUT /x` stores; whatever `broken` names is done wrong."""

    mounts = (Mount("/"),)

    def __init__(self, objects, broken=""):
        self.objects = objects
        self.broken = broken

    def classify(self, scope):
        known = scope["method"] in ("GET", "PUT") and scope["raw_path"] == b"/x"
        if not known and self.broken != "takes all":
            raise OperationNotImplemented("unknown")
        public = self.broken == "public"
        return Access("x:Do", "arn:x", scope["method"], public=public, body_bytes_max=10)

    async def app(self, scope, receive, send):
        request = scope["objectio"]
        if scope["method"] != "GET" and not self.objects.snapshot():
            await self.objects.create_bucket("made", owner=request.identity.name)
        await send(START | {"headers": [(b"content-length", b"1")]})
        await send(BODY)

    def error(self, error, scope, request_id):
        text = str(error) if self.broken == "leaks" else "failed"
        status = 503 if getattr(error, "retryable", False) else 500
        names = {
            "OperationNotImplemented": 501,
            "Unauthenticated": 401,
            "AccessDenied": 403,
            "PayloadTooLarge": 400,
        }
        status = names.get(type(error).__name__, status)
        body = b"" if scope["method"] == "HEAD" else text.encode()
        return Response(status, [(b"x-request-id", request_id.encode())], body)


class TestTheKitItself(FrontEndConformance):
    broken = ""

    @pytest.fixture
    def front_end(self, objects):
        return FrontEnd(objects, self.broken)

    @pytest.fixture
    def samples(self):
        return [Sample("GET", "/x"), Sample("PUT", "/x")]

    @pytest.fixture
    def unknown(self):
        return [Sample("DELETE", "/x"), Sample("PUT", "/y")]


async def test_a_front_end_that_takes_all_is_noticed():
    suite, objects = FrontEndConformance(), MemoryObjects()
    with pytest.raises(pytest.fail.Exception):
        await suite.test_the_unknown_is_refused(
            FrontEnd(objects, "takes all"), objects, [Sample("DELETE", "/x")]
        )


async def test_an_open_door_is_noticed():
    suite, objects = FrontEndConformance(), MemoryObjects()
    with pytest.raises(AssertionError):
        suite.test_samples_are_classified(FrontEnd(objects, "public"), [Sample("GET", "/x")])
    with pytest.raises(AssertionError):
        await suite.test_strangers_are_refused(
            FrontEnd(objects, "public"), objects, [Sample("PUT", "/x")]
        )


def test_a_leak_is_noticed():
    suite = FrontEndConformance()
    with pytest.raises(AssertionError):
        suite.test_bugs_tell_no_internals(FrontEnd(None, "leaks"), KeyError("canary7f3a91"))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [BODY],
        [START],
        [START, BODY | {"more_body": True}],
        [START, BODY, BODY],
        [START, START, BODY],
        [START | {"headers": [(b"X-Upper", b"v")]}, BODY],
        [START | {"headers": [("x-text", "v")]}, BODY],
        [START | {"headers": [(b"x", b"a\r\nb")]}, BODY],
        [START | {"headers": [(b"content-length", b"2")]}, BODY],
        [START | {"status": 204}, BODY],
    ],
)
def test_broken_responses_are_noticed(messages):
    with pytest.raises((AssertionError, IndexError)):
        check_messages(messages, "GET")


async def test_call_goes_through_the_gate():
    front_end = FrontEnd(MemoryObjects())
    assert (await call(front_end, "GET", "/x")).body == b"x"
    assert (await call(front_end, "GET", "/x", identity=ANONYMOUS)).status == 401
    assert (await call(front_end, "GET", "/x", identity=NOBODY)).status == 403
    answer = await call(front_end, "GET", "/x", identity=NOBODY, allows=lambda *pair: True)
    assert answer.status == 200
    assert (await call(front_end, "GET", "/x", body=bytes(11))).status == 400


def test_scopes_keep_the_path_as_it_came():
    scope = make_scope("GET", "/a%2Fb/%C3%A9?x=%20", encode_headers({"X-A": "\xe9"}))
    assert scope["raw_path"] == b"/a%2Fb/%C3%A9"
    assert scope["path"] == "/a/b/\u00e9"
    assert scope["query_string"] == b"x=%20"
    assert scope["headers"] == [(b"x-a", b"\xe9")]
