"""Keys that are narrowed down or made for a time: never more than their user, on no way.

MinIO CVE-2025-62506 (the policy of a service account ignored where it acts on its own account),
CVE-2024-24747 (keys that take on rights of their parent), CVE-2022-24842; RustFS 5354, xgr5, mm2q.
"""

from __future__ import annotations

import json

import pytest

from objectio.abc.api import ANONYMOUS
from objectio.iam.credentials import ROOT_ACCOUNT, Credential
from objectio.model.bucket import ACL, OWNERSHIP, Acl, Grant, Ownership, encode_document
from objectio.testing.identities import memory_identities

TOKEN = "x-amz-security-token"


def may(*actions, resource="*", effect="Allow", **more):
    statement = {"Effect": effect, "Action": list(actions), "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trust(principal):
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


EVERYTHING = may("*")
READS = may("s3:GetObject", "sts:*")


@pytest.fixture
def service(world):
    """Another key of the user of anna's, or of who is named."""

    async def make(policy=READS, *, account=None, user="user", **more):
        new = await world.identities.create_access_key(
            account or world.annas_account, user, policy=policy, **more
        )
        return world.credential(new)

    return make


async def grant(world, document=EVERYTHING):
    await world.identities.put_policy(world.annas_account, "user", "user", "p", document)


async def check_reads_only(world, by, **more):
    assert (await world("GET", "/annas/key", by, **more)).status == 200
    for method, target in (
        ("PUT", "/annas/key"),
        ("PUT", "/annas/new"),
        ("DELETE", "/annas/key"),
        ("GET", "/annas"),
        ("GET", "/annas?policy"),
        ("PUT", "/annas?policy"),
        ("DELETE", "/annas?policy"),
        ("GET", "/annas?acl"),
        ("GET", "/annas/key?acl"),
        ("PUT", "/mine"),
        ("GET", "/"),
    ):
        answer = await world(method, target, by, **more)
        assert (answer.status, answer.code) == (403, "AccessDenied"), (method, target, answer.body)


# Never more than the key's policy.


async def test_it_never_exceeds_its_own_policy(world, service):
    by = await service()
    assert (await world("GET", "/annas/key", by)).status == 403  # as long as the user may not
    await grant(world)
    await check_reads_only(world, by)


@pytest.mark.parametrize("user", [True, False], ids=["user", "id"])
async def test_a_bucket_policy_that_names_its_user_gives_no_more(world, service, user):
    """AWS lets what names a principal itself pass by session policies. Not here."""
    by = await service()
    named = f"arn:aws:iam::{world.annas_account}:user/user" if user else world.identity(by).user_id
    await world.allow("s3:*", resource=["annas", "annas/*"], principal={"AWS": named})
    assert (await world("PUT", "/annas/x", world.user, body=b"x")).status == 200
    await check_reads_only(world, by)


async def test_no_policy_for_everyone_and_no_acl_gives_more(world, service):
    by = await service()
    await world.allow("s3:*", resource=["annas", "annas/*"])
    assert (await world("GET", "/annas", world.user)).status == 200
    await check_reads_only(world, by)
    await world.objects.put_document(
        "annas", OWNERSHIP, encode_document(Ownership(rule="ObjectWriter"))
    )
    grants = tuple(
        Grant(grantee=grantee, permission="FULL_CONTROL", group=group)
        for grantee, group in (
            ("http://acs.amazonaws.com/groups/global/AllUsers", True),
            ("http://acs.amazonaws.com/groups/global/AuthenticatedUsers", True),
            ("id-of-anna", False),
        )
    )
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=grants)))
    await check_reads_only(world, by)


async def test_the_root_of_an_account_is_narrowed_too(world, service):
    """Also in what its root may always do: the bucket's policy, and repairs of what cannot be read."""
    by = await service(user="")
    await check_reads_only(world, by)
    await world.policy(world.make_statement("s3:PutObject", effect="Deny"))
    await check_reads_only(world, by)
    await world.objects.put_document("annas", "policy", b"{")
    for target in ("/annas?policy", "/annas?publicAccessBlock"):
        assert (await world("DELETE", target, by)).status == 403
        assert (await world("GET", target, by)).status == 403
    assert (await world("DELETE", "/annas?policy", world.anna)).status == 204


