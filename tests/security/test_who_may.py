"""Who may do what: the classes of known holes in other stores that are about authorization.

Each test's docstring names cases of others that it would have caught.
"""

from __future__ import annotations

import json

import pytest

from objectio.model.bucket import (
    ACL,
    ALL_USERS,
    LOCK,
    OWNERSHIP,
    POLICY,
    PUBLIC_ACCESS,
    Acl,
    Grant,
    Ownership,
    PublicAccessBlock,
    Retention,
    encode_document,
)

COPY = {"x-amz-copy-source": "/annas/key"}
READS = [
    ("GET", "/annas/key"),
    ("HEAD", "/annas/key"),
    ("GET", "/annas"),
    ("HEAD", "/annas"),
    ("GET", "/annas?list-type=2"),
    ("GET", "/annas?versions"),
    ("GET", "/annas?uploads"),
    ("GET", "/annas?acl"),
    ("GET", "/annas?policy"),
    ("GET", "/annas?policyStatus"),
    ("GET", "/annas?publicAccessBlock"),
    ("GET", "/annas?location"),
    ("GET", "/annas?tagging"),
    ("GET", "/annas?versioning"),
    ("GET", "/annas?object-lock"),
    ("GET", "/annas?encryption"),
    ("GET", "/annas?lifecycle"),
    ("GET", "/annas/key?acl"),
    ("GET", "/annas/key?tagging"),
    ("GET", "/annas/key?attributes"),
    ("GET", "/annas/key?retention"),
    ("GET", "/annas/key?legal-hold"),
]
WRITES = [
    ("PUT", "/annas/key"),
    ("DELETE", "/annas/key"),
    ("DELETE", "/annas"),
    ("POST", "/annas/key?uploads"),
    ("POST", "/annas?delete"),
    ("PUT", "/annas?policy"),
    ("DELETE", "/annas?policy"),
    ("PUT", "/annas?acl"),
    ("PUT", "/annas?versioning"),
    ("PUT", "/annas?tagging"),
    ("PUT", "/annas?publicAccessBlock"),
    ("DELETE", "/annas?publicAccessBlock"),
    ("PUT", "/annas?ownershipControls"),
    ("PUT", "/annas?encryption"),
    ("PUT", "/annas?lifecycle"),
    ("PUT", "/annas?cors"),
    ("PUT", "/annas/key?acl"),
    ("PUT", "/annas/key?tagging"),
    ("DELETE", "/annas/key?tagging"),
    ("PUT", "/annas/key?retention"),
    ("PUT", "/annas/key?legal-hold"),
]
# Where what is asked for depends on the body, that is read first.
BODIES = {
    "/annas?delete": b"<Delete><Object><Key>key</Key></Object></Delete>",
    "/annas/key?tagging": b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    "/annas/key?retention": b"<Retention><Mode>GOVERNANCE</Mode>"
    b"<RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>",
    "/annas/key?legal-hold": b"<LegalHold><Status>ON</Status></LegalHold>",
}
every_call = pytest.mark.parametrize(("method", "target"), READS + WRITES, ids=" ".join)


@every_call
async def test_default_deny(world, method, target):
    """One gate for all handlers: who was allowed nothing gets nothing, whatever is asked.
    (MinIO CVE-2026-40344: a handler without the check.)"""
    before = world.objects.snapshot()
    for by in (None, world.bert, world.user):
        answer = await world(method, target, by, body=BODIES.get(target, b"") * (method != "GET"))
        each = b"AccessDenied" in answer.body and b"<Deleted>" not in answer.body
        assert answer.status == 403 or (target == "/annas?delete" and each), (by, answer.body)
    assert world.objects.snapshot() == before


