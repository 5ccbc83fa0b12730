"""Access control lists in the three forms that they come in, and in the one that they go out in."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from objectio_api_s3 import acl
from objectio_api_s3.errors import Refusal

from objectio.abc.api import ANONYMOUS, Account, Identity
from objectio.errors import AccessDenied
from objectio.iam.public import is_public_acl
from objectio.model.bucket import ALL_USERS, AUTHENTICATED_USERS, Acl, Grant

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

ALICE = Account("000000000001", "alice-id", "Alice", "alice@example.com")
BOB = Account("000000000002", "bob-id", "Bob", "bob@example.com")


class Directory:
    def __init__(self, *accounts):
        self._accounts = accounts

    def _find(self, name, value):
        return next((each for each in self._accounts if getattr(each, name) == value), None)

    def by_canonical_id(self, canonical_id):
        return self._find("canonical_id", canonical_id)

    def by_email(self, email):
        return self._find("email", email)

    def by_account(self, account):
        return self._find("id", account)


DIRECTORY = Directory(ALICE, BOB)


def everybody(permission, group=ALL_USERS):
    return Grant(grantee=group, permission=permission, group=True)


def to(account, permission):
    return Grant(grantee=account.canonical_id, permission=permission)


def headers(**named):
    prefix = "x-amz-"
    return {f"{prefix}{k.replace('_', '-')}".encode(): v.encode() for k, v in named.items()}


def parse(found, owner=ALICE, bucket_owner=ALICE):
    found = acl.parse_headers(found, owner.canonical_id, bucket_owner.canonical_id, DIRECTORY)
    return None if found is None else found.grants


def code(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.fields["reason"]


OWN = to(ALICE, "FULL_CONTROL")


@pytest.mark.parametrize(
    ("name", "grants"),
    [
        ("private", (OWN,)),
        ("public-read", (everybody("READ"), OWN)),
        ("public-read-write", (everybody("READ"), everybody("WRITE"), OWN)),
        ("authenticated-read", (everybody("READ", AUTHENTICATED_USERS), OWN)),
        ("bucket-owner-read", (OWN,)),
        ("bucket-owner-full-control", (OWN,)),
    ],
)
def test_canned(name, grants):
    assert parse(headers(acl=name)) == grants


def test_canned_for_the_owner_of_the_bucket():
    found = parse(headers(acl="bucket-owner-read"), bucket_owner=BOB)
    assert found == (OWN, to(BOB, "READ"))
    found = parse(headers(acl="bucket-owner-full-control"), bucket_owner=BOB)
    assert found == (OWN, to(BOB, "FULL_CONTROL"))


def test_no_header_is_no_acl():
    assert parse({b"x-amz-meta-acl": b"private"}) is None


def test_grants_in_headers_are_all_that_there_are():
    found = parse(
        headers(
            grant_read=f'id="{BOB.canonical_id}", uri={ALL_USERS}',
            grant_full_control="emailAddress=bob@example.com",
        )
    )
    assert found == (to(BOB, "READ"), everybody("READ"), to(BOB, "FULL_CONTROL"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (headers(acl="secret"), "InvalidArgument"),
        (headers(acl="private", grant_read="id=bob-id"), "InvalidRequest"),
        (headers(grant_read="id=nobody"), "InvalidArgument"),
        (headers(grant_read="bob-id"), "InvalidArgument"),
        (headers(grant_read="name=bob"), "InvalidArgument"),
        (headers(grant_read=""), "InvalidArgument"),
        (headers(grant_read="uri=http://example.com/all"), "InvalidArgument"),
        (headers(grant_read="emailAddress=x@example.com"), "UnresolvableGrantByEmailAddress"),
        (
            headers(grant_read=",".join(["id=bob-id"] * 101)),
            "MalformedACLError",
        ),
    ],
)
def test_headers_that_are_refused(given, expected):
    assert code(parse, given) == expected


def document(grants, owner=f"<Owner><ID>{ALICE.canonical_id}</ID></Owner>"):
    return f"<AccessControlPolicy>{owner}{grants}</AccessControlPolicy>".encode()


def listed(*grants):
    rows = "".join(
        f"<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>"
        for grantee, permission in grants
    )
    return f"<AccessControlList>{rows}</AccessControlList>"


def parse_document(body):
    return acl.parse_document(body, ALICE.canonical_id, ALICE.canonical_id, DIRECTORY).grants


def test_a_document():
    rows = [
        ("<ID>bob-id</ID><DisplayName>anything</DisplayName>", "READ"),
        (f"<URI>{ALL_USERS}</URI>", "WRITE_ACP"),
        ("<EmailAddress>bob@example.com</EmailAddress>", "WRITE"),
    ]
    assert parse_document(document(listed(*rows))) == (
        to(BOB, "READ"),
        everybody("WRITE_ACP"),
        to(BOB, "WRITE"),
    )
    assert parse_document(document(listed())) == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<AccessControlPolicy>", "MalformedXML"),
        (document(listed(), owner=""), "MalformedACLError"),
        (document(""), "MalformedACLError"),
        (document(listed(("<ID>bob-id</ID>", "EVERYTHING"))), "MalformedACLError"),
        (document(listed(("", "READ"))), "MalformedACLError"),
        (document(listed(("<ID>bob-id</ID><URI>x</URI>", "READ"))), "MalformedACLError"),
        (document(listed(("<ID>_foo</ID>", "READ"))), "InvalidArgument"),
        (document(listed(*[("<ID>bob-id</ID>", "READ")] * 101)), "MalformedACLError"),
    ],
)
def test_documents_that_are_refused(body, expected):
    assert code(parse_document, body) == expected


def test_an_owner_is_not_given_away():
    with pytest.raises(AccessDenied):
        parse_document(document(listed(), owner=f"<Owner><ID>{BOB.canonical_id}</ID></Owner>"))


def grants_in(reply):
    root = ET.fromstring(reply.body)
    found = []
    for grant in root.iter(f"{NAMESPACE}Grant"):
        grantee = grant.find(f"{NAMESPACE}Grantee")
        kind = "URI" if grantee.get(TYPE) == "Group" else "ID"
        name = grantee.findtext(NAMESPACE + "DisplayName")
        permission = grant.findtext(NAMESPACE + "Permission")
        found.append((grantee.findtext(NAMESPACE + kind), name, permission))
    return found


def test_the_answer_has_groups_first_and_names():
    grants = (OWN, everybody("READ"), to(BOB, "READ_ACP"))
    shown = acl.reply(Acl(grants=grants), ALICE.canonical_id, DIRECTORY)
    assert grants_in(shown) == [
        (ALL_USERS, None, "READ"),
        ("alice-id", "Alice", "FULL_CONTROL"),
        ("bob-id", "Bob", "READ_ACP"),
    ]
    owner = ET.fromstring(shown.body).find(f"{NAMESPACE}Owner")
    assert owner.findtext(NAMESPACE + "ID") == "alice-id"
    assert owner.findtext(NAMESPACE + "DisplayName") == "Alice"


def test_an_answer_can_be_sent_back():
    grants = (everybody("READ"), OWN, to(BOB, "WRITE"))
    shown = acl.reply(Acl(grants=grants), ALICE.canonical_id, DIRECTORY)
    assert parse_document(shown.body) == grants


def test_no_acl_is_private_and_no_directory_is_no_error():
    assert grants_in(acl.reply(None, "alice-id", None)) == [
        ("alice-id", "alice-id", "FULL_CONTROL")
    ]
    assert grants_in(acl.reply(Acl(), "alice-id", None)) == []


@pytest.mark.parametrize(
    ("grants", "public"),
    [
        ((), False),
        ((OWN, to(BOB, "FULL_CONTROL")), False),
        ((Grant(grantee=ALL_USERS, permission="READ"),), False),
        ((everybody("READ_ACP"),), True),
        ((everybody("WRITE", AUTHENTICATED_USERS),), True),
    ],
)
def test_what_is_public(grants, public):
    assert is_public_acl(Acl(grants=grants)) is public


WRITER = Identity(
    "writer",
    "arn:aws:iam::000000000002:root",
    "WRITERSACCESSKEY",
    account=BOB.id,
    canonical_id=BOB.canonical_id,
)
OWNERSHIP = (
    "<OwnershipControls><Rule><ObjectOwnership>{}</ObjectOwnership></Rule></OwnershipControls>"
)
FULL = {"x-amz-acl": "bucket-owner-full-control"}


async def owner_of(s3, path):
    return (await s3.document(f"{path}?acl")).one("Owner/ID")


async def write(s3, path, headers=(), allows=lambda action, resource: True, identity=WRITER):
    """Puts, copies and uploads in parts; all are to end alike."""
    more = {"identity": identity, "allows": allows}
    answers = [await s3("PUT", f"{path}put", headers=headers, body=b"data", **more)]
    source = {**dict(headers), "x-amz-copy-source": "bucket/source"}
    answers.append(await s3("PUT", f"{path}copy", headers=source, **more))
    answers.append(await s3("POST", f"{path}upload?uploads", headers=headers, **more))
    assert len({answer.status for answer in answers}) == 1, answers
    return answers[0]


@pytest.fixture
async def shared(objects, make_s3):
    """A bucket of the root that somebody else writes to."""
    s3 = make_s3(objects, directory=DIRECTORY)
    await s3.put("/bucket", b"")
    await s3.put("/bucket/source")
    return s3


@pytest.mark.parametrize(
    ("rule", "headers", "owner"),
    [
        ("BucketOwnerEnforced", {}, "root"),
        ("BucketOwnerEnforced", FULL, "root"),
        ("BucketOwnerPreferred", {}, "bob-id"),
        ("BucketOwnerPreferred", {"x-amz-acl": "private"}, "bob-id"),
        ("BucketOwnerPreferred", FULL, "root"),
        ("ObjectWriter", {}, "bob-id"),
        ("ObjectWriter", FULL, "bob-id"),
    ],
)
async def test_whose_an_object_is(shared, rule, headers, owner):
    await shared.put("/bucket?ownershipControls", OWNERSHIP.format(rule).encode())
    assert (await write(shared, "/bucket/", headers)).status == 200
    assert await owner_of(shared, "/bucket/put") == owner
    assert await owner_of(shared, "/bucket/copy") == owner
    assert (await shared.document("/bucket?uploads")).all("Upload/Owner/ID") == [owner]
    assert (await shared.document("/bucket?uploads")).all("Upload/Initiator/ID") == ["bob-id"]


async def test_where_acls_are_disabled_none_is_taken(shared):
    for name in ("private", "public-read", "bucket-owner-read"):
        answer = await write(shared, "/bucket/", {"x-amz-acl": name})
        assert (answer.status, shared.code(answer)) == (400, "AccessControlListNotSupported")


async def test_who_shares_with_others_must_be_allowed_to(shared):
    await shared.put("/bucket?ownershipControls", OWNERSHIP.format("ObjectWriter").encode())

    def allows(action, resource):
        return action != "s3:PutObjectAcl"

    for headers in ({}, FULL, {"x-amz-acl": "private"}, {"x-amz-grant-full-control": "id=root"}):
        assert (await write(shared, "/bucket/", headers, allows)).status == 200
    for headers in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": "id=alice-id"}):
        assert (await write(shared, "/bucket/", headers, allows)).status == 403
        assert (await write(shared, "/bucket/", headers)).status == 200
    # Also who may write by the ACL of the bucket: what that means is for the gate to say.
    await shared.put("/bucket?acl", b"", {"x-amz-acl": "public-read-write"})
    assert (await write(shared, "/bucket/", {"x-amz-acl": "public-read"}, allows)).status == 403


async def test_what_nobody_wrote_is_nobodys(shared):
    await shared.put("/bucket?ownershipControls", OWNERSHIP.format("ObjectWriter").encode())
    assert (await write(shared, "/bucket/", identity=ANONYMOUS)).status == 200
    assert await owner_of(shared, "/bucket/put") == "65a011a29cdf8ec533ec3d1ccaae921c"


async def test_the_expected_owner_is_an_account(shared):
    await shared("PUT", "/bobs", identity=WRITER, allows=lambda action, resource: True)
    for owner, status in ((BOB.id, 200), (BOB.canonical_id, 200), (ALICE.id, 403), ("", 403)):
        answer = await shared("HEAD", "/bobs", headers={"x-amz-expected-bucket-owner": owner})
        assert answer.status == status
