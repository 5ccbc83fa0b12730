"""What operators may is given by policies of the cluster's own account, and by nothing else.

MinIO CVE-2024-55949, CVE-2021-43858 (users who made themselves administrators), RustFS vcwh, 566f
(operators' calls behind the wrong right, or none).
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest

from objectio.abc.api import ANONYMOUS
from objectio.iam import managed
from objectio.iam.credentials import ROOT_ACCOUNT
from objectio.iam.policy import Asked, Policy

ACCOUNTS = "/v1/accounts"
USERS = f"{ACCOUNTS}/{ROOT_ACCOUNT}/users"
BUILT_IN = "arn:aws:iam::aws:policy/"


def may(*actions, resource="*", effect="Allow", **more):
    statement = {"Effect": effect, "Action": list(actions), "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


EVERYTHING = may("*")


def admin(path):
    return f"arn:objectio:admin:::{path}"


async def test_tenants_order_nothing_whatever_their_policies_say(world):
    """Roots of accounts and users of theirs, in each spelling of everything; and nobody."""
    tenants = [None, world.anna, world.bert, world.user]
    for number, document in enumerate(
        (
            EVERYTHING,
            may("admin:*"),
            may("ADMIN:*", resource=admin("*")),
            may("*", resource="arn:*"),
        )
    ):
        tenants.append(await world.make_user(world.annas_account, f"t{number}", document))
    for by in tenants:
        for path in (ACCOUNTS, USERS, f"{ACCOUNTS}/{world.annas_account}/users"):
            assert (await world.admin("GET", path, by)).status == 403
        made = {"name": "mallory"}
        assert (await world.admin("POST", USERS, by, made)).status == 403
        assert (await world.admin("GET", "/v1/disks", by)).status == 403
    assert await world.identities.list_users(ROOT_ACCOUNT) == []


async def test_no_policy_of_a_bucket_or_role_opens_it(world):
    """A role of a tenant's that trusts everybody makes nobody an operator, nor does a bucket."""
    trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},'
    trust += '"Action":"sts:AssumeRole"}]}'
    role = await world.identities.create_role(world.annas_account, "work", trust)
    await world.identities.put_policy(world.annas_account, "role", "work", "p", EVERYTHING)
    made = await world.identities.assume_role(role, "me")
    by = type(world.anna)(made.access_key, made.secret_key, made.identity)
    token = {"x-amz-security-token": made.session_token}
    assert (await world("GET", "/annas/key", by, headers=token)).status == 200
    assert (await world.admin("GET", ACCOUNTS, by, headers=token)).status == 403
    await world.allow("s3:*")
    assert (await world.admin("GET", ACCOUNTS, world.bert)).status == 403


async def test_operators_may_what_their_policies_say_and_no_more(world):
    reader = await world.make_user(
        ROOT_ACCOUNT, "reader", may("admin:List*", "admin:Get*"), may("s3:*")
    )
    one = await world.make_user(
        ROOT_ACCOUNT, "one", may("admin:*", resource=admin(f"account/{world.annas_account}/user/*"))
    )
    nobody = await world.make_user(ROOT_ACCOUNT, "nobody")
    other = await world.make_user(ROOT_ACCOUNT, "other", may("*", resource="arn:aws:*"))
    annas = f"{ACCOUNTS}/{world.annas_account}/users"
    new = {"name": "new"}
    for by, seen, made, roots in (
        (reader, 200, 403, 200),
        (one, 200, 200, 403),
        (nobody, 403, 403, 403),
        (other, 403, 403, 403),
    ):
        assert (await world.admin("GET", annas, by)).status == seen
        assert (await world.admin("POST", annas, by, new)).status == made
        assert (await world.admin("GET", USERS, by)).status == roots
    assert [user.name for user in await world.identities.list_users(world.annas_account)] == [
        "new",
        "user",
    ]


async def test_a_denial_holds_for_each_spelling_of_a_name(world):
    """Names of users, groups and policies have no case, and may be escaped."""
    by = await world.make_user(
        ROOT_ACCOUNT,
        "op",
        EVERYTHING,
        may("admin:*", resource=admin(f"account/{ROOT_ACCOUNT}/user/Boss"), effect="Deny"),
    )
    await world.identities.create_user(ROOT_ACCOUNT, "Boss")
    await world.identities.create_user(ROOT_ACCOUNT, "bosses")
    for name in ("Boss", "boss", "BOSS", "%42oss", "%62os%53"):
        path = f"{USERS}/{name}"
        assert (await world.admin("GET", path, by)).status == 403, name
        assert (await world.admin("POST", f"{path}/keys", by, {})).status == 403, name
        assert (await world.admin("POST", f"{path}/policies/admin/attach", by)).status == 403
    assert (await world.admin("GET", f"{USERS}/bosses", by)).status == 200