async def test_the_owner_is_not_locked_out(world):
    assert (await world("GET", "/annas/key", world.anna)).status == 200
    assert (await world("PUT", "/annas/new", world.anna, body=b"x")).status == 200
    everything = world.make_statement("s3:*", resource=["annas", "annas/*"], effect="Deny")
    await world.policy(everything)
    assert (await world("GET", "/annas/key", world.anna)).status == 403
    assert (await world("GET", "/annas?policy", world.anna)).status == 200
    assert (await world("GET", "/annas?policy", world.user)).status == 403
    assert (await world("GET", "/annas/key", world.root)).status == 200
    assert (await world("DELETE", "/annas?policy", world.anna)).status == 204
    assert (await world("GET", "/annas/key", world.anna)).status == 200


# Privilege escalation.


async def test_escalation_a_user_has_what_its_policies_say_and_no_more(world):
    """MinIO CVE-2024-55949, CVE-2023-28432; RustFS wrong action constants."""
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject",'
    document += '"Resource":"arn:aws:s3:::annas/*"}]}'
    await world.identities.put_policy(world.annas_account, "user", "user", "p", document)
    for method, target in READS + WRITES:
        answer = await world(method, target, world.user)
        reads_it = (method, target) in (("GET", "/annas/key"), ("HEAD", "/annas/key"))
        assert (answer.status == 200) == reads_it, (method, target, answer.body)


async def test_escalation_everything_is_not_the_cluster(world):
    """Who may do all with an account's resources is no administrator of the cluster, and a policy of
    one account opens nothing in another."""
    everything = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    )
    await world.identities.put_policy(world.annas_account, "user", "user", "p", everything)
    assert (await world("GET", "/annas/key", world.user)).status == 200
    await world.objects.create_bucket("berts", owner="id-of-bert")
    for method, target in (("GET", "/berts"), ("PUT", "/berts/x"), ("GET", "/berts?policy")):
        assert (await world(method, target, world.user)).status == 403
        assert (await world(method, target, world.anna)).status == 403


async def test_escalation_a_session_never_exceeds_its_role_nor_its_own_policy(world):
    """MinIO CVE-2025-62506: session policies ignored."""
    trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},'
    trust += '"Action":"sts:AssumeRole"}]}'

    def may(action):
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    role = await world.identities.create_role(world.annas_account, "work", trust)
    await world.identities.put_policy(world.annas_account, "role", "work", "p", may("s3:GetObject"))
    for policies, reads in (
        ([], True),
        ([may("s3:*")], True),
        ([may("s3:PutObject")], False),
        ([may("s3:PutObject"), may("s3:GetObject")], True),
    ):
        made = await world.identities.assume_role(role, "me", policies=policies)
        by = type(world.anna)(made.access_key, made.secret_key, made.identity)
        token = {"x-amz-security-token": made.session_token}
        answer = await world("GET", "/annas/key", by, headers=token)
        assert (answer.status == 200) == reads, (policies, answer.body)
        assert (await world("PUT", "/annas/x", by, headers=token, body=b"x")).status == 403
        # Nor without the token.
        assert (await world("GET", "/annas/key", by)).code == "InvalidAccessKeyId"


async def test_escalation_a_denial_wins_over_everything(world):
    await world.allow("s3:GetObject")
    assert (await world("GET", "/annas/key", world.bert)).status == 200
    await world.policy(
        world.make_statement("s3:*"), world.make_statement("s3:GetObject", effect="Deny")
    )
    for by in (None, world.bert, world.user, world.anna):
        assert (await world("GET", "/annas/key", by)).status == 403


