"""Who may do what: everyone but the root of the cluster is judged here.

What operators manage is the cluster's, whose account is that of its root: identities of that account
may do what their policies say, and those of all others nothing, for there is nowhere to allow it.

The guard reads what a decision depends on and asks `objectio.iam.evaluate`, which decides. For a
bucket that is its row and its documents (policy, public access block, ownership, ACL), which are
compiled once for each revision; an object's owner, ACL and tags are read only where they can decide.

What is not there cannot be judged: then the answer is that it is not there, as if the caller might
know, which is what S3 says too. It is the guard that says so, since what is made a moment later must not
be open to who asked a moment before.

A document that cannot be read allows nothing. Then only the root of the account that owns the bucket
can repair it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

import msgspec

from objectio.abc.api import Directory, Identity, Wanted
from objectio.abc.objects import BucketInfo, ObjectInfo, ObjectService
from objectio.errors import AccessDenied, MethodNotAllowed, NotFound
from objectio.iam.arns import ADMIN, ADMIN_SERVICE
from objectio.iam.credentials import ROOT_CANONICAL_ID
from objectio.iam.evaluate import Acls, Question, evaluate, wants_object, wants_tags
from objectio.iam.policy import MalformedPolicy, Policy
from objectio.limits import KIB, MIB
from objectio.model import bucket as documents
from objectio.model.bucket import Acl, ObjectOwnership, PublicAccessBlock, decode_document
from objectio.model.remembered import Remembered

logger: Final = logging.getLogger("objectio.gateway.guard")

RULES_CHARS_MAX: Final = 4 * MIB
"""Of the policies and ACLs that are remembered."""
VALUE_CHARS_MAX: Final = 8 * KIB
"""Longer values are compared with no policy, and who sends one is not let in where a policy asks."""
_S3: Final = "arn:aws:s3:::"
_IDENTITY_SERVICES: Final = frozenset({"iam", "sts", "sns"})
_OF_NO_BUCKET: Final = frozenset({"s3:CreateBucket", "s3:ListAllMyBuckets"})
_LIST: Final = "s3:ListBucket"
_READS: Final = frozenset({"s3:GetObject", "s3:GetObjectVersion"})
# What repairs a bucket whose documents cannot be read.
_REPAIRS: Final = frozenset(
    f"s3:{verb}Bucket{what}"
    for verb in ("Get", "Put", "Delete")
    for what in ("Policy", "PublicAccessBlock", "OwnershipControls", "ACL", "Acl")
)

Values = Mapping[str, Sequence[str]]
Judged = dict[tuple[str, str | None], ObjectInfo | None]


class Rules(NamedTuple):
    """What the documents of a bucket say. `readable` false: one of them cannot be understood."""

    policy: Policy | None = None
    acl: Acl = Acl()
    ownership: ObjectOwnership = "BucketOwnerEnforced"
    block: PublicAccessBlock = PublicAccessBlock()
    readable: bool = True


_UNREADABLE: Final = Rules(readable=False)


class Guard:
    """`directory` tells the account of a canonical id; without one, or without `objects`, nobody but
    the root may do anything. `ownership` is that of buckets which say nothing about it."""

    def __init__(
        self,
        objects: ObjectService | None,
        directory: Directory | None,
        ownership: ObjectOwnership = "BucketOwnerEnforced",
    ) -> None:
        self._objects = objects
        self._directory = directory
        self._ownership: ObjectOwnership = ownership
        self._rules: Remembered[bytes, tuple[int, Rules]] = Remembered(RULES_CHARS_MAX)

    async def judge(
        self,
        identity: Identity,
        wanted: Wanted,
        common: Callable[[], Values],
        *,
        creating: bool = False,
        judged: Judged | None = None,
    ) -> None:
        """Raises `AccessDenied` unless `identity` may. `common` are the values of the condition keys
        that every request has. `creating`: the bucket is about to be made, by this request, so its
        maker's own policies decide, whether or not there is one of the name by now. What was looked
        at of an object, to decide that it is allowed, is put into `judged`."""
        if identity.is_root:
            return
        if creating:
            self._judge_own(identity, wanted, common)
            return
        service = wanted.action.partition(":")[0]
        if service == "s3" and self._objects is not None and wanted.resource.startswith(_S3):
            await self._judge_s3(self._objects, identity, wanted, common, judged)
        elif service in _IDENTITY_SERVICES and self._directory is not None:
            self._judge_identity(identity, wanted, common)
        elif service == ADMIN_SERVICE and self._directory is not None:
            if not wanted.resource.startswith(ADMIN):
                deny(wanted, "this is nothing that operators manage")
            self._ask(identity, wanted, common, ROOT_CANONICAL_ID)
        else:
            deny(wanted, "only the root may")

    # Buckets and objects.

    async def _judge_s3(
        self,
        objects: ObjectService,
        identity: Identity,
        wanted: Wanted,
        common: Callable[[], Values],
        judged: Judged | None,
    ) -> None:
        name, _, key = wanted.resource[len(_S3) :].partition("/")
        if wanted.action in _OF_NO_BUCKET:
            self._judge_own(identity, wanted, common)
            return
        bucket = await objects.get_bucket(name)
        rules = await self._rules_of(objects, bucket)
        if not rules.readable and not self._may_repair(identity, bucket, wanted.action):
            deny(wanted, "the bucket's documents cannot be read")
        found = None
        looks = bool(key) and _can_decide(identity, wanted, rules)
        if looks:
            found = await self._look(objects, wanted, name, key)
        question = Question(
            identity,
            wanted.action,
            wanted.resource,
            bucket.owner,
            self._values(identity, wanted, common, bucket.owner, found),
            rules.policy,
            _acls(rules, found),
            rules.ownership,
            rules.block,
            wanted.writing,
        )
        decision = evaluate(question)
        if decision.allowed:
            if looks and judged is not None:
                judged[wanted.resource, wanted.version_id] = found
            return
        if key and wanted.action in _READS:
            # Who may list the bucket may know what is not in it.
            listing = Wanted(_LIST, _S3 + name, None, lambda: {"s3:prefix": (key,)})
            if self._may_list(identity, listing, common, bucket, rules):
                await self._raise_if_missing(objects, name, key, wanted.version_id)
        deny(wanted, decision.reason)

    async def _look(
        self, objects: ObjectService, wanted: Wanted, name: str, key: str
    ) -> ObjectInfo | None:
        try:
            return await objects.head_object(
                name, key.encode(), version_id=wanted.version_id, check_key=False
            )
        except NotFound as error:
            if error.fields.get("kind") == "bucket":
                raise
        except MethodNotAllowed:  # a delete marker, which nobody has given an ACL
            pass
        return None

    async def _raise_if_missing(
        self, objects: ObjectService, name: str, key: str, version_id: str | None
    ) -> None:
        with suppress(MethodNotAllowed):
            await objects.head_object(name, key.encode(), version_id=version_id, check_key=False)

    def _may_list(
        self,
        identity: Identity,
        listing: Wanted,
        common: Callable[[], Values],
        bucket: BucketInfo,
        rules: Rules,
    ) -> bool:
        values = self._values(identity, listing, common, bucket.owner, None)
        acls = Acls(rules.acl)
        question = Question(
            identity,
            listing.action,
            listing.resource,
            bucket.owner,
            values,
            rules.policy,
            acls,
            rules.ownership,
            rules.block,
        )
        return evaluate(question).allowed

    def _may_repair(self, identity: Identity, bucket: BucketInfo, action: str) -> bool:
        own = bool(identity.canonical_id) and identity.canonical_id == bucket.owner
        return own and identity.is_account_root and action in _REPAIRS

    async def _rules_of(self, objects: ObjectService, bucket: BucketInfo) -> Rules:
        known = self._rules.get(bucket.id)
        if known is not None and known[0] == bucket.revision:
            return known[1]
        read: Mapping[str, bytes] = {}
        try:
            read = await objects.get_documents(bucket)
            rules = _compile(read, bucket.name, self._ownership)
        except (msgspec.MsgspecError, UnicodeDecodeError, MalformedPolicy) as error:
            logger.error(
                "the documents of bucket %s cannot be read, so nothing is allowed there: %s",
                bucket.name,
                type(error).__name__,
            )
            rules = _UNREADABLE
        chars = sum(len(read.get(name, b"")) for name in (documents.POLICY, documents.ACL))
        self._rules.put(bucket.id, (bucket.revision, rules), chars)
        return rules

    # What is of the caller's own account.

    def _judge_own(self, identity: Identity, wanted: Wanted, common: Callable[[], Values]) -> None:
        """A list of one's own buckets, of which nobody has none; and what is yet to be made."""
        if not identity.account and wanted.action == "s3:ListAllMyBuckets":
            return
        self._ask(identity, wanted, common, identity.canonical_id)

    def _judge_identity(
        self, identity: Identity, wanted: Wanted, common: Callable[[], Values]
    ) -> None:
        owner = identity.canonical_id
        if wanted.resource != "*":
            parts = wanted.resource.split(":", 5)
            account = parts[4] if len(parts) == 6 and parts[:2] == ["arn", "aws"] else ""
            assert self._directory is not None
            # The managed policies that are there from the beginning are everyone's own.
            if account != "aws":
                of = self._directory.by_account(account)
                owner = "" if of is None else of.canonical_id
        if not owner:
            deny(wanted, "there is no such account")
        self._ask(identity, wanted, common, owner)

    def _ask(
        self, identity: Identity, wanted: Wanted, common: Callable[[], Values], owner: str
    ) -> None:
        values = self._values(identity, wanted, common, owner, None)
        decision = evaluate(
            Question(identity, wanted.action, wanted.resource, owner, values, wanted.policy)
        )
        if not decision.allowed:
            deny(wanted, decision.reason)

    def _values(
        self,
        identity: Identity,
        wanted: Wanted,
        common: Callable[[], Values],
        owner: str,
        found: ObjectInfo | None,
    ) -> Callable[[], Values]:
        """What the request itself says comes first, so that it cannot stand for what we know."""

        def values() -> Values:
            try:
                collected = self._collect(identity, wanted, common, owner, found)
            except _Ambiguous:
                deny(wanted, "two tags differ by case only")
            if any(len(each) > VALUE_CHARS_MAX for given in collected.values() for each in given):
                deny(wanted, "a value is too long to be compared with policies")
            return collected

        return values

    def _collect(
        self,
        identity: Identity,
        wanted: Wanted,
        common: Callable[[], Values],
        owner: str,
        found: ObjectInfo | None,
    ) -> dict[str, Sequence[str]]:
        collected: dict[str, Sequence[str]] = {}
        if wanted.conditions is not None:
            collected |= _lowered(wanted.conditions())
        if found is not None:
            tags = found.attributes.tags
            collected |= _lowered({f"s3:ExistingObjectTag/{key}": (tags[key],) for key in tags})
        account = None if self._directory is None else self._directory.by_canonical_id(owner)
        if account is not None:
            collected["aws:resourceaccount"] = collected["s3:resourceaccount"] = (account.id,)
        collected |= _lowered(identity.keys)
        collected |= _lowered(common())
        return collected


