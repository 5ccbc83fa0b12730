"""Managing identities, over the real store of rows: what is made, refused, found, and kept secret."""

from __future__ import annotations

import json
import re

import pytest

from objectio.errors import (
    AccessDenied,
    AlreadyExists,
    CredentialsMalformed,
    InvalidRequest,
    NotEmpty,
    NotFound,
)
from objectio.iam import catalog, principals, rows
from objectio.iam.credentials import root_credential
from objectio.meta import keys
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
S3_READ = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


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
    made, _ = await identities.create_account("Anna", email="Anna@Example.com")
    return made.id


def test_the_rows_are_where_the_metadata_says():
    assert rows.IDENTITIES == keys.IDENTITIES


# Accounts.


async def test_an_account_is_made_with_a_key_and_found_by_all_its_names(world, identities):
    made, new = await identities.create_account("Anna", email="Anna@Example.com")
    assert re.fullmatch("[1-9][0-9]{11}", made.id)
    assert re.fullmatch("[0-9a-f]{64}", made.canonical_id)
    assert (len(new.key.access_key), len(new.secret_key)) == (20, 40)
    directory = world.directory
    assert directory.by_account(made.id) == directory.by_canonical_id(made.canonical_id) == made
    assert directory.by_email("anna@example.COM") == made
    identity = directory.lookup(new.key.access_key).identity
    assert identity.arn == f"arn:aws:iam::{made.id}:root"
    assert identity.is_account_root
    assert not identity.is_root
    assert (identity.account, identity.canonical_id) == (made.id, made.canonical_id)
    assert directory.lookup(new.key.access_key).secret_key == new.secret_key
    assert await identities.list_accounts() == [made]


async def test_what_is_given_is_taken(identities):
    made, new = await identities.create_account(
        "Tester",
        account="123456789012",
        canonical_id="testid",
        access_key="0555b35654ad1656d804",
        secret_key="h7GhxuBLTrlhVUyxSPUKUV8r/2EI4ngqJxD7iBdBYLhwluN30JaT3Q==",
    )
    assert made[:3] == ("123456789012", "testid", "Tester")
    assert new.key.access_key == "0555b35654ad1656d804"


@pytest.mark.parametrize(
    "settings",
    [
        {"account": "1234"},
        {"account": "000000000000"},
        {"account": "1234567890123"},
        {"canonical_id": "root"},
        {"canonical_id": "a b"},
        {"email": "nobody"},
        {"email": "a@b\nc"},
        {"access_key": "a/b"},
        {"access_key": "ASIAABCDEFGHIJKLMNOP"},
        {"secret_key": "short"},
        {"secret_key": "ümlautümlaut"},
    ],
)
async def test_what_cannot_be_is_refused(identities, settings):
    with pytest.raises(InvalidRequest):
        await identities.create_account("Anna", **settings)
    for name in ("", "  ", "x" * 129, "a\nb"):
        with pytest.raises(InvalidRequest):
            await identities.create_account(name)
    assert await identities.list_accounts() == []


@pytest.mark.parametrize("name", ["account", "canonical_id", "email", "access_key"])
async def test_nothing_is_given_twice(identities, name):
    given = {
        "account": "123456789012",
        "canonical_id": "anna",
        "email": "anna@example.com",
        "access_key": "AKIAANNA",
    }
    await identities.create_account("Anna", **given)
    with pytest.raises(AlreadyExists):
        await identities.create_account(
            "Anna", **{name: given[name].upper() if name == "email" else given[name]}
        )
    assert len(await identities.list_accounts()) == 1


async def test_the_key_of_the_root_is_taken(identities):
    with pytest.raises(AlreadyExists):
        await identities.create_account("Anna", access_key=ROOT.access_key)


async def test_an_account_goes_when_it_is_empty_and_its_keys_with_it(world, identities, account):
    (key,) = await identities.list_access_keys(account, "")
    await identities.create_user(account, "bob")
    with pytest.raises(NotEmpty):
        await identities.delete_account(account)
    await identities.delete_user(account, "bob")
    await identities.delete_account(account)
    assert world.directory.lookup(key.access_key) is None
    assert world.directory.by_account(account) is None
    assert world.directory.by_email("anna@example.com") is None
    with pytest.raises(NotFound):
        await identities.delete_account(account)
    left = [row for row, _ in await world.kv.ascan_prefix(rows.IDENTITIES)]
    assert left == [rows.seal("secrets")]


