"""Access control lists: canned ones, x-amz-grant-* headers, and the AccessControlPolicy document.

Grants are kept by canonical id or group. An account that is named by its email address is looked up
when the grant comes, as S3 does. What a bucket's settings (object ownership, block of public
access) make of an ACL is decided here too, for buckets and objects alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn

from objectio.abc.api import Directory, Wanted
from objectio.abc.objects import BucketInfo
from objectio.errors import AccessDenied
from objectio.iam.public import is_public_acl
from objectio.model.bucket import (
    ALL_USERS,
    AUTHENTICATED_USERS,
    LOG_DELIVERY,
    OWNERSHIP,
    PUBLIC_ACCESS,
    Acl,
    Grant,
    Ownership,
    Permission,
    PublicAccessBlock,
    decode_document,
)
from objectio_api_s3 import permissions
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import Node, parse
from objectio_api_s3.request import Call, Reply, arn, xml_reply
from objectio_api_s3.xml import element

HEADER: Final = b"x-amz-acl"
BUCKET_OWNER_FULL_CONTROL: Final = b"bucket-owner-full-control"

_GRANTS: Final[Mapping[bytes, Permission]] = {
    b"x-amz-grant-read": "READ",
    b"x-amz-grant-write": "WRITE",
    b"x-amz-grant-read-acp": "READ_ACP",
    b"x-amz-grant-write-acp": "WRITE_ACP",
    b"x-amz-grant-full-control": "FULL_CONTROL",
}
HEADERS: Final = frozenset((HEADER, *_GRANTS))
_PERMISSIONS: Final[Mapping[str, Permission]] = {name: name for name in _GRANTS.values()}
_GROUPS: Final = frozenset((ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY))
_GRANTS_MAX: Final = 100  # S3 user guide, "Access control list (ACL) overview"
_EC2: Final = "6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b97c"
_SCHEMA: Final = "http://www.w3.org/2001/XMLSchema-instance"

# S3 user guide, "Canned ACL": who gets what besides the owner.
_CANNED: Final[Mapping[bytes, tuple[Grant, ...]]] = {
    b"private": (),
    b"public-read": (Grant(grantee=ALL_USERS, permission="READ", group=True),),
    b"public-read-write": (
        Grant(grantee=ALL_USERS, permission="READ", group=True),
        Grant(grantee=ALL_USERS, permission="WRITE", group=True),
    ),
    b"authenticated-read": (Grant(grantee=AUTHENTICATED_USERS, permission="READ", group=True),),
    b"aws-exec-read": (Grant(grantee=_EC2, permission="READ"),),
    b"log-delivery-write": (
        Grant(grantee=LOG_DELIVERY, permission="WRITE", group=True),
        Grant(grantee=LOG_DELIVERY, permission="READ_ACP", group=True),
    ),
    b"bucket-owner-read": (),
    b"bucket-owner-full-control": (),
}
_TO_BUCKET_OWNER: Final[Mapping[bytes, Permission]] = {
    b"bucket-owner-read": "READ",
    b"bucket-owner-full-control": "FULL_CONTROL",
}


def private(owner: str) -> Acl:
    """What an ACL is that nobody set."""
    return Acl(grants=(Grant(grantee=owner, permission="FULL_CONTROL"),))


def canned(name: bytes, owner: str, bucket_owner: str) -> Acl:
    """The ACL that x-amz-acl names. For a bucket both owners are the same, and so the two that are
    about the owner of an object's bucket are private, as S3 has it."""
    grants = _CANNED.get(name)
    if grants is None:
        refuse("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=name.decode("latin-1"))
    permission = _TO_BUCKET_OWNER.get(name)
    own = private(owner).grants
    if permission is not None and bucket_owner != owner:
        own += (Grant(grantee=bucket_owner, permission=permission),)
    return Acl(grants=grants + own)


class Grantees:
    """Finds who is meant. The `known` need not be looked up: a node may have no directory, and then
    owners still can be named."""

    def __init__(self, directory: Directory | None, *known: str) -> None:
        self._directory = directory
        self._known = frozenset(known)

    def by_id(self, canonical_id: str) -> str:
        if canonical_id and canonical_id in self._known:
            return canonical_id
        if self._directory is None or self._directory.by_canonical_id(canonical_id) is None:
            refuse(
                "InvalidArgument",
                "Invalid id",
                ArgumentName="CanonicalUser/ID",
                ArgumentValue=canonical_id,
            )
        return canonical_id

    def by_email(self, email: str) -> str:
        found = None if self._directory is None else self._directory.by_email(email)
        if found is None:
            refuse("UnresolvableGrantByEmailAddress")
        return found.canonical_id

    def group(self, uri: str) -> str:
        if uri not in _GROUPS:
            refuse(
                "InvalidArgument",
                "Invalid group uri",
                ArgumentName="Group/URI",
                ArgumentValue=uri,
            )
        return uri


def parse_headers(
    headers: Mapping[bytes, bytes], owner: str, bucket_owner: str, directory: Directory | None
) -> Acl | None:
    """What x-amz-acl or x-amz-grant-* say; None without any. Explicit grants are all that there
    are: the owner gets none unless one says so."""
    name = headers.get(HEADER)
    granting = [header for header in _GRANTS if header in headers]
    if name is not None:
        if granting:
            refuse(
                "InvalidRequest",
                "Specifying both Canned ACLs and Header Grants is not allowed",
            )
        return canned(name, owner, bucket_owner)
    if not granting:
        return None
    grantees = Grantees(directory, owner, bucket_owner)
    return _bounded(
        [
            _parse_grant(item, _GRANTS[header], grantees)
            for header in granting
            for item in headers[header].decode("latin-1").split(",")
        ]
    )


def _parse_grant(item: str, permission: Permission, grantees: Grantees) -> Grant:
    kind, equals, value = item.strip().partition("=")
    value = value.strip().strip('"')
    kind = kind.strip().lower()
    if not equals or kind not in ("id", "emailaddress", "uri"):
        refuse("InvalidArgument", "Argument format not recognized", ArgumentValue=item.strip())
    if kind == "uri":
        return Grant(grantee=grantees.group(value), permission=permission, group=True)
    find = grantees.by_id if kind == "id" else grantees.by_email
    return Grant(grantee=find(value), permission=permission)


def _bounded(grants: list[Grant]) -> Acl:
    if len(grants) > _GRANTS_MAX:
        refuse("MalformedACLError", f"An ACL may have up to {_GRANTS_MAX} grants.")
    return Acl(grants=tuple(dict.fromkeys(grants)))


def parse_document(body: bytes, owner: str, bucket_owner: str, directory: Directory | None) -> Acl:
    """An AccessControlPolicy. Its owner cannot be another than that of the bucket or object: S3
    lets nobody give one away."""
    root = parse(body, "AccessControlPolicy")
    named = root.child("Owner")
    if named is None:
        refuse("MalformedACLError")
    if named.value("ID").strip() != owner:
        raise AccessDenied("the owner cannot be changed")
    listed = root.child("AccessControlList")
    if listed is None:
        refuse("MalformedACLError")
    grantees = Grantees(directory, owner, bucket_owner)
    return _bounded([_parse_node(node, grantees) for node in listed.all("Grant")])


def _parse_node(node: Node, grantees: Grantees) -> Grant:
    grantee = node.child("Grantee")
    permission = _PERMISSIONS.get(node.value("Permission").strip())
    if grantee is None or permission is None:
        refuse("MalformedACLError")
    found = [child for child in grantee.children if child.name in ("ID", "URI", "EmailAddress")]
    if len(found) != 1:
        refuse("MalformedACLError")
    value = found[0].text.strip()
    if found[0].name == "URI":
        return Grant(grantee=grantees.group(value), permission=permission, group=True)
    if found[0].name == "EmailAddress":
        return Grant(grantee=grantees.by_email(value), permission=permission)
    return Grant(grantee=grantees.by_id(value), permission=permission)


def show_owner(owner: str, directory: Directory | None, tag: str = "Owner") -> str:
    """An owner or initiator by canonical id, with the name that people know the account by."""
    found = None if directory is None else directory.by_canonical_id(owner)
    name = owner if found is None else found.display_name
    return f"<{tag}>{element('ID', owner)}{element('DisplayName', name)}</{tag}>"


def reply(acl: Acl | None, owner: str, directory: Directory | None) -> Reply:
    """The AccessControlPolicy document; None is private. Groups come first."""
    grants = sorted((acl or private(owner)).grants, key=lambda grant: not grant.group)
    shown = "".join(_show(grant, directory) for grant in grants)
    return xml_reply(
        "AccessControlPolicy",
        f"{show_owner(owner, directory)}<AccessControlList>{shown}</AccessControlList>",
    )


def _show(grant: Grant, directory: Directory | None) -> str:
    if grant.group:
        kind, inner = "Group", element("URI", grant.grantee)
    else:
        found = None if directory is None else directory.by_canonical_id(grant.grantee)
        name = grant.grantee if found is None else found.display_name
        kind = "CanonicalUser"
        inner = element("ID", grant.grantee) + element("DisplayName", name)
    return (
        f'<Grant><Grantee xmlns:xsi="{_SCHEMA}" xsi:type="{kind}">{inner}</Grantee>'
        f"<Permission>{grant.permission}</Permission></Grant>"
    )


class Settings(NamedTuple):
    """What of a bucket decides about ACLs."""

    bucket: BucketInfo
    documents: Mapping[str, bytes]
    ownership: Ownership
    block: PublicAccessBlock

    @property
    def disabled(self) -> bool:
        """Whether there are no ACLs: everything belongs to the owner of the bucket."""
        return self.ownership.rule == "BucketOwnerEnforced"

    def check(self, acl: Acl | None) -> None:
        """Raises AccessDenied for an ACL that the block of public access forbids."""
        if acl is not None and self.block.block_acls and is_public_acl(acl):
            raise AccessDenied("public ACLs are blocked", reason="AccessDenied")


async def settings(call: Call, name: str = "") -> Settings:
    """Of the bucket of the request, or of another. Raises `NotFound`."""
    objects = call.context.objects
    bucket = await objects.get_bucket(name or call.op.bucket)
    documents = await objects.get_documents(bucket)
    return decode_settings(bucket, documents, Ownership(rule=call.context.object_ownership))


def decode_settings(
    bucket: BucketInfo, documents: Mapping[str, bytes], default: Ownership
) -> Settings:
    """A bucket without these documents has the `default` ownership, and nothing is blocked."""
    ownership, block = documents.get(OWNERSHIP), documents.get(PUBLIC_ACCESS)
    return Settings(
        bucket,
        documents,
        default if ownership is None else decode_document(ownership, Ownership),
        PublicAccessBlock() if block is None else decode_document(block, PublicAccessBlock),
    )


class Placed(NamedTuple):
    """Whose a new object is, and its ACL; None is private."""

    owner: str
    acl: Acl | None


async def place(call: Call) -> Placed:
    """Owner and ACL of the object that this request writes (S3 user guide, "Controlling ownership
    of objects"). The root of the cluster that says nothing owns what it writes, for which nothing
    has to be read. Who grants something to anybody else than the two owners must be allowed to."""
    headers = call.op.headers
    name = headers.get(HEADER)
    says = not HEADERS.isdisjoint(headers)
    if call.request.identity.is_root and not says:
        return Placed(call.owner, None)
    found = await settings(call)
    holder = found.bucket.owner
    if found.disabled:
        own = name == b"private" and holder == call.owner
        if says and name != BUCKET_OWNER_FULL_CONTROL and not own:
            refuse_disabled()
        return Placed(holder, None)
    if name == BUCKET_OWNER_FULL_CONTROL and found.ownership.rule == "BucketOwnerPreferred":
        return Placed(holder, None)
    acl = parse_headers(headers, call.owner, holder, call.context.directory)
    found.check(acl)
    if acl is not None and any(
        g.group or g.grantee not in (call.owner, holder) for g in acl.grants
    ):
        values = partial(permissions.conditions, call.op)
        await require_of_writer(call, "s3:PutObjectAcl", values)
    return Placed(call.owner, None if acl == private(call.owner) else acl)


async def require_of_writer(
    call: Call, action: str, conditions: Callable[[], Mapping[str, Sequence[str]]]
) -> None:
    """An action that goes with writing an object. Who may write by a policy needs it besides; who
    may by the bucket's ACL needs no more, unless it is denied, or by a policy of their own account."""
    await call.request.trust(
        Wanted(action, arn(call.op.bucket, call.op.key), None, conditions, writing=True)
    )


def refuse_disabled() -> NoReturn:
    refuse("AccessControlListNotSupported")


def parse_put(
    headers: Mapping[bytes, bytes],
    body: bytes,
    found: Settings,
    owner: str,
    directory: Directory | None,
) -> Acl:
    """The new ACL in PutBucketAcl and PutObjectAcl, from headers or body, as far as the bucket lets
    there be one. `owner` is that of the bucket or object."""
    holder = found.bucket.owner
    if found.disabled:
        if headers.get(HEADER) != BUCKET_OWNER_FULL_CONTROL:
            refuse_disabled()
        return private(holder)
    acl = parse_headers(headers, owner, holder, directory)
    if acl is None:
        if not body:
            refuse("MissingSecurityHeader")
        acl = parse_document(body, owner, holder, directory)
    elif body:
        refuse("UnexpectedContent")
    found.check(acl)
    return acl
