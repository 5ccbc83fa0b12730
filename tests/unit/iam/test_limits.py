"""Keys with limits, and what else the directory does not let pass."""

from __future__ import annotations

import json

import msgspec
import pytest

from objectio.errors import CredentialsMalformed, InvalidRequest, NotEmpty
from objectio.iam import admin, rows
from objectio.iam.credentials import root_credential
from objectio.testing.identities import MemoryKeys, memory_identities, memory_kv

ALLOW = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
ROOT = root_credential("AKIAROOT", "canary-root-secret")


class Clock:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock):
    return memory_identities([ROOT], clock=clock)


@pytest.fixture
def identities(world):
    return world.identities


@pytest.fixture
async def account(identities):
    made, _ = await identities.create_account("Anna")
    return made.id


async def test_what_a_key_is_limited_to_is_shown(identities, account, clock):
    ends_ms = int(clock.now * 1000) + 1
    new = await identities.create_access_key(
        account, "", policy=ALLOW, description="backup of the wiki", expires_ms=ends_ms
    )
    shown = (await identities.list_access_keys(account, ""))[1]
    assert shown == new.key
    assert (shown.policy, shown.description, shown.expires_ms) == (
        ALLOW,
        "backup of the wiki",
        ends_ms,
    )
    await identities.update_access_key(account, "", shown.access_key, active=False)
    (_, off) = await identities.list_access_keys(account, "")
    assert (off.active, off.policy, off.expires_ms) == (False, ALLOW, ends_ms)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"policy": "{}"}, "MalformedPolicyDocument"),
        ({"policy": "nothing"}, "MalformedPolicyDocument"),
        ({"policy": TRUST}, "MalformedPolicyDocument"),
        ({"policy": ALLOW.replace("Allow", "Allow" + " " * 50_000)}, "LimitExceeded"),
        ({"description": "x" * 257}, "ValidationError"),
        ({"description": "a\x1b[2J"}, "ValidationError"),
        ({"expires_ms": -1}, "ValidationError"),
        ({"expires_ms": 1_700_000_000_000}, "ValidationError"),
        ({"expires_ms": 10**15}, "ValidationError"),
    ],
)
async def test_limits_that_are_none(identities, account, wrong, reason):
    with pytest.raises(InvalidRequest) as caught:
        await identities.create_access_key(account, "", **wrong)
    assert caught.value.fields["reason"] == reason
    assert len(await identities.list_access_keys(account, "")) == 1


async def test_how_many_keys_of_each_kind(identities, account):
    await identities.create_user(account, "bob")
    for _ in range(admin.SERVICE_KEYS_MAX):
        await identities.create_access_key(account, "bob", policy=ALLOW)
    for _ in range(2):
        await identities.create_access_key(account, "bob")
    for policy in ("", ALLOW):
        with pytest.raises(InvalidRequest) as caught:
            await identities.create_access_key(account, "bob", policy=policy)
        assert caught.value.fields["reason"] == "LimitExceeded"
    with pytest.raises(NotEmpty):
        await identities.delete_user(account, "bob")


async def test_rows_of_before_have_no_limits(world, identities, account):
    (key,) = await identities.list_access_keys(account, "")
    row = rows.key(key.access_key)
    former = msgspec.msgpack.encode(msgspec.msgpack.decode(await world.kv.aget(row))[:5])
    world.directory.apply([(row, former)])
    identity = world.directory.lookup(key.access_key).identity
    assert (identity.limits, identity.expires_ms) == (None, 0)


# The directory.


async def test_no_row_makes_a_root_of_the_cluster(world, identities, account):
    """Who may write rows of keys gets no further than accounts."""
    (key,) = await identities.list_access_keys(account, "")
    raw = rows.decode_key(await world.kv.aget(rows.key(key.access_key)))
    forged = msgspec.structs.replace(raw, account="000000000000")
    world.directory.apply([(rows.key(key.access_key), rows.encode(forged))])
    assert world.directory.lookup(key.access_key) is None


async def test_a_session_of_nobody_has_rows_read_once(clock, monkeypatch):
    kv, keys_ = memory_kv(), MemoryKeys()
    here, there = (memory_identities([ROOT], kv=kv, keys=keys_, clock=clock) for _ in range(2))
    made, _ = await here.identities.create_account("Anna")
    role = await here.identities.create_role(made.id, "work", TRUST)
    session = await here.identities.assume_role(role, "me")
    await here.identities.delete_role(made.id, "work")
    reads = []
    load = there.directory.load

    async def counted():
        reads.append(1)
        await load()

    monkeypatch.setattr(there.directory, "load", counted)
    for _ in range(5):
        await there.directory.refresh(session.access_key, session.session_token)
        with pytest.raises(CredentialsMalformed):
            there.directory.session(session.access_key, session.session_token)
    assert len(reads) == 1
    # One that is there is still found.
    await here.identities.create_role(made.id, "work", TRUST)
    role = await here.identities.get_role(made.id, "work")
    session = await here.identities.assume_role(role, "me")
    await there.directory.refresh(session.access_key, session.session_token)
    assert there.directory.session(session.access_key, session.session_token)
    clock.now += 10**6
    reads.clear()
    await there.directory.refresh(session.access_key, session.session_token)
    assert not reads
