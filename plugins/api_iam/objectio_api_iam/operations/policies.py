"""Policies of users, groups and roles: those that are written into them, and managed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from objectio.iam.admin import Kind, ManagedPolicy
from objectio_api_iam.call import (
    Call,
    Resource,
    Route,
    everything,
    given_arn,
    group_arn,
    new,
    role_arn,
    user_arn,
)
from objectio_api_iam.errors import Refusal
from objectio_api_iam.xml import Value, timestamp

_VERSION: Final = "v1"
"""Of a managed policy: it has one version, for it cannot be changed."""

_HOLDERS: Final[tuple[tuple[Kind, Resource], ...]] = (
    ("user", user_arn),
    ("group", group_arn),
    ("role", role_arn),
)


def _inline(kind: Kind, resource: Resource) -> dict[str, Route]:
    """Put-, Get-, Delete- and List- of the policies of one kind of holder."""
    title = kind.capitalize()
    parameter = f"{title}Name"

    async def put(call: Call) -> None:
        await call.admin.put_policy(
            call.account,
            kind,
            call.name(parameter),
            call.name("PolicyName"),
            call.form.need("PolicyDocument"),
        )

    async def get(call: Call) -> Value:
        holder, policy = call.name(parameter), call.name("PolicyName")
        document = await call.admin.get_policy(call.account, kind, holder, policy)
        return {
            parameter: holder,
            "PolicyName": policy,
            "PolicyDocument": quote(document, safe=""),
        }

    async def delete(call: Call) -> None:
        await call.admin.delete_policy(
            call.account, kind, call.name(parameter), call.name("PolicyName")
        )

    async def list_names(call: Call) -> Value:
        names = await call.admin.list_policies(call.account, kind, call.name(parameter))
        shown, more = call.page(names)
        return {"PolicyNames": shown, **more}

    return {
        f"Put{title}Policy": Route("iam", put, resource),
        f"Get{title}Policy": Route("iam", get, resource),
        f"Delete{title}Policy": Route("iam", delete, resource),
        f"List{title}Policies": Route("iam", list_names, resource),
    }


def _attached(kind: Kind, resource: Resource) -> dict[str, Route]:
    title = kind.capitalize()
    parameter = f"{title}Name"

    async def attach(call: Call) -> None:
        await call.admin.attach_policy(
            call.account, kind, call.name(parameter), call.form.need("PolicyArn")
        )

    async def detach(call: Call) -> None:
        await call.admin.detach_policy(
            call.account, kind, call.name(parameter), call.form.need("PolicyArn")
        )

    async def list_attached(call: Call) -> Value:
        policies = await call.admin.attached_policies(call.account, kind, call.name(parameter))
        shown, more = call.page(policies, lambda policy: policy.name)
        attached = [{"PolicyName": item.name, "PolicyArn": item.arn} for item in shown]
        return {"AttachedPolicies": attached, **more}

    return {
        f"Attach{title}Policy": Route("iam", attach, resource),
        f"Detach{title}Policy": Route("iam", detach, resource),
        f"ListAttached{title}Policies": Route("iam", list_attached, resource),
    }


def show_policy(policy: ManagedPolicy) -> Value:
    created = timestamp(policy.created_ms)
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": _VERSION,
        "IsAttachable": True,
        "Description": policy.description or None,
        "CreateDate": created,
        "UpdateDate": created,
    }


async def create_policy(call: Call) -> Value:
    call.form.refuse("Tags")
    policy = await call.admin.create_managed_policy(
        call.account,
        call.name("PolicyName"),
        call.form.need("PolicyDocument"),
        path=call.path(),
        description=call.form.get("Description"),
    )
    return {"Policy": show_policy(policy)}


async def get_policy(call: Call) -> Value:
    policy = await call.admin.get_managed_policy(call.account, call.form.need("PolicyArn"))
    return {"Policy": show_policy(policy)}


async def get_policy_version(call: Call) -> Value:
    policy = await call.admin.get_managed_policy(call.account, call.form.need("PolicyArn"))
    if call.form.need("VersionId") != _VERSION:
        raise Refusal("NoSuchEntity", "The policy has no such version.")
    return {
        "PolicyVersion": {
            "Document": quote(policy.document, safe=""),
            "VersionId": _VERSION,
            "IsDefaultVersion": True,
            "CreateDate": timestamp(policy.created_ms),
        }
    }


async def list_policy_versions(call: Call) -> Value:
    policy = await call.admin.get_managed_policy(call.account, call.form.need("PolicyArn"))
    version = {
        "VersionId": _VERSION,
        "IsDefaultVersion": True,
        "CreateDate": timestamp(policy.created_ms),
    }
    return {"Versions": [version], "IsTruncated": False}


async def list_policies(call: Call) -> Value:
    """Those of the account. The ones that are there from the beginning have known names."""
    call.form.refuse("OnlyAttached", "PolicyUsageFilter")
    if call.form.get("Scope", "All") not in ("All", "Local"):
        raise Refusal("ValidationError", "Scope is All or Local here.")
    policies = await call.admin.list_managed_policies(call.account, path_prefix=call.path_prefix())
    shown, more = call.page(policies, lambda policy: policy.name)
    return {"Policies": [show_policy(policy) for policy in shown], **more}


async def delete_policy(call: Call) -> None:
    await call.admin.delete_managed_policy(call.account, call.form.need("PolicyArn"))


def _routes() -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for kind, resource in _HOLDERS:
        routes |= _inline(kind, resource)
        routes |= _attached(kind, resource)
    return routes


ROUTES: Final[Mapping[str, Route]] = {
    **_routes(),
    "CreatePolicy": Route("iam", create_policy, new("policy", "PolicyName")),
    "GetPolicy": Route("iam", get_policy, given_arn("PolicyArn")),
    "GetPolicyVersion": Route("iam", get_policy_version, given_arn("PolicyArn")),
    "ListPolicyVersions": Route("iam", list_policy_versions, given_arn("PolicyArn")),
    "ListPolicies": Route("iam", list_policies, everything("policy")),
    "DeletePolicy": Route("iam", delete_policy, given_arn("PolicyArn")),
}