async def test_the_four_policies_from_the_beginning(world):
    """readonly and readwrite are about buckets, diagnostics about storage, admin about all there is."""
    await world.objects.create_bucket("roots", owner="root")
    path = "/v1/disks"  # nothing here manages disks: who is let in is told so
    for name, reads, writes, looks, rules in (
        ("readonly", 200, 403, 403, 403),
        ("readwrite", 200, 200, 403, 403),
        ("diagnostics", 403, 403, 501, 403),
        ("admin", 200, 200, 501, 200),
    ):
        by = await world.make_user(ROOT_ACCOUNT, name)
        await world.identities.attach_policy(ROOT_ACCOUNT, "user", name, BUILT_IN + name)
        assert (await world("GET", "/roots", by)).status == reads, name
        assert (await world("PUT", f"/roots/{name}", by, body=b"x")).status == writes, name
        assert (await world.admin("GET", path, by)).status == looks, name
        assert (await world.admin("GET", ACCOUNTS, by)).status == rules, name
        made = await world.admin("POST", USERS, by, {"name": f"by-{name}"})
        assert made.status == rules, name
        # What belongs to others stays theirs.
        assert (await world("GET", "/annas/key", by)).status == 403, name


async def test_nobody_has_the_cluster_s_own_id(world):
    """Who owns what operators manage is known by a canonical id: no account can be given that."""
    for name in ("root", "Root"):
        body = {"display_name": "x", "canonical_id": name}
        answer = await world.admin("POST", ACCOUNTS, world.root, body)
        if answer.status == 200:
            keys = answer.said["access_key"], answer.said["secret_key"]
            by = type(world.anna)(*keys, None)
            assert name != "root"
            assert (await world.admin("GET", ACCOUNTS, by)).status == 403
        else:
            assert (name, answer.status) == ("root", 400)
    body = {"display_name": "x", "id": ROOT_ACCOUNT}
    assert (await world.admin("POST", ACCOUNTS, world.root, body)).status == 400


@pytest.mark.parametrize(
    "condition",
    [
        {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        {"Bool": {"aws:SecureTransport": "true"}},
        {"StringEquals": {"aws:username": "somebody"}},
        {"StringEquals": {"aws:ResourceAccount": "111111111111"}},
    ],
)
async def test_conditions_count_here_too(world, condition):
    by = await world.make_user(ROOT_ACCOUNT, "op", may("admin:*", Condition=condition))
    assert (await world.admin("GET", ACCOUNTS, by)).status == 403
    fine = {"StringEquals": {"aws:ResourceAccount": ROOT_ACCOUNT, "aws:username": "op"}}
    await world.identities.put_policy(
        ROOT_ACCOUNT, "user", "op", "p0", may("admin:*", Condition=fine)
    )
    assert (await world.admin("GET", ACCOUNTS, by)).status == 200


async def test_nobody_renames_a_user_to_who_it_may_not_touch(world):
    """Rights that are still written somewhere for a name would be the renamed one's."""
    devs = may("admin:*", resource=admin(f"account/{ROOT_ACCOUNT}/user/dev-*"))
    by = await world.make_user(ROOT_ACCOUNT, "op", devs)
    for name in ("dev-1", "boss"):
        await world.identities.create_user(ROOT_ACCOUNT, name)
    for name, new, status in (
        ("dev-1", "chief", 403),
        ("dev-1", "DEV-2", 200),
        ("boss", "dev-3", 403),
        ("dev-2", "dev-2", 200),
    ):
        answer = await world.admin("POST", f"{USERS}/{name}/update", by, {"name": new})
        assert answer.status == status, (name, new, answer.body)
    users = [user.name for user in await world.identities.list_users(ROOT_ACCOUNT)]
    assert users == ["boss", "dev-2", "op"]


async def test_nobody_renames_a_group_to_one_that_it_may_not_touch(world):
    devs = may("admin:*", resource=admin(f"account/{ROOT_ACCOUNT}/group/dev-*"))
    by = await world.make_user(ROOT_ACCOUNT, "op", devs)
    for name in ("dev-1", "bosses"):
        await world.identities.create_group(ROOT_ACCOUNT, name)
    groups = f"{ACCOUNTS}/{ROOT_ACCOUNT}/groups"
    for name, new, status in (
        ("dev-1", "chiefs", 403),
        ("bosses", "dev-3", 403),
        ("dev-1", "DEV-2", 200),
    ):
        answer = await world.admin("POST", f"{groups}/{name}/update", by, {"name": new})
        assert answer.status == status, (name, new, answer.body)
    found = [group.name for group in await world.identities.list_groups(ROOT_ACCOUNT)]
    assert found == ["bosses", "DEV-2"]


def test_diagnostics_looks_and_changes_nothing():
    routes = pytest.importorskip("objectio_api_admin.routes").ROUTES
    document = managed.POLICIES[f"{BUILT_IN}diagnostics"].document
    policy = Policy.parse(document, kind="identity")
    looks = []
    for route in routes:
        asked = Asked(ANONYMOUS, f"admin:{route.action}".lower(), admin(route.resource), None)
        if policy.ask(asked).allowed:
            looks.append(route)
    # A token gives no more than the key that it is got with.
    assert {route.action for route in looks if route.method != "GET"} == {"CreateToken"}
    about = {route.resource.partition("/")[0] for route in looks}
    assert about.isdisjoint({"account", "bucket", "config"})
    known = {route.action.lower() for route in routes}
    for action in json.loads(document)["Statement"][0]["Action"]:
        name = action.removeprefix("admin:").lower()
        assert any(fnmatchcase(each, name) for each in known), f"{action} is no action"


def unless(arns, *actions, operator="ArnNotEquals"):
    return may(*actions, effect="Deny", Condition={operator: {"iam:PolicyARN": arns}})


@pytest.mark.parametrize("spelling", ["name", "arn"])
@pytest.mark.parametrize("kind", ["user", "group", "role"])
async def test_which_policies_somebody_gives_can_be_said(world, kind, spelling):
    """IAM user guide, "Delegate responsibility to others by using permissions boundaries", iam:PolicyARN:
    a denial that asked for what a request does not say would deny nothing."""
    trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},'
    trust += '"Action":"sts:AssumeRole"}]}'
    account, identities = ROOT_ACCOUNT, world.identities
    if kind == "role":
        await identities.create_role(account, "it", trust)
    else:
        await getattr(identities, f"create_{kind}")(account, "it")
    title = kind.title()
    actions = (f"admin:Attach{title}Policy", f"iam:Attach{title}Policy")
    by_denial = await world.make_user(
        account, "denied", EVERYTHING, unless([f"{BUILT_IN}admin"], "*", operator="ArnEquals")
    )
    only = {"ArnEquals": {"iam:PolicyARN": f"{BUILT_IN}readonly"}}
    by_grant = await world.make_user(account, "granted", may(*actions, Condition=only))
    for by in (by_denial, by_grant):
        for policy, fine in (("admin", False), ("readonly", True), ("ADMIN", False)):
            arn = BUILT_IN + policy
            said = arn.replace(":", "%3A").replace("/", "%2F") if spelling == "arn" else policy
            path = f"{ACCOUNTS}/{account}/{kind}s/it/policies/{said}/attach"
            answer = await world.admin("POST", path, by)
            # A grant is for who says the whole ARN: what a name stands for is not known so soon.
            let = fine and (by is by_denial or spelling == "arn")
            missing = policy == "ADMIN" and by is by_denial  # ARNs have case
            not_let = 404 if missing and spelling == "arn" else 403
            assert answer.status == (200 if let else not_let), (policy, answer.body)
            parameters = {f"{title}Name": "it", "PolicyArn": arn}
            answer = await world.iam(f"Attach{title}Policy", by, **parameters)
            not_let = 404 if missing else 403
            assert answer.status == (200 if fine else not_let), (policy, answer.body)
    assert [each.name for each in await identities.attached_policies(account, kind, "it")] == [
        "readonly"
    ]


