"""Form uploads: the policy that was signed is what the form is held against.

RGW CVE-2023-43040, MinIO CVE-2023-28434, RustFS w5fh: a form whose bucket, key, size or other fields
its policy does not allow was stored.
"""

from __future__ import annotations

import base64
import json
import time

import pytest

from objectio.iam import canonical

BOUNDARY = "----form"
TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
CONDITIONS = [
    {"bucket": "annas"},
    ["starts-with", "$key", "up/"],
    ["content-length-range", 1, 100],
    {"x-amz-meta-a": "b"},
]
FIELDS = {"key": "up/x", "x-amz-meta-a": "b"}


def encode(fields, data=b"data"):
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = "".join(parts) + (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def sign(
    world, by, conditions=CONDITIONS, seconds=600, *, region="us-east-1", service="s3", **more
):
    """The fields that sign a form."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(world.clock))
    # What a policy says is compared with the real time.
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    given = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{by.access_key}/{scope}",
        "x-amz-date": stamp,
        **more,
    }
    every = [*conditions, *({name: value} for name, value in given.items())]
    document = json.dumps({"expiration": expires, "conditions": every})
    policy = base64.b64encode(document.encode()).decode()
    key = canonical.signing_key(
        by.secret_key, stamp[:8].encode(), region.encode(), service.encode()
    )
    return {
        **given,
        "policy": policy,
        "x-amz-signature": canonical.signature(key, policy.encode()).decode(),
    }


async def post(world, fields, data=b"data", target="/annas", **more):
    return await world("POST", target, headers=TYPE, body=encode(fields, data), **more)


async def stored(world, key="up/x"):
    return (await world("GET", f"/annas/{key}", world.anna)).status == 200


async def test_a_form_that_its_policy_allows(world):
    assert (await post(world, FIELDS | sign(world, world.anna))).status == 204
    assert await stored(world)


@pytest.mark.parametrize(
    ("fields", "data", "target"),
    [
        ({"key": "other/x"}, b"data", "/annas"),
        ({"key": "up/x", "x-amz-meta-a": "c"}, b"data", "/annas"),
        ({"x-amz-meta-more": "c"}, b"data", "/annas"),
        ({"acl": "public-read"}, b"data", "/annas"),
        ({"x-amz-tagging": "<Tagging/>"}, b"data", "/annas"),
        ({"success_action_redirect": "http://evil.example"}, b"data", "/annas"),
        ({}, b"", "/annas"),
        ({}, b"x" * 101, "/annas"),
        ({}, b"data", "/annas2"),
        ({"bucket": "annas"}, b"data", "/annas2"),
    ],
)
async def test_post_policy_is_enforced(world, fields, data, target):
    await world.objects.create_bucket("annas2", owner="id-of-anna")
    before = world.objects.snapshot()
    answer = await post(world, FIELDS | sign(world, world.anna) | fields, data, target)
    assert answer.status in (400, 403), answer.body
    assert world.objects.snapshot() == before


async def test_post_policy_that_has_expired(world):
    answer = await post(world, FIELDS | sign(world, world.anna, seconds=-1))
    assert answer.status == 403
    world.clock -= 8 * 24 * 3600
    fields = sign(world, world.anna)
    world.clock += 8 * 24 * 3600
    assert (await post(world, FIELDS | fields)).status == 403
    assert not await stored(world)


@pytest.mark.parametrize(
    "change",
    [
        {"x-amz-signature": "0" * 64},
        {"x-amz-signature": ""},
        {"x-amz-signature": "x"},
        {"x-amz-credential": "AKIABERT/20231114/us-east-1/s3/aws4_request"},
        {"x-amz-credential": "AKIANOBODY/20231114/us-east-1/s3/aws4_request"},
        {"x-amz-credential": "AKIAANNA/20231114/eu-west-1/s3/aws4_request"},
        {"x-amz-credential": "AKIAANNA/20231114/us-east-1/sts/aws4_request"},
        {"x-amz-credential": "AKIAANNA/20231115/us-east-1/s3/aws4_request"},
        {"x-amz-credential": "AKIAANNA"},
        {"x-amz-date": "20231115T000000Z"},
        {"x-amz-algorithm": "none"},
        {"x-amz-algorithm": "HMAC-SHA1"},
        {
            "policy": base64.b64encode(
                b'{"expiration":"2099-01-01T00:00:00Z","conditions":[]}'
            ).decode()
        },
        {"x-amz-security-token": "x"},
    ],
    ids=str,
)
async def test_post_with_a_forged_signature(world, change):
    answer = await post(world, FIELDS | sign(world, world.anna) | change)
    assert answer.status in (400, 403), answer.body
    assert not await stored(world)


async def test_post_by_who_may_not_write(world):
    for by in (world.bert, world.user):
        assert (await post(world, FIELDS | sign(world, by))).status == 403
    assert (await post(world, FIELDS)).status == 403
    assert not await stored(world)
    await world.allow("s3:PutObject", resource="annas/up/*")
    assert (await post(world, FIELDS | sign(world, world.bert))).status == 204
    assert (await post(world, {"key": "down/x"})).status == 403


async def test_post_with_credentials_in_two_places(world):
    answer = await post(world, FIELDS | sign(world, world.anna), by=world.bert)
    assert answer.status in (400, 403)
    answer = await post(world, FIELDS | sign(world, world.bert), by=world.anna)
    assert answer.status in (400, 403)
    assert not await stored(world)


async def test_post_with_temporary_credentials_needs_their_token(world):
    identity = world.memory.directory.lookup("AKIAANNA").identity
    made = await world.identities.get_session_token(identity, seconds=3600)
    by = type(world.anna)(made.access_key, made.secret_key, identity)
    token = {"x-amz-security-token": made.session_token}
    assert (await post(world, FIELDS | sign(world, by))).status == 403
    assert (await post(world, FIELDS | sign(world, by) | token)).status in (400, 403)
    assert not await stored(world)
    assert (await post(world, FIELDS | sign(world, by, **token))).status == 204
