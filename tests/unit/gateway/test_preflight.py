"""Preflights of CORS, which have no credentials."""

from __future__ import annotations

import pytest

from objectio.abc.api import ANONYMOUS, Access
from objectio.errors import AccessError
from objectio.gateway.gate import Gate
from objectio.iam.credentials import StaticCredentials
from objectio.testing.api import make_scope

PRESIGNED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=KEY%2F20300101%2Fus-east-1%2Fs3%2F"
    "aws4_request&X-Amz-Date=20300101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&"
    "X-Amz-Signature=" + "0" * 64
)


def authenticate(method, *, public):
    scope = make_scope(method, f"/bucket/key?{PRESIGNED}", [(b"host", b"localhost")])
    access = Access("s3:Something", "arn:aws:s3:::bucket/key", object(), public=public)
    return Gate(StaticCredentials([])).authenticate(scope, access)


def test_the_signature_in_the_url_is_not_that_of_a_preflight():
    """A browser asks for the very URL that was presigned, for another method."""
    assert authenticate("OPTIONS", public=True).identity == ANONYMOUS


@pytest.mark.parametrize(("method", "public"), [("GET", True), ("PUT", False), ("OPTIONS", False)])
def test_any_other_signature_counts(method, public):
    with pytest.raises(AccessError):
        authenticate(method, public=public)
