"""Session tokens: nobody makes, changes or stretches one.

RGW CVE-2024-48916 (tokens without a signature), RustFS m77q (sessions signed by the root's own key).
Tokens of web identities are tested in plugins/api_iam/tests/test_web_identity.py.
"""

from __future__ import annotations

import base64
import json

import msgspec
import pytest

from objectio.iam import tokens
from objectio.iam.credentials import Credential
from objectio.iam.vault import Seal

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
READ = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
    }
)
TOKEN = "x-amz-security-token"


@pytest.fixture
async def session(world):
    role = await world.identities.create_role(world.annas_account, "work", TRUST)
    await world.identities.put_policy(world.annas_account, "role", "work", "p", READ)
    made = await world.identities.assume_role(role, "me", seconds=900)
    made_by = Credential(made.access_key, made.secret_key, made.identity)
    return made_by, made.session_token


async def ask(world, by, token, **more):
    headers = {} if token is None else {TOKEN: token}
    return await world("GET", "/annas/key", by, headers=headers, **more)


async def test_a_session_in_the_header_and_in_the_query(world, session):
    by, token = session
    assert (await ask(world, by, token)).status == 200
    from urllib.parse import quote

    name = f"X-Amz-Security-Token={quote(token, safe='')}"
    assert (await world("GET", f"/annas/key?{name}", by, form="query")).status == 200
    # Twice, or in both places, it is refused, since two could differ.
    answer = await world("GET", f"/annas/key?{name}&{name}", by, form="query")
    assert answer.status in (400, 403)
    query, headers = world.sign(by, "GET", b"/annas/key", name.encode(), form="query")
    answer = await world.send(
        "GET", b"/annas/key", query, [*headers, (TOKEN.encode(), token.encode())]
    )
    assert answer.status in (400, 403)


async def test_a_token_is_mandatory_and_signed(world, session):
    by, token = session
    assert (await ask(world, by, None)).code == "InvalidAccessKeyId"
    query, headers = world.sign(by, "GET", b"/annas/key")
    added = [*headers, (TOKEN.encode(), token.encode())]
    assert (await world.send("GET", b"/annas/key", query, added)).code == "AccessDenied"


async def test_a_token_belongs_to_its_key(world, session):
    by, token = session
    for other in (world.anna, world.bert, world.root):
        assert (await ask(world, other, token)).code == "InvalidToken"
    identity = world.memory.directory.lookup("AKIABERT").identity
    berts = await world.identities.get_session_token(identity, seconds=3600)
    assert (await ask(world, by, berts.session_token)).code == "InvalidToken"
    # The right key and token with another secret.
    wrong = Credential(by.access_key, berts.secret_key, by.identity)
    assert (await ask(world, wrong, token)).code == "SignatureDoesNotMatch"


async def test_no_byte_of_a_token_may_change(world, session):
    by, token = session
    raw = base64.b64decode(token)
    for at in range(0, len(raw), 7):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        answer = await ask(world, by, base64.b64encode(changed).decode())
        assert answer.code == "InvalidToken"
    for other in ("", "x", token[:-4], token + "AAAA", token[4:], "eyJhbGciOiJub25lIn0.e30."):
        assert (await ask(world, by, other)).code in ("InvalidToken", "InvalidAccessKeyId")
    assert (await ask(world, by, "A" * 20_000)).code == "InvalidToken"


async def test_a_token_expires(world, session):
    by, token = session
    world.clock += 899
    assert (await ask(world, by, token)).status == 200
    world.clock += 2
    assert (await ask(world, by, token)).code == "ExpiredToken"


@pytest.mark.parametrize("purpose", [tokens.PURPOSE, "secrets"])
async def test_a_token_that_somebody_else_sealed(world, session, purpose):
    """Also by a key that the world knows: that of the root, or of the sealed secrets."""
    by, _ = session
    account = world.annas_account
    whose = world.memory.directory.incarnation(account)
    forged = tokens.Session(by.access_key, by.secret_key, account, "root", whose, "x", 10**14)
    keys = [b"\0" * 32, world.root.secret_key.encode().ljust(32)[:32], by.secret_key.encode()[:32]]
    for key in keys:
        token = tokens.seal_session(Seal(purpose, key), forged)
        assert (await ask(world, by, token)).code == "InvalidToken"
    plain = base64.b64encode(msgspec.msgpack.encode(forged)).decode()
    assert (await ask(world, by, plain)).code == "InvalidToken"


async def test_tokens_and_secrets_are_sealed_by_different_keys(world, session):
    """Key separation: what seals secrets of users opens no session, and the other way round."""
    vault = world.memory.identities._vault
    _, token = session
    secrets_, sessions = vault.opened("secrets"), vault.opened(tokens.PURPOSE)
    sealed = base64.b64decode(token)
    assert sessions.open(sealed, "token")
    from objectio.errors import InvalidRequest

    with pytest.raises(InvalidRequest):
        secrets_.open(sealed, "token")


