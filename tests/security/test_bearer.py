"""Bearer tokens: nobody makes, changes, stretches or moves one; it gives what its key gives now.

RGW CVE-2024-48916 (tokens without a signature), RustFS m77q, 5qfg, ccrv; tokens that outlived their user.
"""

from __future__ import annotations

import base64
import json
import logging
import os

import msgspec
import pytest

from objectio.errors import AccessDenied, CredentialsMalformed, InvalidRequest
from objectio.gateway.gate import Gate
from objectio.gateway.guard import Guard
from objectio.iam import bearer, tokens
from objectio.iam.credentials import ROOT_ACCOUNT, Credential, root_credential
from objectio.iam.vault import Seal
from objectio.testing.identities import memory_identities

HOST = (b"host", b"localhost:9000")
ACCOUNTS = b"/_admin/v1/accounts"
TOKENS = b"/_admin/v1/tokens"
SESSION = "x-amz-security-token"


def may(*actions, resource="*"):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
async def operator(world):
    if "admin" not in world.front_ends:
        pytest.skip("api_admin is not installed")
    return await world.make_user(ROOT_ACCOUNT, "op", may("admin:*"))


@pytest.fixture
def issue(world):
    async def issue_(by, audience="admin", **more):
        made = await world.identities.issue_bearer(world.identity(by), audience, **more)
        return made.token

    return issue_


@pytest.fixture
def show(world):
    async def show_(token, path=ACCOUNTS, *, method="GET", query=b"", headers=(), scheme="Bearer"):
        given = [HOST, (b"authorization", f"{scheme} {token}".encode("latin-1")), *headers]
        answer = await world.send(method, path, query, given)
        answer.said = json.loads(answer.body) if path.startswith(b"/_admin") else None
        code = answer.code if answer.said is None else answer.said.get("error", {}).get("code")
        # Not that somebody may not do it: nobody was there at all.
        answer.refused = answer.status in (400, 403) and code != "AccessDenied"
        return answer

    return show_


async def test_it_gives_what_its_key_gives(world, operator, issue, show):
    token = await issue(operator)
    assert (await show(token)).status == 200
    for scheme in ("bearer", "BEARER", "Bearer  "):
        assert (await show(token, scheme=scheme)).status == 200
    assert (await show(await issue(world.root))).status == 200
    assert (await show(await issue(world.anna))).status == 403
    policy = await world.make_user(ROOT_ACCOUNT, "looks", may("admin:ListBuckets"))
    token = await issue(policy)
    assert (await show(token)).status == 403
    assert (await show(token, b"/_admin/v1/buckets")).status in (200, 501)


async def test_it_is_good_for_its_audience_only(world, operator, issue, show):
    for audience in ("s3", "iceberg", "Admin", "admin ", "adm", "administrators"):
        answer = await show(await issue(operator, audience))
        assert answer.refused
        assert answer.said["error"]["code"] == "CredentialsMalformed"
    for audience in ("", "x" * 65):
        with pytest.raises(InvalidRequest):
            await issue(operator, audience)


async def test_nothing_else_takes_it(world, operator, issue, show):
    await world.objects.create_bucket("roots", owner="root")
    await world.objects.put_document("roots", "policy", world_open())
    for by in (operator, world.root, world.anna):
        token = await issue(by)
        for method, path in (("GET", b"/roots"), ("GET", b"/"), ("GET", b"/annas/key")):
            answer = await show(token, path, method=method)
            assert answer.refused, (path, answer.body)
        form = [(b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"0")]
        answer = await show(token, b"/", method="POST", headers=form)
        assert answer.status in (400, 403)
    assert (await world("GET", "/roots")).status == 200  # it was the token that was refused


def world_open():
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::roots",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement}).encode()


async def test_it_stands_alone(world, operator, issue, show):
    """Beside other credentials one of them would not have been looked at."""
    token = await issue(operator)
    assert (await show(token, query=b"X-Amz-Signature=1")).refused
    query, _ = world.sign(operator, "GET", ACCOUNTS, form="query")
    assert (await show(token, query=query)).refused
    assert (await show(token, query=b"access_token=" + token.encode())).refused
    assert (await show(token, headers=[(SESSION.encode(), b"x")])).refused
    twice = [(b"authorization", f"Bearer {token}".encode())]
    assert (await show(token, headers=twice)).refused
    _, signed = world.sign(operator, "GET", ACCOUNTS)
    assert (await show(token, headers=[p for p in signed if p[0] != b"host"])).refused
    # In the query alone it is nothing at all.
    answer = await world.send("GET", ACCOUNTS, b"access_token=" + token.encode(), [HOST])
    assert answer.status in (400, 403)


