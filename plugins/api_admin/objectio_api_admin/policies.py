"""Managed policies, who has them, and what policies would say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from objectio.abc.api import ApiContext, Identity, KeyLimits
from objectio.errors import AlreadyExists, InvalidRequest, NotFound
from objectio.iam import managed
from objectio.iam.admin import AccessKey, IdentityAdmin, Kind, ManagedPolicy
from objectio.iam.policy import MalformedPolicy
from objectio.iam.policy import Policy as KnownPolicy
from objectio.iam.simulate import simulate
from objectio_api_admin.shapes import (
    MalformedRequest,
    Order,
    Route,
    account_of,
    canonical_id_of,
    identities_of,
)
from objectio_api_admin.values import (
    AccountId,
    ActionName,
    Arn,
    Description,
    Document,
    Milliseconds,
    NewDocument,
    NoDocument,
    Path,
    PolicyName,
    ResourceArn,
    UniqueId,
)

_BUILT_IN: Final = "aws"
_ASKED_MAX: Final = 1_000
"""Actions times resources of one simulation."""

_SOME: Final = msgspec.Meta(min_length=1, max_length=100)


class NewPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`document` is the policy, as an object or as a text that has one."""

    name: PolicyName
    document: NewDocument
    description: Description = ""
    path: Path = "/"


class Simulation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `user` may do by the policies that it and its groups have, and by `documents` besides; or,
    without a user, what these alone would let one do. `key` is an access key: whoever signs with it may do
    what its own policy allows too. `resource_policy` stands at the resources."""

    actions: Annotated[Sequence[ActionName], _SOME]
    resources: Annotated[Sequence[ResourceArn], _SOME]
    user: str = ""
    key: str = ""
    documents: Annotated[Sequence[NewDocument], msgspec.Meta(max_length=20)] = ()
    resource_policy: NoDocument = msgspec.field(default_factory=msgspec.Raw)
    context: Mapping[str, Sequence[str]] = {}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`built_in`: it is there from the beginning, and stays."""

    account: Annotated[str, msgspec.Meta(description="An account, or aws for what is built in.")]
    name: str
    path: str
    id: UniqueId
    arn: Arn
    created_ms: Milliseconds
    description: str
    built_in: bool


class PolicyDetail(Policy, frozen=True, kw_only=True):
    document: Document


class PolicyList(msgspec.Struct, frozen=True, kw_only=True):
    """Those of the account, and then those that are there from the beginning."""

    policies: Sequence[Policy]


class UserPolicies(msgspec.Struct, frozen=True, kw_only=True):
    """The ARNs of the managed policies that are attached to it now."""

    account: AccountId
    user: str
    policies: Sequence[Arn]