# Users and keys.


async def test_a_user_is_what_its_policies_say(world, identities, account):
    made = await identities.create_user(account, "Bob", path="/team/", tags={"t": "1"})
    assert made.arn == f"arn:aws:iam::{account}:user/team/Bob"
    new = await identities.create_access_key(account, "bob")
    find = world.directory.lookup
    identity = find(new.key.access_key).identity
    assert (identity.arn, identity.user_id, identity.name) == (made.arn, made.id, "Bob")
    assert (identity.policies, identity.tags, identity.is_account_root) == ((), {"t": "1"}, False)
    await identities.put_policy(account, "user", "BOB", "all", ALLOW)
    await identities.attach_policy(account, "user", "bob", S3_READ)
    await identities.create_group(account, "team")
    await identities.put_policy(account, "group", "team", "all", ALLOW)
    assert len(find(new.key.access_key).identity.policies) == 2
    await identities.add_to_group(account, "team", "bob")
    assert len(find(new.key.access_key).identity.policies) == 3
    assert (await identities.find_user(account, made.id)).name == "Bob"


async def test_names_differ_by_more_than_case(identities, account):
    await identities.create_user(account, "Bob")
    with pytest.raises(AlreadyExists):
        await identities.create_user(account, "bOB")
    with pytest.raises(InvalidRequest):
        await identities.create_user(account, "a/b")
    with pytest.raises(InvalidRequest):
        await identities.create_user(account, "x", path="no-slash")
    with pytest.raises(NotFound):
        await identities.create_user("999999999999", "x")


async def test_a_user_is_renamed_and_keeps_what_it_has(world, identities, account):
    made = await identities.create_user(account, "bob")
    new = await identities.create_access_key(account, "bob")
    await identities.create_group(account, "team")
    await identities.add_to_group(account, "team", "bob")
    await identities.create_user(account, "carl")
    with pytest.raises(AlreadyExists):
        await identities.update_user(account, "bob", new_name="Carl")
    changed = await identities.update_user(account, "bob", new_name="rob", new_path="/x/")
    assert (changed.id, changed.arn) == (made.id, f"arn:aws:iam::{account}:user/x/rob")
    assert world.directory.lookup(new.key.access_key).identity.name == "rob"
    assert [each.name for each in await identities.groups_of(account, "rob")] == ["team"]
    assert (await identities.update_user(account, "rob", new_name="Rob")).name == "Rob"
    with pytest.raises(NotFound):
        await identities.get_user(account, "bob")


async def test_a_user_goes_last(identities, account):
    await identities.create_user(account, "bob")
    new = await identities.create_access_key(account, "bob")
    with pytest.raises(NotEmpty, match="access keys"):
        await identities.delete_user(account, "bob")
    await identities.delete_access_key(account, "bob", new.key.access_key)
    await identities.put_policy(account, "user", "bob", "all", ALLOW)
    with pytest.raises(NotEmpty, match="policies"):
        await identities.delete_user(account, "bob")
    await identities.delete_policy(account, "user", "bob", "all")
    await identities.create_group(account, "team")
    await identities.add_to_group(account, "team", "bob")
    with pytest.raises(NotEmpty, match="groups"):
        await identities.delete_user(account, "bob")
    with pytest.raises(NotEmpty, match="users"):
        await identities.delete_group(account, "team")
    await identities.remove_from_group(account, "team", "bob")
    await identities.delete_user(account, "bob")
    await identities.delete_group(account, "team")