def deny(wanted: Wanted, reason: str) -> NoReturn:
    logger.debug("%s of %s is denied: %s", wanted.action, wanted.resource, reason)
    raise AccessDenied(
        "Access Denied", reason="AccessDenied", action=wanted.action, resource=wanted.resource
    )


class _Ambiguous(Exception):
    """Two condition keys are one."""


def _lowered(values: Values) -> dict[str, Sequence[str]]:
    """Names of condition keys have no case, but those of tags have. Of two that are the same then, a
    policy knows one only: whoever may set tags could choose which."""
    lowered = {name.lower(): value for name, value in values.items()}
    if len(lowered) != len(values):
        raise _Ambiguous
    return lowered


def _can_decide(identity: Identity, wanted: Wanted, rules: Rules) -> bool:
    """Whether it depends on the object that is wanted."""
    return wants_object(wanted.action, rules.ownership) or wants_tags(identity, rules.policy)


def _acls(rules: Rules, found: ObjectInfo | None) -> Acls:
    if found is None:
        return Acls(rules.acl)
    return Acls(rules.acl, found.attributes.acl or Acl(), found.owner)


def _compile(found: Mapping[str, bytes], name: str, default: ObjectOwnership) -> Rules:
    policy, acl = found.get(documents.POLICY), found.get(documents.ACL)
    ownership = found.get(documents.OWNERSHIP)
    block = found.get(documents.PUBLIC_ACCESS)
    return Rules(
        None if policy is None else Policy.parse(policy, kind="resource", bucket=name),
        Acl() if acl is None else decode_document(acl, Acl),
        default if ownership is None else decode_document(ownership, documents.Ownership).rule,
        PublicAccessBlock() if block is None else decode_document(block, PublicAccessBlock),
    )
