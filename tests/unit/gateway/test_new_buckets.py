"""Who may make a bucket, and what with it."""

from __future__ import annotations

import json

import pytest

from objectio.abc.api import ANONYMOUS, Identity, Wanted
from objectio.errors import AccessDenied, NotFound
from objectio.gateway.guard import Guard
from objectio.iam.policy import Policy
from objectio.testing.objects import MemoryObjects

MAKER = "c" * 64


class NoDirectory:
    def by_canonical_id(self, canonical_id):
        return None


def who(*actions):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    raw = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    return Identity(
        "one",
        "arn:aws:iam::111111111111:user/one",
        "KEY",
        account="111111111111",
        canonical_id=MAKER,
        policies=(Policy.parse(raw, kind="identity"),),
    )


@pytest.fixture
def objects():
    return MemoryObjects()


@pytest.fixture
def judge(objects):
    guard = Guard(objects, NoDirectory())

    async def judge(identity, action, creating=False):
        wanted = Wanted(action, "arn:aws:s3:::bucket")
        await guard.judge(identity, wanted, dict, creating=creating)

    return judge


async def test_a_new_bucket_is_its_makers(judge):
    await judge(who("s3:CreateBucket"), "s3:CreateBucket")
    await judge(who("s3:PutBucketAcl"), "s3:PutBucketAcl", creating=True)
    with pytest.raises(AccessDenied):
        await judge(who("s3:CreateBucket"), "s3:PutBucketAcl", creating=True)
    with pytest.raises(AccessDenied):
        await judge(who("s3:PutBucketAcl"), "s3:PutBucketVersioning", creating=True)


async def test_nobody_sets_anything_of_a_bucket_that_is_not_there(judge):
    """It may be there, and somebody else's, when it is set."""
    for action in ("s3:PutBucketAcl", "s3:PutBucketPolicy", "s3:DeleteBucket"):
        with pytest.raises(NotFound):
            await judge(who("s3:*"), action)


async def test_nobody_makes_one(judge):
    for action in ("s3:CreateBucket", "s3:PutBucketAcl"):
        with pytest.raises(AccessDenied):
            await judge(ANONYMOUS, action, creating=True)


async def test_a_bucket_that_is_there_is_its_owners(judge, objects):
    await objects.create_bucket("bucket", owner="d" * 64)
    with pytest.raises(AccessDenied):
        await judge(who("s3:*"), "s3:PutBucketAcl")