async def test_keys_of_a_user(world, identities, account):
    await identities.create_user(account, "bob")
    first = await identities.create_access_key(account, "bob")
    second = await identities.create_access_key(account, "bob")
    with pytest.raises(InvalidRequest) as caught:
        await identities.create_access_key(account, "bob")
    assert caught.value.fields["reason"] == "LimitExceeded"
    listed = await identities.list_access_keys(account, "bob")
    assert [key.access_key for key in listed] == [first.key.access_key, second.key.access_key]
    find = world.directory.lookup
    await identities.update_access_key(account, "bob", first.key.access_key, active=False)
    assert find(first.key.access_key) is None
    assert find(second.key.access_key) is not None
    await identities.update_access_key(account, "bob", first.key.access_key, active=True)
    assert find(first.key.access_key).secret_key == first.secret_key
    await identities.create_user(account, "carl")
    with pytest.raises(NotFound):
        await identities.delete_access_key(account, "carl", first.key.access_key)
    with pytest.raises(NotFound):
        await identities.update_access_key(account, "", first.key.access_key, active=False)
    await identities.delete_access_key(account, "bob", first.key.access_key)
    assert find(first.key.access_key) is None


async def test_an_account_has_only_so_much(identities, account, monkeypatch):
    """All of it is in the memory of each gateway."""
    monkeypatch.setattr(principals, "PER_ACCOUNT_MAX", {"user": 2, "group": 12, "role": 2})
    monkeypatch.setattr(catalog, "MANAGED_POLICIES_MAX", 2)
    monkeypatch.setattr(catalog, "PROVIDERS_MAX", 2)
    other, _ = await identities.create_account("other")

    async def make(account, number):
        name = f"x{number}"
        yield identities.create_user(account, name)
        yield identities.create_role(account, name, TRUST)
        yield identities.create_managed_policy(account, name, ALLOW)
        yield identities.create_provider(account, f"https://{name}.example", client_ids=["c"])

    for number in range(2):
        async for made in make(account, number):
            await made
    async for made in make(account, 2):
        with pytest.raises(InvalidRequest) as caught:
            await made
        assert caught.value.fields["reason"] == "LimitExceeded"
    async for made in make(other.id, 2):
        await made
    for number in range(12):
        await identities.create_group(account, f"g{number}")
    for number in range(principals.GROUPS_PER_USER_MAX):
        await identities.add_to_group(account, f"g{number}", "x1")
    await identities.add_to_group(account, "g0", "x1")
    with pytest.raises(InvalidRequest) as caught:
        await identities.add_to_group(account, "g11", "x1")
    assert caught.value.fields["reason"] == "LimitExceeded"


async def test_blanks_in_policies_are_free_up_to_a_bound(identities, account):
    await identities.create_user(account, "x")
    await identities.put_policy(account, "user", "x", "a", ALLOW + " " * 30_000)
    for name, blanks in (("b", 20_000), ("c", 50_000)):
        with pytest.raises(InvalidRequest) as caught:
            await identities.put_policy(account, "user", "x", name, ALLOW + " " * blanks)
        assert caught.value.fields["reason"] == "LimitExceeded"


# Policies.


@pytest.mark.parametrize("kind", ["user", "group", "role"])
async def test_policies_of_each_kind(identities, account, kind):
    if kind == "user":
        await identities.create_user(account, "x")
    elif kind == "group":
        await identities.create_group(account, "x")
    else:
        await identities.create_role(account, "x", TRUST)
    await identities.put_policy(account, kind, "x", "B", ALLOW)
    await identities.put_policy(account, kind, "x", "A", ALLOW)
    assert await identities.list_policies(account, kind, "x") == ["A", "B"]
    assert await identities.get_policy(account, kind, "x", "A") == ALLOW
    await identities.delete_policy(account, kind, "x", "A")
    for call in (identities.get_policy, identities.delete_policy):
        with pytest.raises(NotFound):
            await call(account, kind, "x", "A")
    with pytest.raises(InvalidRequest) as caught:
        await identities.put_policy(account, kind, "x", "C", "{}")
    assert caught.value.fields["reason"] == "MalformedPolicyDocument"
    big = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::b/{'x' * 900}"}]
    for _ in range(11):
        big.append(big[0])
    with pytest.raises(InvalidRequest) as caught:
        await identities.put_policy(
            account, kind, "x", "D", json.dumps({"Version": "2012-10-17", "Statement": big})
        )
    assert caught.value.fields["reason"] == "LimitExceeded"
    await identities.attach_policy(account, kind, "x", S3_READ)
    await identities.attach_policy(account, kind, "x", S3_READ)
    attached = await identities.attached_policies(account, kind, "x")
    assert [policy.arn for policy in attached] == [S3_READ]
    await identities.detach_policy(account, kind, "x", S3_READ)
    with pytest.raises(NotFound):
        await identities.detach_policy(account, kind, "x", S3_READ)
    with pytest.raises(NotFound):
        await identities.attach_policy(account, kind, "x", S3_READ + "Not")