@pytest.mark.parametrize(
    "token", ["", " ", "-", "x", "a b", "ä", "A" * 100, "A" * 50_000, "=", "Bearer x", "null"]
)
async def test_what_is_no_token(world, operator, issue, show, token):
    assert (await show(token)).refused  # also before the first was issued
    await issue(operator)
    answer = await show(token)
    assert answer.refused
    assert answer.said["error"]["code"] == "CredentialsMalformed"


async def test_no_byte_of_it_may_change(world, operator, issue, show):
    token = await issue(operator)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        sent = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        assert (await show(sent)).refused
    for sent in (token[:-4], token + "AAAA", token[4:], token + "=", token[1:] + token[0]):
        assert (await show(sent)).refused


async def test_nobody_else_makes_one(world, operator, issue, show):
    """Not with keys that others know, nor out of what is sealed for something else."""
    good = bearer.make_bearer(operator, "admin", 10**14, "")
    keys = [b"\0" * 32, os.urandom(32), operator.secret_key.encode().ljust(32)[:32]]
    for purpose in (bearer.PURPOSE, tokens.PURPOSE, "secrets"):
        for key in keys:
            assert (await show(bearer.seal_bearer(Seal(purpose, key), good))).refused
    plain = base64.urlsafe_b64encode(msgspec.msgpack.encode(good)).decode()
    assert (await show(plain)).refused
    await issue(operator)
    await world.identities.get_session_token(world.identity(world.anna))
    vault = world.memory.identities._vault
    for purpose in ("secrets", tokens.PURPOSE):
        assert (await show(bearer.seal_bearer(vault.opened(purpose), good))).refused
    # And a token is no session.
    token = await issue(operator)
    answer = await world("GET", "/annas/key", operator, headers={SESSION: token})
    assert answer.code == "InvalidToken"
    # With the right key it would have been good: else this test could not fail.
    assert (await show(bearer.seal_bearer(vault.opened(bearer.PURPOSE), good))).status == 200


async def test_how_long_it_is_good(world, operator, issue, show):
    for seconds in (0, -1, 59, 3_601, 10**9):
        with pytest.raises(InvalidRequest):
            await issue(operator, seconds=seconds)
    short, long = await issue(operator, seconds=60), await issue(operator, seconds=3_600)
    world.clock += 59
    assert (await show(short)).status == 200
    world.clock += 1
    answer = await show(short)
    assert answer.refused
    assert answer.said["error"]["code"] == "CredentialsMalformed"
    world.clock += 3_539
    assert (await show(long)).status == 200
    world.clock += 1
    assert (await show(long)).refused


@pytest.mark.parametrize("way", ["off", "deleted", "made anew", "expired", "no right"])
async def test_it_ends_with_its_key(world, operator, issue, show, way):
    identities = world.identities
    new = await identities.create_access_key(
        ROOT_ACCOUNT, "op", expires_ms=int(world.clock * 1000) + 120_000
    )
    by = world.credential(new)
    made = await identities.issue_bearer(world.identity(by), "admin", seconds=600)
    assert made.expires_ms == new.key.expires_ms
    assert (await show(made.token)).status == 200
    key = by.access_key
    if way == "off":
        await identities.update_access_key(ROOT_ACCOUNT, "op", key, active=False)
    elif way == "no right":
        await identities.put_policy(ROOT_ACCOUNT, "user", "op", "p0", may("s3:*"))
    elif way == "expired":
        world.clock += 120
    else:
        await identities.delete_access_key(ROOT_ACCOUNT, "op", key)
    if way == "made anew":
        await identities.create_access_key(ROOT_ACCOUNT, "op", access_key=key)
    answer = await show(made.token)
    assert answer.refused is (way != "no right")
    assert answer.status in (400, 403)
    if way == "off":
        await identities.update_access_key(ROOT_ACCOUNT, "op", key, active=True)
        assert (await show(made.token)).status == 200


async def test_that_of_the_root_ends_when_its_keys_are_changed(world, operator, issue, show):
    """Also where the access key stays and only the secret is another."""
    token = await issue(world.root)
    assert (await show(token)).status == 200
    vault = world.memory.identities._vault
    for access_key, secret in ((world.root.access_key, "another-secret-of-it"), ("AKIAR", "x" * 9)):
        there = memory_identities(
            [root_credential(access_key, secret)],
            kv=world.memory.kv,
            keys=vault._kms,
            clock=lambda: world.clock,
        )
        await there.directory.load()
        world.app._gate = Gate(
            there.directory, guard=Guard(world.objects, there.directory), clock=lambda: world.clock
        )
        assert (await show(token)).refused


