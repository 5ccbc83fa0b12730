"""Roles: who may take them on, and what they then may.

A role is taken on by `sts:AssumeRole`; its trust policy says by whom. What it may do is said by
managed policies that are attached to it, here, and by inline policies, see `inline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.errors import NotEmpty
from objectio.iam.admin import IdentityAdmin, Role
from objectio_api_admin.policies import document_text, find_policy
from objectio_api_admin.shapes import Order, Route, account_of
from objectio_api_admin.values import (
    AccountId,
    Arn,
    Description,
    Document,
    Milliseconds,
    NewDocument,
    NoDocument,
    Path,
    RoleName,
    SessionSeconds,
    Tags,
    UniqueId,
)

_KIND: Final = "role"


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`trust_policy` is the document, as an object or as a text that has one."""

    name: RoleName
    trust_policy: NewDocument
    path: Path = "/"
    description: Description = ""
    session_seconds_max: SessionSeconds = 3_600
    tags: Tags = {}


class ChangedRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    trust_policy: NoDocument = msgspec.field(default_factory=msgspec.Raw)
    description: Description | None = None
    session_seconds_max: SessionSeconds | None = None


class RoleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """`session_seconds_max` bounds the sessions that are asked for."""

    account: AccountId
    name: str
    path: str
    id: UniqueId
    arn: Arn
    created_ms: Milliseconds
    description: str
    session_seconds_max: int


class RoleDetail(RoleSummary, frozen=True, kw_only=True):
    """`trust_policy` is the document; `policies` are ARNs, `inline_policies` names."""

    trust_policy: Document
    tags: Mapping[str, str]
    policies: Sequence[Arn]
    inline_policies: Sequence[str]


class RoleList(msgspec.Struct, frozen=True, kw_only=True):
    roles: Sequence[RoleSummary]


class RolePolicies(msgspec.Struct, frozen=True, kw_only=True):
    """The ARNs of the managed policies that a role has."""

    account: AccountId
    role: str
    policies: Sequence[Arn]


async def list_roles(context: ApiContext, order: Order) -> RoleList:
    identities, account = await account_of(context, order)
    return RoleList(roles=[_shown(role) for role in await identities.list_roles(account)])


async def create_role(context: ApiContext, order: Order) -> RoleDetail:
    identities, account = await account_of(context, order)
    wanted: NewRole = order.body
    made = await identities.create_role(
        account,
        wanted.name,
        document_text(wanted.trust_policy),
        path=wanted.path,
        description=wanted.description,
        session_seconds_max=wanted.session_seconds_max,
        tags=wanted.tags,
    )
    return await _detail(identities, made)


async def get_role(context: ApiContext, order: Order) -> RoleDetail:
    identities, account = await account_of(context, order)
    return await _detail(identities, await identities.get_role(account, order.names[_KIND]))


async def update_role(context: ApiContext, order: Order) -> RoleDetail:
    identities, account = await account_of(context, order)
    wanted: ChangedRole = order.body
    changed = await identities.update_role(
        account,
        order.names[_KIND],
        description=wanted.description,
        session_seconds_max=wanted.session_seconds_max,
        trust_policy=document_text(wanted.trust_policy) or None,
    )
    return await _detail(identities, changed)


async def delete_role(context: ApiContext, order: Order) -> RoleSummary:
    identities, account = await account_of(context, order)
    role = await _detail(identities, await identities.get_role(account, order.names[_KIND]))
    held = [f"policy {arn.rpartition('/')[2]}" for arn in role.policies]
    held += [f"inline policy {name}" for name in role.inline_policies]
    if held:
        raise NotEmpty(f"role {role.name} still has {', '.join(held)}: take them away first")
    await identities.delete_role(account, role.name)
    fields = msgspec.structs.fields(RoleSummary)
    return RoleSummary(**{field.name: getattr(role, field.name) for field in fields})


async def attach_to_role(context: ApiContext, order: Order) -> RolePolicies:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await order.trust_policy(policy.arn)
    await identities.attach_policy(account, _KIND, order.names[_KIND], policy.arn)
    return await _policies(identities, account, order.names[_KIND])


async def detach_from_role(context: ApiContext, order: Order) -> RolePolicies:
    identities, account = await account_of(context, order)
    policy = await find_policy(identities, account, order.names["policy"])
    await order.trust_policy(policy.arn)
    await identities.detach_policy(account, _KIND, order.names[_KIND], policy.arn)
    return await _policies(identities, account, order.names[_KIND])


async def _policies(identities: IdentityAdmin, account: str, role: str) -> RolePolicies:
    attached = await identities.attached_policies(account, _KIND, role)
    return RolePolicies(account=account, role=role, policies=[each.arn for each in attached])


async def _detail(identities: IdentityAdmin, role: Role) -> RoleDetail:
    attached = await _policies(identities, role.account, role.name)
    return RoleDetail(
        **msgspec.structs.asdict(_shown(role)),
        trust_policy=msgspec.Raw(role.trust_policy.encode()),
        tags=role.tags,
        policies=attached.policies,
        inline_policies=await identities.list_policies(role.account, _KIND, role.name),
    )


def _shown(role: Role) -> RoleSummary:
    return RoleSummary(
        account=role.account,
        name=role.name,
        path=role.path,
        id=role.id,
        arn=role.arn,
        created_ms=role.created_ms,
        description=role.description,
        session_seconds_max=role.session_seconds_max,
    )


def _route(
    method: str, end: str, action: str, answer: Any, returns: Any, summary: str, body: Any = None
) -> Route:
    return Route(
        method,
        f"/v1/accounts/{{name}}/roles{end}",
        action,
        f"account/{{name}}/role/{'{role}' if end else '*'}",
        answer,
        "context",
        body=body,
        returns=returns,
        summary=summary,
    )


ROUTES: Final = (
    _route("GET", "", "ListRoles", list_roles, RoleList, "Lists the roles of an account."),
    _route("POST", "", "CreateRole", create_role, RoleDetail, "Makes a role.", NewRole),
    _route("GET", "/{role}", "GetRole", get_role, RoleDetail, "Shows a role and what it has."),
    _route(
        "POST",
        "/{role}/update",
        "UpdateRole",
        update_role,
        RoleDetail,
        "Changes who may take a role on, its description, or how long its sessions may last.",
        ChangedRole,
    ),
    _route(
        "POST",
        "/{role}/delete",
        "DeleteRole",
        delete_role,
        RoleSummary,
        "Deletes a role; refused while it has policies.",
    ),
    _route(
        "POST",
        "/{role}/policies/{policy}/attach",
        "AttachRolePolicy",
        attach_to_role,
        RolePolicies,
        "Gives a managed policy to a role.",
    ),
    _route(
        "POST",
        "/{role}/policies/{policy}/detach",
        "DetachRolePolicy",
        detach_from_role,
        RolePolicies,
        "Takes a managed policy away from a role.",
    ),
)