async def test_managed_policies(identities, account):
    made = await identities.create_managed_policy(account, "mine", ALLOW, path="/p/")
    assert made.arn == f"arn:aws:iam::{account}:policy/p/mine"
    with pytest.raises(AlreadyExists):
        await identities.create_managed_policy(account, "Mine", ALLOW)
    assert await identities.get_managed_policy(account, made.arn) == made
    assert await identities.list_managed_policies(account) == [made]
    assert await identities.list_managed_policies(account, path_prefix="/q/") == []
    await identities.create_user(account, "bob")
    await identities.attach_policy(account, "user", "bob", made.arn)
    with pytest.raises(NotEmpty):
        await identities.delete_managed_policy(account, made.arn)
    await identities.detach_policy(account, "user", "bob", made.arn)
    with pytest.raises(NotFound):
        await identities.delete_managed_policy(account, made.arn.replace("/p/", "/"))
    await identities.delete_managed_policy(account, made.arn)


async def test_a_policy_that_is_gone_denies(world, identities, account):
    made = await identities.create_managed_policy(account, "mine", ALLOW)
    await identities.create_user(account, "bob")
    await identities.attach_policy(account, "user", "bob", made.arn)
    new = await identities.create_access_key(account, "bob")
    row = rows.named(rows.POLICIES, account, "mine")
    await world.kv.commit([], [(row, None)])
    world.directory.apply([(row, None)])
    (policy,) = world.directory.lookup(new.key.access_key).identity.policies
    assert policy.statements[0].denies


# Roles, providers and sessions.


async def test_roles(identities, account):
    made = await identities.create_role(account, "Work", TRUST, path="/a/", description="d")
    assert made.arn == f"arn:aws:iam::{account}:role/a/Work"
    assert await identities.find_role(made.arn) == made
    with pytest.raises(NotFound):
        await identities.find_role(made.arn.replace("/a/", "/"))
    changed = await identities.update_role(account, "work", session_seconds_max=7200)
    assert (changed.session_seconds_max, changed.description) == (7200, "d")
    for call in (
        lambda: identities.update_role(account, "work", session_seconds_max=60),
        lambda: identities.create_role(account, "x", ALLOW),
        lambda: identities.update_role(account, "work", trust_policy="{}"),
    ):
        with pytest.raises(InvalidRequest):
            await call()
    await identities.set_tags(account, "role", "work", {"a": "b"})
    assert (await identities.get_role(account, "work")).tags == {"a": "b"}
    assert [role.name for role in await identities.list_roles(account)] == ["Work"]
    await identities.delete_role(account, "work")
    with pytest.raises(NotFound):
        await identities.get_role(account, "work")


async def test_providers(identities, account):
    made = await identities.create_provider(
        account, "https://id.example.com/realm", client_ids=["a"], thumbprints=["0" * 40]
    )
    assert made.arn == f"arn:aws:iam::{account}:oidc-provider/id.example.com/realm"
    with pytest.raises(AlreadyExists):
        await identities.create_provider(account, "https://id.example.com/realm")
    changed = await identities.update_provider(account, made.arn, client_ids=["a", "b"])
    assert await identities.get_provider(account, made.arn) == changed
    assert changed.thumbprints == ["0" * 40] or changed.thumbprints == ("0" * 40,)
    for url in ("ftp://x", "https://", "https://u@x", "https://x?y", "no url", "https://x y"):
        with pytest.raises(InvalidRequest):
            await identities.create_provider(account, url)
    other, _ = await identities.create_account("Other")
    with pytest.raises(NotFound):
        await identities.get_provider(other.id, made.arn)
    await identities.delete_provider(account, made.arn)
    assert await identities.list_providers(account) == []