async def test_that_of_a_narrowed_key_is_narrowed(world, operator, issue, show):
    new = await world.identities.create_access_key(
        ROOT_ACCOUNT, "op", policy=may("admin:ListUsers")
    )
    token = await issue(world.credential(new))
    assert (await show(token)).status == 403
    assert (await show(token, b"/_admin/v1/accounts/000000000000/users")).status == 200


async def test_that_of_a_session(world, operator, issue, show):
    made = await world.identities.get_session_token(world.identity(operator), seconds=900)
    with pytest.raises(AccessDenied):  # without its token such a key is none
        await world.identities.issue_bearer(made.identity, "admin")
    for wrong in ("x", made.session_token[:-4] + "AAAA"):
        with pytest.raises(CredentialsMalformed):
            await world.identities.issue_bearer(made.identity, "admin", session_token=wrong)
    issued = await world.identities.issue_bearer(
        made.identity, "admin", seconds=3_600, session_token=made.session_token
    )
    assert issued.expires_ms == made.expires_ms
    assert (await show(issued.token)).status == 200
    world.clock += 900
    assert (await show(issued.token)).refused


async def test_who_has_no_key_gets_none(world, operator):
    from objectio.abc.api import ANONYMOUS

    for identity in (ANONYMOUS, world.root.identity._replace(access_key="")):
        with pytest.raises(AccessDenied):
            await world.identities.issue_bearer(identity, "admin")


async def test_by_the_api(world, operator, show):
    """Where a token makes a token, one would last for ever."""
    routes = pytest.importorskip("objectio_api_admin.routes").ROUTES
    if not any(route.path == "/v1/tokens" for route in routes):
        pytest.skip("no tokens are made there")
    made = await world.identities.get_session_token(world.identity(operator), seconds=900)
    session = Credential(made.access_key, made.secret_key, made.identity)
    for by, headers in ((operator, {}), (session, {SESSION: made.session_token}), (world.root, {})):
        answer = await world.admin("POST", "/v1/tokens", by, {}, headers=headers)
        assert answer.status == 200, answer.body
        assert (await show(answer.said["token"])).status == 200
        more = [(b"content-length", b"2")]
        again = await show(answer.said["token"], TOKENS, method="POST", headers=more)
        assert again.refused
    for by in (None, world.anna, world.bert):
        assert (await world.admin("POST", "/v1/tokens", by, {})).status == 403


async def test_it_is_good_at_every_process(world, operator, issue, show):
    """One that has never seen the seal, the user or the key reads them when it is shown the token."""
    there = memory_identities(
        [world.root],
        kv=world.memory.kv,
        keys=world.memory.identities._vault._kms,
        clock=lambda: world.clock,
    )
    await there.directory.load()
    late = await world.make_user(ROOT_ACCOUNT, "late", may("admin:*"))
    token = await issue(late)
    made = await world.identities.get_session_token(world.identity(late))
    session = await world.identities.issue_bearer(
        made.identity, "admin", session_token=made.session_token
    )
    world.app._gate = Gate(
        there.directory, guard=Guard(world.objects, there.directory), clock=lambda: world.clock
    )
    for each in (token, session.token, token):
        assert (await show(each)).status == 200


async def test_it_is_in_no_log_row_or_answer(world, operator, issue, show, caplog):
    caplog.set_level(logging.DEBUG)
    made = await world.identities.issue_bearer(world.identity(operator), "admin")
    token = made.token
    changed = token[:-8] + "AAAAAAAA"
    answers = [await show(token), await show(token, b"/annas/key"), await show(changed)]
    answers += [await show(token, b"/_admin/v1/nothing"), await show(token, query=b"x=1")]
    world.clock += 3_600
    answers.append(await show(token))
    for said in (token[:-8], operator.secret_key):
        assert said not in caplog.text
        assert said not in repr(made)
        for answer in answers:
            assert said.encode() not in answer.body
        for row, value in await world.memory.kv.ascan_prefix(b""):
            assert said.encode() not in row + value
    shown = bearer.make_bearer(operator, "admin", 1, "")
    assert shown.proof.hex() not in repr(shown)
    assert repr(shown.proof) not in repr(shown)


async def test_without_authentication_nothing_is_looked_at(make_world):
    world = await make_world(auth_enabled=False)
    if "admin" not in world.front_ends:
        pytest.skip("api_admin is not installed")
    answer = await world.send("GET", ACCOUNTS, b"", [HOST, (b"authorization", b"Bearer x")])
    assert answer.status == 200