async def test_tags_that_policies_ask_for_are_not_set_past_them(world):
    """IAM user guide, "Controlling access to and for IAM users and roles using tags"."""
    account = world.annas_account
    tagging = {"ForAnyValue:StringEquals": {"aws:TagKeys": ["rank"]}}
    value = {"StringEquals": {"aws:RequestTag/team": "red"}}
    marked = {"StringEquals": {"aws:ResourceTag/protected": "yes"}}
    by = await world.make_user(
        account,
        "helper",
        may("iam:*"),
        *(may("*", effect="Deny", Condition=each) for each in (tagging, value, marked)),
    )
    await world.identities.create_user(account, "boss", tags={"protected": "yes"})
    for name, key, tag, fine in (
        ("user", "rank", "general", False),
        ("user", "team", "red", False),
        ("user", "team", "blue", True),
        ("boss", "team", "blue", False),
    ):
        said = {"Tags.member.1.Key": key, "Tags.member.1.Value": tag}
        answer = await world.iam("TagUser", by, UserName=name, **said)
        assert answer.status == (200 if fine else 403), (name, key, answer.body)
    gone = {"TagKeys.member.1": "rank"}
    assert (await world.iam("UntagUser", by, UserName="user", **gone)).status == 403
    assert (await world.iam("CreateAccessKey", by, UserName="boss")).status == 403
    new = {"UserName": "new", "Tags.member.1.Key": "rank", "Tags.member.1.Value": "x"}
    assert (await world.iam("CreateUser", by, **new)).status == 403
    # What is no user has no tags of one, whatever it is called.
    only = may("iam:*", Condition={"StringEquals": {"aws:ResourceTag/mine": "yes"}})
    tagged = await world.make_user(account, "tagged", only)
    await world.identities.set_tags(account, "user", "tagged", {"mine": "yes"})
    policy = {"name": "tagged", "document": EVERYTHING, "path": "/a:user/"}
    made = await world.identities.create_managed_policy(account, **policy)
    assert made.arn.endswith(":policy/a:user/tagged")
    assert (await world.iam("GetUser", tagged, UserName="tagged")).status == 200
    assert (await world.iam("GetPolicy", tagged, PolicyArn=made.arn)).status == 403
    user = await world.identities.get_user(account, "user")
    assert dict(user.tags) == {"team": "blue"}