async def test_a_denial_of_its_own_policy_holds(world, service):
    both = json.loads(EVERYTHING)
    both["Statement"].append(json.loads(may("s3:PutObject", effect="Deny"))["Statement"][0])
    by = await service(json.dumps(both))
    await grant(world)
    await world.allow("s3:*")
    assert (await world("DELETE", "/annas/key", by)).status == 204
    assert (await world("PUT", "/annas/key", by, body=b"x")).status == 403


async def test_conditions_of_its_own_policy_are_answered(world, service):
    """Tags of an object are read where nothing but the key's policy asks for them."""
    await grant(world)
    secret = {"StringNotEquals": {"s3:ExistingObjectTag/secret": "yes"}}
    by = await service(may("s3:GetObject", Condition=secret))
    await world.put("annas", b"secret", tags={"secret": "yes"})
    assert (await world("GET", "/annas/secret", world.user)).status == 200
    assert (await world("GET", "/annas/key", by)).status == 200
    assert (await world("GET", "/annas/secret", by)).status == 403
    here = await service(may("s3:GetObject", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.1"}}))
    assert (await world("GET", "/annas/key", here, client="10.0.0.1")).status == 200
    assert (await world("GET", "/annas/key", here)).status == 403


async def test_presigned_urls_are_narrowed(world, service):
    await grant(world)
    by = await service()
    assert (await world("GET", "/annas/key", by, form="query")).status == 200
    assert (await world("PUT", "/annas/x", by, form="query", body=b"x")).status == 403


# Never more than its user.


async def test_it_never_exceeds_its_user_whatever_becomes_of_that(world, service):
    by = await service(EVERYTHING)
    assert (await world("GET", "/annas/key", by)).status == 403
    await grant(world, may("s3:GetObject"))
    assert (await world("GET", "/annas/key", by)).status == 200
    assert (await world("PUT", "/annas/x", by, body=b"x")).status == 403
    await grant(world, may("s3:GetObject", effect="Deny"))
    assert (await world("GET", "/annas/key", by)).status == 403
    await grant(world, may("s3:PutObject"))
    assert (await world("GET", "/annas/key", by)).status == 403
    assert (await world.admin("GET", "/v1/accounts", by)).status == 403


async def test_it_goes_with_its_user(world, service):
    await world.identities.create_user(world.annas_account, "gone")
    by = await service(user="gone")
    account = world.annas_account
    # A user who has keys is not deleted: nobody forgets one.
    assert (await world.iam("DeleteUser", world.anna, UserName="gone")).code == "DeleteConflict"
    await world.identities.delete_access_key(account, "gone", by.access_key)
    await world.identities.delete_user(account, "gone")
    await world.identities.create_user(account, "gone")
    await world.identities.put_policy(account, "user", "gone", "p", EVERYTHING)
    assert (await world("GET", "/annas/key", by)).code == "InvalidAccessKeyId"


async def test_switched_off_or_expired_it_is_a_key_that_is_not_there(world, service):
    await grant(world)
    by = await service(expires_ms=int(world.clock * 1000) + 60_000)
    plain = world.credential(
        await world.identities.create_access_key(
            world.annas_account, "user", expires_ms=int(world.clock * 1000) + 60_000
        )
    )
    for each in (by, plain):
        assert (await world("GET", "/annas/key", each)).status == 200
    world.clock += 59
    for each in (by, plain):
        assert (await world("GET", "/annas/key", each)).status == 200
    world.clock += 1
    unknown = await world("GET", "/annas/key", Credential("AKIANOBODY", "x" * 40, ANONYMOUS))
    for each in (by, plain):
        for form in ("header", "query"):
            answer = await world("GET", "/annas/key", each, form=form)
            assert (answer.status, answer.code) == (unknown.status, unknown.code)
        # Also where nothing was remembered.
        world.memory.directory.apply([])
        assert (await world("GET", "/annas/key", each)).code == "InvalidAccessKeyId"
    account = world.annas_account
    await world.identities.update_access_key(account, "user", by.access_key, active=True)
    assert (await world("GET", "/annas/key", by)).code == "InvalidAccessKeyId"
    lasting = await service()
    await world.identities.update_access_key(account, "user", lasting.access_key, active=False)
    assert (await world("GET", "/annas/key", lasting)).code == "InvalidAccessKeyId"


# Never more by what it begins.


async def session(world, by, **parameters):
    answer = await world.iam("GetSessionToken", by, "sts", **parameters)
    return keys_of(answer)


def keys_of(answer):
    assert answer.status == 200, answer.body

    def field(name):
        return answer.body.partition(f"<{name}>".encode())[2].partition(b"<")[0].decode()

    by = Credential(field("AccessKeyId"), field("SecretAccessKey"), ANONYMOUS)
    return by, {TOKEN: field("SessionToken").replace("&#43;", "+")}


async def assume(world, by, role, headers=None, **parameters):
    more = {} if headers is None else {"token": headers[TOKEN]}
    answer = await world.iam(
        "AssumeRole", by, "sts", RoleArn=role.arn, RoleSessionName="me", **more, **parameters
    )
    return keys_of(answer)


async def test_a_session_of_it_keeps_the_policy(world, service):
    await grant(world)
    for user in ("user", ""):
        by, headers = await session(world, await service(user=user))
        await check_reads_only(world, by, headers=headers)
        named = f"arn:aws:iam::{world.annas_account}:user/user"
        await world.allow("s3:*", resource=["annas", "annas/*"], principal={"AWS": named})
        await check_reads_only(world, by, headers=headers)


async def test_a_role_that_it_takes_on_keeps_the_policy(world, service):
    """Also where the role's trust names the user, the bucket the session, and through a second role."""
    account = world.annas_account
    await grant(world, may("sts:AssumeRole"))
    user = f"arn:aws:iam::{account}:user/user"
    first = await world.identities.create_role(account, "first", trust([user, account]))
    second = await world.identities.create_role(account, "second", trust([account]))
    for name in ("first", "second"):
        await world.identities.put_policy(account, "role", name, "p", EVERYTHING)
    full, headers = await assume(world, world.user, first)
    assert (await world("PUT", "/annas/x", full, headers=headers, body=b"x")).status == 200
    by, headers = await assume(world, await service(), first)
    await check_reads_only(world, by, headers=headers)
    chained, more = await assume(world, by, second, headers)
    await check_reads_only(world, chained, headers=more)
    name = f"arn:aws:sts::{account}:assumed-role/second/me"
    await world.allow("s3:*", resource=["annas", "annas/*"], principal={"AWS": name})
    await check_reads_only(world, chained, headers=more)


async def test_it_takes_on_no_role_that_its_policy_does_not_name(world, service):
    account = world.annas_account
    await grant(world)
    for principal in (account, f"arn:aws:iam::{account}:user/user", "*"):
        role = await world.identities.create_role(account, "work", trust([principal]))
        by = await service(may("s3:*"))
        for narrow in (by, await service(may("sts:*", resource=role.arn + "2"))):
            answer = await world.iam(
                "AssumeRole", narrow, "sts", RoleArn=role.arn, RoleSessionName="me"
            )
            assert answer.status == 403, principal
        await world.identities.delete_role(account, "work")


async def test_what_it_begins_ends_no_later(world, service):
    account = world.annas_account
    await grant(world)
    role = await world.identities.create_role(account, "work", trust([account]))
    await world.identities.put_policy(account, "role", "work", "p", EVERYTHING)
    ends_ms = int(world.clock * 1000) + 60_000
    by = await service(expires_ms=ends_ms)
    plain = world.credential(
        await world.identities.create_access_key(account, "user", expires_ms=ends_ms)
    )
    begun = []
    for each in (by, plain):
        begun += [await session(world, each), await assume(world, each, role)]
        begun.append(await assume(world, *[begun[-1][0], role, begun[-1][1]]))
    for each, headers in begun:
        assert (await world("GET", "/annas/key", each, headers=headers)).status == 200
    world.clock += 60
    for each, headers in begun:
        assert (await world("GET", "/annas/key", each, headers=headers)).code == "ExpiredToken"


@pytest.mark.parametrize("user", ["user", ""], ids=["user", "root"])
async def test_what_ends_makes_nothing_that_lasts(world, user):
    """AWS: "You cannot call any IAM API operations" with what GetSessionToken gives. A session of a role
    is whoever the role is, and may."""
    account = world.annas_account
    await grant(world)
    role = await world.identities.create_role(account, "work", trust([account]))
    await world.identities.put_policy(account, "role", "work", "p", EVERYTHING)
    lasts = world.user if user else world.anna
    begun, headers = await session(world, lasts)
    assumed, more = await assume(world, begun, role, headers)
    ends_ms = int(world.clock * 1000) + 60_000
    ends = world.credential(
        await world.identities.create_access_key(account, user, expires_ms=ends_ms)
    )
    for number, (by, token, status) in enumerate(
        (
            (lasts, {}, 200),
            (assumed, {"token": more[TOKEN]}, 200),
            (begun, {"token": headers[TOKEN]}, 403),
            (ends, {}, 403),
        )
    ):
        answer = await world.iam("CreateUser", by, UserName=f"user-{number}", **token)
        assert answer.status == status, (number, answer.body)
        assert (await world.iam("ListUsers", by, **token)).status == 200
    assert (await world("GET", "/annas/key", ends)).status == 200


@pytest.mark.parametrize("way", ["off", "deleted", "made anew"])
async def test_what_it_began_ends_with_it(world, service, way):
    """A key of the same name that is made later, with more in its policy, is another."""
    account, identities = world.annas_account, world.identities
    await grant(world)
    role = await identities.create_role(account, "work", trust([account]))
    await identities.put_policy(account, "role", "work", "p", EVERYTHING)
    by = await service(access_key="AKIASERVICE")
    begun = [await session(world, by), await assume(world, by, role)]
    if way == "off":
        await identities.update_access_key(account, "user", "AKIASERVICE", active=False)
    else:
        await identities.delete_access_key(account, "user", "AKIASERVICE")
    if way == "made anew":
        await service(EVERYTHING, access_key="AKIASERVICE", secret_key=by.secret_key)
    for each, headers in begun:
        for method in ("GET", "PUT"):
            answer = await world(method, "/annas/key", each, headers=headers)
            assert answer.code == "InvalidToken"
    full, headers = await session(world, world.user)  # that of another key stays
    assert (await world("GET", "/annas/key", full, headers=headers)).status == 200


async def test_it_makes_itself_no_key_that_is_wider(world, service):
    """Not by any change of identities, though its policy allows everything but one thing."""
    account = world.annas_account
    await grant(world)
    policy = json.loads(EVERYTHING)
    policy["Statement"].append(json.loads(may("s3:DeleteObject", effect="Deny"))["Statement"][0])
    by = await service(json.dumps(policy))
    before = await world.memory.kv.ascan_prefix(b"I")
    document = {"PolicyName": "p", "PolicyDocument": EVERYTHING}
    for action, parameters in (
        ("CreateAccessKey", {}),
        ("CreateAccessKey", {"UserName": "user"}),
        ("DeleteAccessKey", {"AccessKeyId": world.user.access_key}),
        ("UpdateAccessKey", {"AccessKeyId": by.access_key, "Status": "Inactive"}),
        ("CreateUser", {"UserName": "mallory"}),
        ("PutUserPolicy", {"UserName": "user", **document}),
        ("CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": trust("*")}),
        ("CreatePolicy", document),
        ("AttachUserPolicy", {"UserName": "user", "PolicyArn": "arn:aws:iam::aws:policy/admin"}),
        ("CreateOpenIDConnectProvider", {"Url": "https://mallory.example.com"}),
    ):
        assert (await world.iam(action, world.bert, **parameters)).status in (200, 404), action
        assert (await world.iam(action, by, **parameters)).status == 403, action
    assert (await world.iam("ListUsers", by)).status == 200
    assert (await world.iam("GetUser", by)).status == 200
    begun, headers = await session(world, by)
    answer = await world.iam("CreateAccessKey", begun, UserName="user", token=headers[TOKEN])
    assert answer.status == 403
    after = await world.memory.kv.ascan_prefix(b"I")
    mine = [row for row in after if account.encode() in row[0] + row[1]]
    assert mine == [row for row in before if account.encode() in row[0] + row[1]]


async def test_an_operator_s_service_account_makes_no_wider_one(world, service):
    operator = await world.make_user(ROOT_ACCOUNT, "op", EVERYTHING)
    users = f"/v1/accounts/{ROOT_ACCOUNT}/users"
    by = await service(may("admin:*"), account=ROOT_ACCOUNT, user="op")
    looks = await service(may("admin:Get*"), account=ROOT_ACCOUNT, user="op")
    for path, body in (
        (f"{users}/op/keys", {}),
        (users, {"name": "mallory"}),
        (f"{users}/op/policies/admin/attach", None),
        (f"{users}/op/keys/{by.access_key}/disable", None),
        ("/v1/accounts", {"display_name": "mallory"}),
    ):
        assert (await world.admin("POST", path, by, body)).status == 403, path
    for each, status in ((by, 200), (looks, 403), (operator, 200)):
        assert (await world.admin("GET", users, each)).status == status
    for each, status in ((by, 501), (looks, 403), (operator, 501)):
        assert (await world.admin("POST", "/v1/disks/1/drain", each)).status == status
    assert (await world.admin("GET", "/v1/disks/1", looks)).status == 501


# Another process.


@pytest.mark.parametrize("knows", ["nothing", "the user"])
async def test_its_limits_hold_at_every_process(world, service, knows):
    await grant(world)
    there = memory_identities(
        [world.root],
        kv=world.memory.kv,
        keys=world.memory.identities._vault._kms,
        clock=lambda: world.clock,
    )
    if knows == "the user":
        await there.directory.load()
    by = await service(expires_ms=int(world.clock * 1000) + 60_000)
    made, headers = await session(world, by)
    token = headers[TOKEN]
    await there.directory.refresh(made.access_key, token)
    found = there.directory.session(made.access_key, token).identity
    assert found.limits == world.memory.directory.session(made.access_key, token).identity.limits
    assert found.limits.policy is not None
    assert found.limits.access_key == by.access_key
    world.clock += 60
    await there.directory.refresh(by.access_key, "")
    assert there.directory.lookup(by.access_key) is None


@pytest.mark.parametrize("whose", ["user", "root"])
async def test_what_the_simulator_says_of_it_is_so(world, service, whose):
    await grant(world)
    more = {} if whose == "user" else {"user": ""}
    by = await service(may("s3:GetObject", resource="arn:aws:s3:::annas/k*"), **more)
    path = f"/v1/accounts/{world.annas_account}/simulate"
    asked = {"key": by.access_key, "actions": ["s3:GetObject", "s3:PutObject"]}
    asked["resources"] = ["arn:aws:s3:::annas/key", "arn:aws:s3:::annas/other"]
    found = (await world.admin("POST", path, world.root, asked)).said["results"]
    assert [each["allowed"] for each in found] == [True, False, False, False]
    for each in found:
        method = "GET" if each["action"] == "s3:GetObject" else "PUT"
        answer = await world(method, each["resource"].replace("arn:aws:s3:::", "/"), by)
        assert (answer.status == 200) == each["allowed"], each
    asked = {**asked, "actions": ["s3:GetObject"], "key": world.anna.access_key}
    found = (await world.admin("POST", path, world.root, asked)).said["results"]
    assert [each["allowed"] for each in found] == [True, True]