async def test_escalation_a_name_without_an_account_is_nobody_elsewhere(world):
    """A bucket policy that names a user in the short spelling means one of its own account: anybody can
    have a user of any name."""
    statement = {"Effect": "Allow", "Principal": {"OBIO": ["arn:obio:iam::user/user"]}}
    statement |= {"Action": ["s3:GetObject"], "Resource": ["arn:obio:s3:::annas/*"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    assert (await world("PUT", "/annas?policy", world.anna, body=document)).status == 204
    assert json.loads((await world("GET", "/annas?policy", world.anna)).body) == json.loads(
        document
    )
    everything = '{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    mallory = await world.make_user(world.berts_account, "user", everything)
    operator = await world.make_user("000000000000", "user", everything)
    assert (await world("GET", "/annas/key", world.user)).status == 200
    for by in (mallory, operator, world.bert, None):
        assert (await world("GET", "/annas/key", by)).status == 403
    other = document.replace(b":::annas", b":::berts")
    assert (await world("PUT", "/annas?policy", world.anna, body=other)).code == "MalformedPolicy"


# Copy sources.


async def test_copy_source_must_be_readable(world):
    """RustFS CVE-2026-39360 (UploadPartCopy), wfxj, 3ppv (GetObjectVersion)."""
    await world.objects.create_bucket("berts", owner="id-of-bert")
    target = "/berts/stolen"
    assert (await world("PUT", target, world.bert, headers=COPY)).status == 403
    for source in ("/annas/key", "annas/key", "annas%2Fkey", "/annas/key?versionId=null"):
        answer = await world("PUT", target, world.bert, headers={"x-amz-copy-source": source})
        assert answer.status in (400, 403), source
        assert (await world("GET", target, world.bert)).code == "NoSuchKey"
    started = await world("POST", "/berts/parts?uploads", world.bert)
    assert started.status == 200
    upload = started.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
    for more in ({}, {"x-amz-copy-source-range": "bytes=0-3"}):
        answer = await world(
            "PUT",
            f"/berts/parts?partNumber=1&uploadId={upload}",
            world.bert,
            headers=COPY | more,
        )
        assert answer.status == 403
    await world.allow("s3:GetObject")
    assert (await world("PUT", target, world.bert, headers=COPY)).status == 200


async def test_copy_source_of_a_version_needs_the_right_to_versions(world):
    await world.objects.set_versioning("annas", "Enabled")
    version = (await world.put("annas", b"key")).version_id
    await world.objects.create_bucket("berts", owner="id-of-bert")
    await world.allow("s3:GetObject")
    headers = {"x-amz-copy-source": f"/annas/key?versionId={version}"}
    assert (await world("PUT", "/berts/x", world.bert, headers=headers)).status == 403
    assert (await world("GET", f"/annas/key?versionId={version}", world.bert)).status == 403
    await world.allow("s3:GetObjectVersion")
    assert (await world("PUT", "/berts/x", world.bert, headers=headers)).status == 200
    assert (await world("GET", "/annas/key", world.bert)).status == 403


async def test_copy_target_needs_the_right_to_write(world):
    assert (await world("PUT", "/annas/mine", world.bert, headers=COPY)).status == 403
    await world.allow("s3:GetObject")
    assert (await world("PUT", "/annas/mine", world.bert, headers=COPY)).status == 403


async def test_each_key_of_a_bulk_delete_is_authorized(world):
    await world.put("annas", b"mine/1")
    await world.allow("s3:DeleteObject", resource="annas/mine/*")
    body = b"<Delete><Object><Key>key</Key></Object><Object><Key>mine/1</Key></Object></Delete>"
    answer = await world("POST", "/annas?delete", world.bert, body=body)
    assert answer.status == 200
    assert b"AccessDenied" in answer.body
    assert await world.read("annas", b"key") == b"the data of anna"
    assert (await world("GET", "/annas/mine/1", world.anna)).code == "NoSuchKey"


# Public access, on all verbs of listing.


LISTINGS = ["/annas", "/annas?list-type=2", "/annas?versions", "/annas?uploads"]


@pytest.mark.parametrize("target", LISTINGS)
async def test_public_access_block_covers_every_listing(world, target):
    """RustFS x298: the listing of versions skipped it; RGW CVE-2016-7031."""
    actions = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
    await world.allow(*actions, resource="annas")
    for by in (None, world.bert):
        assert (await world("GET", target, by)).status == 200
    block = encode_document(PublicAccessBlock(restrict_buckets=True))
    await world.objects.put_document("annas", PUBLIC_ACCESS, block)
    for by in (None, world.bert):
        assert (await world("GET", target, by)).status == 403
    assert (await world("GET", target, world.anna)).status == 200


@pytest.mark.parametrize("target", LISTINGS)
async def test_public_access_block_covers_acls_on_every_listing(world, target):
    await world.objects.put_document(
        "annas", OWNERSHIP, encode_document(Ownership(rule="ObjectWriter"))
    )
    grants = (Grant(grantee=ALL_USERS, permission="READ", group=True),)
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=grants)))
    assert (await world("GET", target)).status == 200
    block = encode_document(PublicAccessBlock(ignore_acls=True))
    await world.objects.put_document("annas", PUBLIC_ACCESS, block)
    assert (await world("GET", target)).status == 403