async def test_a_session_of_a_role(world, identities, account, clock):
    role = await identities.create_role(account, "work", TRUST, tags={"a": "1", "b": "1"})
    await identities.put_policy(account, "role", "work", "all", ALLOW)
    made = await identities.assume_role(
        role, "me", seconds=900, policies=[ALLOW], tags={"b": "2"}, keys={"x:sub": ["s"]}
    )
    find = world.directory.session
    credential = find(made.access_key, made.session_token)
    identity = credential.identity
    assert credential.secret_key == made.secret_key
    assert identity == made.identity
    assert identity.arn == f"arn:aws:sts::{account}:assumed-role/work/me"
    assert (identity.role_arn, identity.user_id) == (role.arn, f"{role.id}:me")
    assert (len(identity.policies), len(identity.session_policies)) == (1, 1)
    assert identity.tags == {"a": "1", "b": "2"}
    assert list(identity.keys["x:sub"]) == ["s"]
    assert set(identity.keys) == {"x:sub", "aws:TokenIssueTime"}
    assert world.directory.lookup(made.access_key) is None
    clock.now += 899
    assert find(made.access_key, made.session_token)
    clock.now += 2
    with pytest.raises(CredentialsMalformed) as caught:
        find(made.access_key, made.session_token)
    assert caught.value.fields["reason"] == "ExpiredToken"


async def test_a_session_ends_with_its_role(world, identities, account):
    role = await identities.create_role(account, "work", TRUST)
    made = await identities.assume_role(role, "me")
    await identities.delete_role(account, "work")
    await identities.create_role(account, "work", TRUST)
    with pytest.raises(CredentialsMalformed):
        world.directory.session(made.access_key, made.session_token)


@pytest.mark.parametrize("seconds", [0, 899, 3601, 10**9])
async def test_how_long_a_session_may_be(identities, account, seconds):
    role = await identities.create_role(account, "work", TRUST)
    with pytest.raises(InvalidRequest):
        await identities.assume_role(role, "me", seconds=seconds)


async def test_more_than_a_token_holds(identities, account):
    role = await identities.create_role(account, "work", TRUST)
    policies = [
        ALLOW.replace('"*"', json.dumps([f"s3:{i * j:x}{i ^ j:x}" for i in range(400)]), 1)
        for j in range(40)
    ]
    with pytest.raises(InvalidRequest) as caught:
        await identities.assume_role(role, "me", policies=policies)
    assert caught.value.fields["reason"] == "PackedPolicyTooLarge"


async def test_session_tokens_of_users_and_roots(world, identities, account):
    await identities.create_user(account, "bob")
    user = await identities.create_access_key(account, "bob")
    (root,) = await identities.list_access_keys(account, "")
    for access_key in (user.key.access_key, root.access_key):
        identity = world.directory.lookup(access_key).identity
        made = await identities.get_session_token(identity)
        found = world.directory.session(made.access_key, made.session_token).identity
        assert (found.arn, found.session) == (identity.arn, True)
        with pytest.raises(AccessDenied):
            await identities.get_session_token(found)
    with pytest.raises(AccessDenied):
        await identities.get_session_token(ROOT.identity)


# Secrets, and other processes.


async def test_no_secret_in_rows_or_repr(world, identities, account):
    new = await identities.create_access_key(account, "", secret_key="canary-secret-of-anna")
    role = await identities.create_role(account, "work", TRUST)
    made = await identities.assume_role(role, "me")
    credential = world.directory.lookup(new.key.access_key)
    for shown in (new, made, credential, world.directory.session(*made[0:3:2])):
        assert "canary" not in repr(shown)
        assert made.secret_key not in repr(shown)
    for row, value in await world.kv.ascan_prefix(b""):
        for secret in (new.secret_key, made.secret_key):
            assert secret.encode() not in row + value