async def test_a_session_ends_with_whoever_it_is_of(world, session):
    by, token = session
    await world.identities.delete_policy(world.annas_account, "role", "work", "p")
    assert (await ask(world, by, token)).code == "AccessDenied"
    await world.identities.delete_role(world.annas_account, "work")
    assert (await ask(world, by, token)).code == "InvalidToken"


async def test_a_key_that_is_switched_off_opens_nothing(world):
    assert (await world("GET", "/annas/key", world.anna)).status == 200
    await world.identities.update_access_key(world.annas_account, "", "AKIAANNA", active=False)
    assert (await world("GET", "/annas/key", world.anna)).code == "InvalidAccessKeyId"
    await world.identities.update_access_key(world.annas_account, "", "AKIAANNA", active=True)
    assert (await world("GET", "/annas/key", world.anna)).status == 200


async def test_sessions_make_no_further_credentials(world, session):
    from objectio.errors import AccessDenied

    by, token = session
    identity = world.memory.directory.session(by.access_key, token).identity
    with pytest.raises(AccessDenied):
        await world.identities.get_session_token(identity)


async def test_an_account_that_is_made_anew_is_another(world):
    """By the same id, with the same canonical id and the same access key: nothing of before opens it."""
    identities, old = world.identities, world.credential
    held = {"account": "111122223333", "canonical_id": "id-of-carl", "access_key": "AKIACARL"}
    _, new = await identities.create_account("carl", **held)
    carl = old(new)
    await world.objects.create_bucket("carls", owner="id-of-carl")
    made = await identities.get_session_token(world.identity(carl), seconds=3_600)
    session = Credential(made.access_key, made.secret_key, made.identity)
    token = {TOKEN: made.session_token}
    query, headers = world.sign(carl, "GET", b"/carls", form="query")
    assert (await world("GET", "/carls", session, headers=token)).status == 200
    await identities.create_user(held["account"], "ann")
    user = old(await identities.create_access_key(held["account"], "ann", access_key="AKIAANN"))
    users = await identities.get_session_token(world.identity(user))
    await identities.delete_access_key(held["account"], "ann", "AKIAANN")
    await identities.delete_user(held["account"], "ann")
    await identities.delete_account(held["account"])
    assert (await world("GET", "/carls", session, headers=token)).code == "InvalidToken"
    world.clock += 1
    _, new = await identities.create_account("carl", **held)
    everything = READ.replace("s3:GetObject", "*")
    await world.make_user(held["account"], "ann", everything, access_key="AKIAANN")
    assert (await world("GET", "/carls", old(new))).status == 200
    assert (await world("GET", "/carls", session, headers=token)).code == "InvalidToken"
    for by in (carl, user):
        assert (await world("GET", "/carls", by)).code == "SignatureDoesNotMatch"
    assert (await world.send("GET", b"/carls", query, headers)).code == "SignatureDoesNotMatch"
    by = Credential(users.access_key, users.secret_key, users.identity)
    answer = await world("GET", "/carls", by, headers={TOKEN: users.session_token})
    assert answer.code == "InvalidToken"


async def test_sessions_of_before_can_be_ended(world):
    """IAM user guide, "Revoking IAM role temporary security credentials": a denial to all that was issued
    before a time. It must find that time, or it would deny nothing."""
    identities, account = world.identities, world.annas_account
    role = await identities.create_role(account, "work", TRUST)
    for kind, name in (("role", "work"), ("user", "user")):
        await identities.put_policy(account, kind, name, "p", READ)
    before = [
        await identities.assume_role(role, "me"),
        await identities.get_session_token(world.identity(world.user)),
    ]
    world.clock += 60
    deny = json.loads(READ.replace("Allow", "Deny").replace("s3:GetObject", "*"))
    moment = "2023-11-14T22:14:00Z"  # between the two
    deny["Statement"][0]["Condition"] = {"DateLessThan": {"aws:TokenIssueTime": moment}}
    for kind, name in (("role", "work"), ("user", "user")):
        await identities.put_policy(account, kind, name, "revoke", json.dumps(deny))
    after = [
        await identities.assume_role(role, "me"),
        await identities.get_session_token(world.identity(world.user)),
    ]
    for made, status in ((before, 403), (after, 200)):
        for each in made:
            by = Credential(each.access_key, each.secret_key, each.identity)
            assert (await ask(world, by, each.session_token)).status == status
    assert (await world("GET", "/annas/key", world.user)).status == 200  # by no session