class GroupPolicies(msgspec.Struct, frozen=True, kw_only=True):
    """The ARNs of the managed policies that are attached to it now."""

    account: AccountId
    group: str
    policies: Sequence[Arn]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is the rule that decided, `policies` the names of those that made it so."""

    action: str
    resource: str
    allowed: bool
    reason: str
    policies: Sequence[str]


class VerdictList(msgspec.Struct, frozen=True, kw_only=True):
    """Each action with each resource."""

    results: Sequence[Verdict]


# Policies.


async def list_policies(context: ApiContext, order: Order) -> PolicyList:
    identities, account = await account_of(context, order)
    found = [*await identities.list_managed_policies(account), *managed.POLICIES.values()]
    return PolicyList(policies=[_shown(policy) for policy in found])


async def create_policy(context: ApiContext, order: Order) -> PolicyDetail:
    identities, account = await account_of(context, order)
    wanted: NewPolicy = order.body
    if any(policy.name.lower() == wanted.name.lower() for policy in managed.POLICIES.values()):
        raise AlreadyExists(
            f"a policy called {wanted.name} is there from the beginning: take another name",
            kind="policy",
        )
    made = await identities.create_managed_policy(
        account,
        wanted.name,
        document_text(wanted.document),
        path=wanted.path,
        description=wanted.description,
    )
    return _whole(made)


async def get_policy(context: ApiContext, order: Order) -> PolicyDetail:
    identities, account = await account_of(context, order)
    return _whole(await find_policy(identities, account, order.names["policy"]))


async def delete_policy(context: ApiContext, order: Order) -> Policy:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    if policy.account == _BUILT_IN:
        raise InvalidRequest(f"policy {policy.name} is there from the beginning, and stays")
    await identities.delete_managed_policy(account, policy.arn)
    return _shown(policy)


async def attach_to_user(context: ApiContext, order: Order) -> UserPolicies:
    account, name, arns = await _attach(context, order, "user")
    return UserPolicies(account=account, user=name, policies=arns)


async def detach_from_user(context: ApiContext, order: Order) -> UserPolicies:
    account, name, arns = await _detach(context, order, "user")
    return UserPolicies(account=account, user=name, policies=arns)


async def attach_to_group(context: ApiContext, order: Order) -> GroupPolicies:
    account, name, arns = await _attach(context, order, "group")
    return GroupPolicies(account=account, group=name, policies=arns)


async def detach_from_group(context: ApiContext, order: Order) -> GroupPolicies:
    account, name, arns = await _detach(context, order, "group")
    return GroupPolicies(account=account, group=name, policies=arns)


_Holder = tuple[str, str, list[str]]
"""The account, the name, and the ARNs of what is attached."""


async def _attach(context: ApiContext, order: Order, kind: Kind) -> _Holder:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await order.trust_policy(policy.arn)
    await identities.attach_policy(account, kind, order.names[kind], policy.arn)
    return await _holder(identities, account, kind, order.names[kind])


async def _detach(context: ApiContext, order: Order, kind: Kind) -> _Holder:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await order.trust_policy(policy.arn)
    attached = await identities.attached_policies(account, kind, order.names[kind])
    if all(each.arn != policy.arn for each in attached):
        raise NotFound(
            f"policy {policy.name} is not attached to {kind} {order.names[kind]}", kind="policy"
        )
    await identities.detach_policy(account, kind, order.names[kind], policy.arn)
    return await _holder(identities, account, kind, order.names[kind])


async def _holder(identities: IdentityAdmin, account: str, kind: Kind, name: str) -> _Holder:
    attached = await identities.attached_policies(account, kind, name)
    return account, name, [policy.arn for policy in attached]


async def find_policy(identities: IdentityAdmin, account: str, said: str) -> ManagedPolicy:
    """By its ARN, or by its name: one of the account's goes before one from the beginning."""
    if said.startswith("arn:"):
        return await identities.get_managed_policy(account, said)
    own = await identities.list_managed_policies(account)
    for policy in (*own, *managed.POLICIES.values()):
        if policy.name.lower() == said.lower():
            return policy
    raise NotFound(f"there is no policy {said}", kind="policy")


# Simulation.


async def simulate_policy(context: ApiContext, order: Order) -> VerdictList:
    _, account = await account_of(context, order)
    wanted: Simulation = order.body
    if len(wanted.actions) * len(wanted.resources) > _ASKED_MAX:
        raise MalformedRequest(f"at most {_ASKED_MAX} actions and resources at a time")
    identity, documents = await _asking(context, account, wanted)
    for number, raw in enumerate(wanted.documents, 1):
        documents[f"document {number}"] = document_text(raw)
    try:
        # What takes long is not to keep the process from answering others.
        found = await asyncio.to_thread(
            simulate,
            identity,
            documents,
            wanted.actions,
            wanted.resources,
            context=wanted.context,
            resource_policy=document_text(wanted.resource_policy),
        )
    except MalformedPolicy as error:
        raise MalformedRequest(error.message) from None
    return VerdictList(results=[Verdict(**each._asdict()) for each in found])


async def _asking(
    context: ApiContext, account: str, wanted: Simulation
) -> tuple[Identity, dict[str, str]]:
    """Who would ask, and the policies that it has."""
    identities = identities_of(context)
    identity = Identity(
        "somebody",
        f"arn:aws:iam::{account}:user/somebody",
        "",
        account=account,
        canonical_id=await canonical_id_of(context, account),
    )
    name = wanted.user
    if wanted.key:
        key = await _usable_key(identities, account, wanted)
        policy = KnownPolicy.parse(key.policy, kind="identity") if key.policy else None
        limits = KeyLimits(key.access_key, b"", policy, key.expires_ms)
        identity = identity._replace(access_key=key.access_key, limits=limits)
        name = key.user
        if not name:
            root = f"arn:aws:iam::{account}:root"
            return identity._replace(name="root", arn=root, user_id=account), {}
    if name:
        user = await identities.get_user(account, name)
        identity = identity._replace(
            name=user.name, arn=user.arn, user_id=user.id, tags=dict(user.tags)
        )
        return identity, await _documents(identities, account, user.name)
    if not wanted.documents:
        raise MalformedRequest("name a user or a key, or give documents")
    return identity, {}