async def test_a_sealed_secret_belongs_to_its_key(world, identities, account):
    await identities.create_user(account, "bob")
    mine = await identities.create_access_key(account, "bob", secret_key="i-know-this-one")
    (root,) = await identities.list_access_keys(account, "")
    known = rows.decode_key(await world.kv.aget(rows.key(mine.key.access_key)))
    other = rows.decode_key(await world.kv.aget(rows.key(root.access_key)))
    moved = rows.KeyRow(other.account, other.user, known.secret, True, 0)
    world.directory.apply([(rows.key(root.access_key), rows.encode(moved))])
    with pytest.raises(InvalidRequest):
        world.directory.lookup(root.access_key)


async def test_another_process_knows_after_it_asked(clock):
    kv, keys_ = memory_kv(), MemoryKeys()
    here = memory_identities([ROOT], kv=kv, keys=keys_, clock=clock)
    there = memory_identities([ROOT], kv=kv, keys=keys_, clock=clock)
    made, new = await here.identities.create_account("Anna")
    assert there.directory.lookup(new.key.access_key) is None
    await there.directory.refresh(new.key.access_key, "")
    assert there.directory.lookup(new.key.access_key).secret_key == new.secret_key
    role = await here.identities.create_role(made.id, "work", TRUST)
    session = await here.identities.assume_role(role, "me")
    await there.directory.refresh(session.access_key, session.session_token)
    found = there.directory.session(session.access_key, session.session_token)
    assert found.identity.arn == session.identity.arn
    late, key = await here.identities.create_account("Late")
    whose = here.directory.lookup(key.key.access_key).identity
    session = await here.identities.get_session_token(whose, seconds=900)
    with pytest.raises(CredentialsMalformed):
        there.directory.session(session.access_key, session.session_token)
    await there.directory.refresh(session.access_key, session.session_token)
    found = there.directory.session(session.access_key, session.session_token)
    assert found.identity.account == late.id
    await here.identities.delete_access_key(made.id, "", new.key.access_key)
    await there.directory.refresh(new.key.access_key, "")
    assert there.directory.lookup(new.key.access_key) is None


async def test_another_process_hears_of_changes(clock, until):
    kv, keys_ = memory_kv(), MemoryKeys()
    here = memory_identities([ROOT], kv=kv, keys=keys_, clock=clock)
    there = memory_identities([ROOT], kv=kv, keys=keys_, clock=clock)
    await there.directory.start()
    try:
        _, new = await here.identities.create_account("Anna")
        await until(lambda: there.directory.lookup(new.key.access_key))
        await here.identities.update_access_key(
            new.key.account, "", new.key.access_key, active=False
        )
        await until(lambda: there.directory.lookup(new.key.access_key) is None)
    finally:
        await there.directory.stop()


@pytest.fixture
def until():
    import asyncio

    async def wait(condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


# The account of the cluster's root, which is there from the beginning.


async def test_the_roots_account_may_have_users(world, identities):
    user = await identities.create_user("000000000000", "ann")
    assert user.arn == "arn:aws:iam::000000000000:user/ann"
    new = await identities.create_access_key("000000000000", "ann")
    found = world.directory.lookup(new.key.access_key).identity
    assert (found.account, found.canonical_id) == ("000000000000", "root")
    assert not found.is_root
    assert not found.is_account_root
    assert await identities.list_accounts() == []


async def test_the_roots_account_stays_and_its_keys_are_not_kept_here(identities):
    await identities.create_group("000000000000", "staff")
    await identities.delete_group("000000000000", "staff")
    with pytest.raises(InvalidRequest):
        await identities.delete_account("000000000000")
    for call in (identities.create_access_key, identities.list_access_keys):
        with pytest.raises(InvalidRequest):
            await call("000000000000", "")


async def test_the_roots_account_is_begun_by_one_of_several(clock):
    kv, keys_ = memory_kv(), MemoryKeys()
    one, two = (memory_identities([ROOT], kv=kv, keys=keys_, clock=clock) for _ in range(2))
    await one.identities.create_user("000000000000", "ann")
    await two.identities.create_user("000000000000", "bob")
    users = await one.identities.list_users("000000000000")
    assert [user.name for user in users] == ["ann", "bob"]
