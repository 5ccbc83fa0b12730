"""Managed policies, who has them, and what policies would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from objectio.abc.api import ApiContext, Identity
from objectio.errors import AlreadyExists, InvalidRequest, NotFound
from objectio.iam import managed
from objectio.iam.admin import IdentityAdmin, Kind, ManagedPolicy
from objectio.iam.policy import MalformedPolicy
from objectio.iam.simulate import simulate
from objectio_api_admin.shapes import MalformedRequest, Order, Route, account_of, canonical_id_of

_BUILT_IN: Final = "aws"
_ASKED_MAX: Final = 1_000
"""Actions times resources of one simulation."""

Texts = Annotated[Sequence[str], msgspec.Meta(min_length=1, max_length=100)]


class NewPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`document` is the policy, as an object or as a text that has one."""

    name: str
    document: msgspec.Raw
    description: str = ""
    path: str = "/"


class Simulation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `user` may do by the policies that it and its groups have, and by `documents` besides; or,
    without a user, what these alone would let one do. `resource_policy` stands at the resources."""

    actions: Texts
    resources: Texts
    user: str = ""
    documents: Annotated[Sequence[msgspec.Raw], msgspec.Meta(max_length=20)] = ()
    resource_policy: msgspec.Raw = msgspec.Raw()
    context: Mapping[str, Sequence[str]] = {}


# Policies.


async def list_policies(context: ApiContext, order: Order) -> Any:
    """Those of the account, and then those that are there from the beginning."""
    identities, account = await account_of(context, order)
    found = [*await identities.list_managed_policies(account), *managed.POLICIES.values()]
    return {"policies": [_shown(policy) for policy in found]}


async def create_policy(context: ApiContext, order: Order) -> Any:
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


async def get_policy(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    return _whole(await find_policy(identities, account, order.names["policy"]))


async def delete_policy(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    if policy.account == _BUILT_IN:
        raise InvalidRequest(f"policy {policy.name} is there from the beginning, and stays")
    await identities.delete_managed_policy(account, policy.arn)
    return _shown(policy)


async def attach_to_user(context: ApiContext, order: Order) -> Any:
    return await _attach(context, order, "user")


async def detach_from_user(context: ApiContext, order: Order) -> Any:
    return await _detach(context, order, "user")


async def attach_to_group(context: ApiContext, order: Order) -> Any:
    return await _attach(context, order, "group")


async def detach_from_group(context: ApiContext, order: Order) -> Any:
    return await _detach(context, order, "group")


async def _attach(context: ApiContext, order: Order, kind: Kind) -> Any:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await identities.attach_policy(account, kind, order.names[kind], policy.arn)
    return await _holder(identities, account, kind, order.names[kind])


async def _detach(context: ApiContext, order: Order, kind: Kind) -> Any:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await identities.detach_policy(account, kind, order.names[kind], policy.arn)
    return await _holder(identities, account, kind, order.names[kind])


async def _holder(identities: IdentityAdmin, account: str, kind: Kind, name: str) -> Any:
    attached = await identities.attached_policies(account, kind, name)
    return {"account": account, kind: name, "policies": [policy.arn for policy in attached]}


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


async def simulate_policy(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    wanted: Simulation = order.body
    if len(wanted.actions) * len(wanted.resources) > _ASKED_MAX:
        raise MalformedRequest(f"at most {_ASKED_MAX} actions and resources at a time")
    identity = Identity(
        "somebody",
        f"arn:aws:iam::{account}:user/somebody",
        "",
        account=account,
        canonical_id=await canonical_id_of(context, account),
    )
    documents: dict[str, str] = {}
    if wanted.user:
        user = await identities.get_user(account, wanted.user)
        identity = identity._replace(
            name=user.name, arn=user.arn, user_id=user.id, tags=dict(user.tags)
        )
        documents |= await _documents(identities, account, user.name)
    elif not wanted.documents:
        raise MalformedRequest("name a user, or give documents")
    for number, raw in enumerate(wanted.documents, 1):
        documents[f"document {number}"] = document_text(raw)
    try:
        found = simulate(
            identity,
            documents,
            wanted.actions,
            wanted.resources,
            context=wanted.context,
            resource_policy=document_text(wanted.resource_policy) if wanted.resource_policy else "",
        )
    except MalformedPolicy as error:
        raise MalformedRequest(error.message) from None
    return {"results": [each._asdict() for each in found]}


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


def _shown(policy: ManagedPolicy) -> dict[str, Any]:
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


def _whole(policy: ManagedPolicy) -> dict[str, Any]:
    return {**_shown(policy), "document": msgspec.Raw(policy.document.encode())}


def document_text(raw: msgspec.Raw) -> str:
    """A document as it was given."""
    try:
        if bytes(raw).startswith(b'"'):
            return msgspec.json.decode(raw, type=str)
        return bytes(raw).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise MalformedRequest("the policy is not JSON") from None


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/policies",
        "ListPolicies",
        "account/{name}/policy/*",
        list_policies,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies",
        "CreatePolicy",
        "account/{name}/policy/*",
        create_policy,
        "context",
        body=NewPolicy,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/policies/{policy}",
        "GetPolicy",
        "account/{name}/policy/{policy}",
        get_policy,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/policies/{policy}/delete",
        "DeletePolicy",
        "account/{name}/policy/{policy}",
        delete_policy,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/attach",
        "AttachUserPolicy",
        "account/{name}/user/{user}",
        attach_to_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/policies/{policy}/detach",
        "DetachUserPolicy",
        "account/{name}/user/{user}",
        detach_from_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/attach",
        "AttachGroupPolicy",
        "account/{name}/group/{group}",
        attach_to_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/policies/{policy}/detach",
        "DetachGroupPolicy",
        "account/{name}/group/{group}",
        detach_from_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/simulate",
        "SimulatePolicy",
        "account/{name}/policy/*",
        simulate_policy,
        "context",
        body=Simulation,
    ),
)