async def test_acls_mean_nothing_where_the_owner_is_enforced(world):
    grants = (Grant(grantee=ALL_USERS, permission="FULL_CONTROL", group=True),)
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=grants)))
    await world.put("annas", b"open", acl=Acl(grants=grants))
    for target in ("/annas", "/annas/open"):
        assert (await world("GET", target)).status == 403
    await world.objects.put_document(
        "annas", OWNERSHIP, encode_document(Ownership(rule="ObjectWriter"))
    )
    for target in ("/annas", "/annas/open"):
        assert (await world("GET", target)).status == 200
    assert (await world("GET", "/annas/key")).status == 403


async def test_who_writes_by_an_acl_is_held_to_policies(world):
    """What goes with the writing of an object (its ACL) needs no more than that in ACLs, and yet what is
    denied is denied, and who is narrowed down stays so."""
    ownership = encode_document(Ownership(rule="ObjectWriter"))
    await world.objects.put_document("annas", OWNERSHIP, ownership)
    grants = (Grant(grantee="id-of-bert", permission="WRITE"),)
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=grants)))

    def may(*actions, effect="Allow"):
        statement = {"Effect": effect, "Action": list(actions), "Resource": "*"}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    account = world.berts_account
    new = await world.identities.create_access_key(account, "", policy=may("s3:PutObject"))
    narrowed = world.credential(new)
    writes = await world.make_user(account, "writes", may("s3:PutObject"))
    denied = await world.make_user(
        account, "denied", may("*"), may("s3:PutObjectAcl", effect="Deny")
    )
    whole = await world.make_user(account, "whole", may("s3:Put*"))
    for by, status in (
        (world.bert, 200),
        (whole, 200),
        *((w, 403) for w in (narrowed, writes, denied)),
    ):
        assert (await world("PUT", "/annas/new", by, body=b"x")).status == 200
        for headers in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": 'id="id-of-anna"'}):
            answer = await world("PUT", "/annas/new", by, body=b"x", headers=headers)
            assert answer.status == (200 if "x-amz-acl" not in headers else status), answer.body
            answer = await world("POST", "/annas/new?uploads", by, headers=headers)
            assert answer.status == (200 if "x-amz-acl" not in headers else status), answer.body
    headers = {"x-amz-acl": "public-read"}
    everyone = (Grant(grantee=ALL_USERS, permission="WRITE", group=True),)
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=everyone)))
    by_group = [(None, 200), (world.bert, 200), (narrowed, 403), (denied, 403)]
    for by, status in by_group:
        answer = await world("PUT", "/annas/new", by, body=b"x", headers=headers)
        assert answer.status == status
    await world.objects.put_document(
        "annas", PUBLIC_ACCESS, encode_document(PublicAccessBlock(ignore_acls=True))
    )
    assert (await world("PUT", "/annas/new", body=b"x", headers=headers)).status == 403
    await world.objects.put_document("annas", ACL, encode_document(Acl(grants=grants)))
    await world.policy(world.make_statement("s3:PutObjectAcl", effect="Deny"))
    for by in (world.bert, whole):
        assert (await world("PUT", "/annas/new", by, body=b"x", headers=headers)).status == 403
        assert (await world("PUT", "/annas/new", by, body=b"x")).status == 200


# What is told.