async def _usable_key(identities: IdentityAdmin, account: str, wanted: Simulation) -> AccessKey:
    """Raises `InvalidRequest` for one that may do nothing now, whatever policies say."""
    key = await identities.find_access_key(account, wanted.key)
    if wanted.user and wanted.user.lower() != key.user.lower():
        raise NotFound(f"user {wanted.user} has no access key {wanted.key}", kind="key")
    if not key.active:
        raise InvalidRequest(f"access key {wanted.key} is disabled: it may do nothing")
    if key.expires_ms and key.expires_ms <= time.time() * 1000:
        raise InvalidRequest(f"access key {wanted.key} has expired: it may do nothing")
    return key


async def _documents(identities: IdentityAdmin, account: str, user: str) -> dict[str, str]:
    """All that count for a user, by names that tell where each is from."""
    found: dict[str, str] = {}
    holders: list[tuple[Kind, str]] = [("user", user)]
    holders += [("group", group.name) for group in await identities.groups_of(account, user)]
    for kind, name in holders:
        for policy in await identities.attached_policies(account, kind, name):
            found[f"{policy.name} of {kind} {name}"] = policy.document
        for inline in await identities.list_policies(account, kind, name):
            document = await identities.get_policy(account, kind, name, inline)
            found[f"{inline}, inline of {kind} {name}"] = document
    return found


# What they look like.


def _shown(policy: ManagedPolicy) -> Policy:
    return Policy(**_fields(policy))


def _whole(policy: ManagedPolicy) -> PolicyDetail:
    return PolicyDetail(**_fields(policy), document=msgspec.Raw(policy.document.encode()))


def _fields(policy: ManagedPolicy) -> dict[str, Any]:
    return {
        "account": policy.account,
        "name": policy.name,
        "path": policy.path,
        "id": policy.id,
        "arn": policy.arn,
        "created_ms": policy.created_ms,
        "description": policy.description,
        "built_in": policy.account == _BUILT_IN,
    }


def document_text(raw: msgspec.Raw) -> str:
    """A document as it was given; empty for none, which an empty text is not: who gives one, as of a
    file that turned out empty, did not mean to go without."""
    if bytes(raw) in (b"", b"null"):
        return ""
    try:
        text = bytes(raw).decode()
        if text.startswith('"'):
            text = msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise MalformedRequest("the policy is not JSON") from None
    if not text.strip():
        raise MalformedRequest("the policy is an empty text")
    return text


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/policies",
        "ListPolicies",
        "account/{name}/policy/*",
        list_policies,
        "context",
        returns=PolicyList,
        summary="Lists the managed policies of an account, then those that are there from the beginning.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies",
        "CreatePolicy",
        "account/{name}/policy/*",
        create_policy,
        "context",
        body=NewPolicy,
        returns=PolicyDetail,
        summary="Makes a managed policy.",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/policies/{policy}",
        "GetPolicy",
        "account/{name}/policy/{policy}",
        get_policy,
        "context",
        returns=PolicyDetail,
        summary="Shows a managed policy with its document.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies/{policy}/delete",
        "DeletePolicy",
        "account/{name}/policy/{policy}",
        delete_policy,
        "context",
        returns=Policy,
        summary="Deletes a managed policy. Refused while anyone has it, and for those from the beginning.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/attach",
        "AttachUserPolicy",
        "account/{name}/user/{user}",
        attach_to_user,
        "context",
        returns=UserPolicies,
        summary="Gives a user a managed policy.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/detach",
        "DetachUserPolicy",
        "account/{name}/user/{user}",
        detach_from_user,
        "context",
        returns=UserPolicies,
        summary="Takes a managed policy from a user.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/attach",
        "AttachGroupPolicy",
        "account/{name}/group/{group}",
        attach_to_group,
        "context",
        returns=GroupPolicies,
        summary="Gives a group a managed policy.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/detach",
        "DetachGroupPolicy",
        "account/{name}/group/{group}",
        detach_from_group,
        "context",
        returns=GroupPolicies,
        summary="Takes a managed policy from a group.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/simulate",
        "SimulatePolicy",
        "account/{name}/policy/*",
        simulate_policy,
        "context",
        body=Simulation,
        returns=VerdictList,
        summary="Says what policies would allow, of requests that nobody makes.",
    ),
)