async def test_existence_is_told_to_those_who_may_list_only(world):
    """HEAD as an oracle; MinIO CVE-2024-36107 (conditions answered before authorization)."""
    conditions = [
        {},
        {"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        {"if-none-match": "*"},
        {"if-match": '"x"'},
        {"range": "bytes=0-1"},
        {"range": "bytes=999999-"},
    ]
    for by in (None, world.bert, world.user):
        for method in ("GET", "HEAD"):
            for headers in conditions:
                seen = [
                    await world(method, target, by, headers=headers)
                    for target in ("/annas/key", "/annas/none")
                ]
                assert [answer.status for answer in seen] == [403, 403]
                assert {answer.headers.get(b"etag") for answer in seen} == {None}
    await world.allow("s3:GetObject")
    assert (await world("GET", "/annas/none")).status == 403
    await world.policy(
        world.make_statement("s3:GetObject"),
        world.make_statement("s3:ListBucket", resource="annas"),
    )
    assert (await world("GET", "/annas/none")).status == 404


async def test_what_is_made_later_is_not_open_to_who_asked_before(world):
    """The guard itself says that a bucket is not there: nobody gets to the handler unjudged."""
    answer = await world("PUT", "/berts/x", world.anna, body=b"x")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
    handled = []
    real = world.objects.put_object

    async def put_object(*args, **more):
        handled.append(args)
        return await real(*args, **more)

    world.objects.put_object = put_object
    await world("PUT", "/berts/x", world.anna, body=b"x")
    assert handled == []


@pytest.mark.parametrize(
    "target", ["acl", "versioning", "ownershipControls", "object-lock", "policy"]
)
async def test_no_setting_of_a_bucket_that_is_not_there_is_judged(world, target):
    """Else it could be put on what its owner makes at that moment."""
    for by in (None, world.bert, world.user, world.anna):
        answer = await world("PUT", f"/later?{target}", by)
        assert (answer.status, answer.code) == (404, "NoSuchBucket")


async def test_headers_of_a_new_bucket_change_no_other(world):
    headers = {"x-amz-acl": "public-read", "x-amz-object-ownership": "ObjectWriter"}
    answer = await world("PUT", "/annas", world.bert, headers=headers)
    assert answer.status == 409
    assert (await world("PUT", "/users", world.user, headers=headers)).status == 403
    assert (await world("GET", "/annas")).status == 403


# Documents that cannot be read.


@pytest.mark.parametrize("name", [POLICY, ACL, OWNERSHIP, PUBLIC_ACCESS])
async def test_a_document_that_cannot_be_read_allows_nothing(world, name, caplog):
    """It must not count as absent (RustFS j548)."""
    await world.objects.put_document("annas", name, b"{canary")
    for by in (None, world.bert, world.user, world.anna):
        assert (await world("GET", "/annas/key", by)).status == 403
        assert (await world("DELETE", "/annas/key", by)).status == 403
    assert "canary" not in caplog.text
    assert "cannot be read" in caplog.text
    if name == POLICY:
        assert (await world("DELETE", "/annas?policy", world.bert)).status == 403
        assert (await world("DELETE", "/annas?policy", world.anna)).status == 204
        assert (await world("GET", "/annas/key", world.anna)).status == 200


async def test_worm_a_lock_that_cannot_be_read_lets_nothing_in_unprotected(world):
    """RustFS j548: an unreadable configuration taken as none. The root may not either."""
    await world.objects.create_bucket("locked", owner="id-of-anna", object_lock=True)
    await world.objects.put_document("locked", LOCK, b"{")
    for by in (world.anna, world.root):
        assert (await world("PUT", "/locked/key", by, body=b"x")).status >= 400
        assert (await world("GET", "/locked/key", by)).code == "NoSuchKey"


async def test_worm_who_may_do_everything_may_not_delete_what_is_locked(world):
    await world.objects.create_bucket("locked", owner="id-of-anna", object_lock=True)
    until = Retention(mode="COMPLIANCE", until_ms=4_000_000_000_000)
    made = await world.put("locked", b"key", retention=until)
    target = f"/locked/key?versionId={made.version_id}"
    bypass = {"x-amz-bypass-governance-retention": "true"}
    for by in (world.anna, world.root):
        for headers in ({}, bypass):
            assert (await world("DELETE", target, by, headers=headers)).status == 403
    assert await world.read("locked", b"key") == b"the data of anna"
