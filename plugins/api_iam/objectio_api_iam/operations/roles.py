"""Roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from objectio.iam.admin import Role
from objectio_api_iam.call import Call, Route, everything, new, role_arn
from objectio_api_iam.operations.users import merge, tag_list, without
from objectio_api_iam.xml import Value, timestamp

_SESSION_SECONDS_DEFAULT: Final = 3_600


def show_role(role: Role, *, with_tags: bool = True) -> Value:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": timestamp(role.created_ms),
        "AssumeRolePolicyDocument": quote(role.trust_policy, safe=""),
        "Description": role.description or None,
        "MaxSessionDuration": role.session_seconds_max,
        "Tags": tag_list(role.tags) if with_tags and role.tags else None,
    }


async def create_role(call: Call) -> Value:
    call.form.refuse("PermissionsBoundary")
    role = await call.admin.create_role(
        call.account,
        call.name("RoleName"),
        call.form.need("AssumeRolePolicyDocument"),
        path=call.path(),
        description=call.form.get("Description"),
        session_seconds_max=call.form.number("MaxSessionDuration", _SESSION_SECONDS_DEFAULT),
        tags=call.form.tags(),
    )
    return {"Role": show_role(role)}


async def get_role(call: Call) -> Value:
    return {"Role": show_role(await call.admin.get_role(call.account, call.name("RoleName")))}


async def list_roles(call: Call) -> Value:
    roles = await call.admin.list_roles(call.account, path_prefix=call.path_prefix())
    shown, more = call.page(roles, lambda role: role.name)
    return {"Roles": [show_role(role, with_tags=False) for role in shown], **more}


async def update_role(call: Call) -> Value:
    form = call.form
    seconds = None
    if "MaxSessionDuration" in form:
        seconds = form.number("MaxSessionDuration", 0)
    await call.admin.update_role(
        call.account,
        call.name("RoleName"),
        description=form.get("Description") if "Description" in form else None,
        session_seconds_max=seconds,
    )
    return {}


async def update_role_description(call: Call) -> Value:
    role = await call.admin.update_role(
        call.account, call.name("RoleName"), description=call.form.get("Description")
    )
    return {"Role": show_role(role)}


async def update_assume_role_policy(call: Call) -> None:
    await call.admin.update_role(
        call.account, call.name("RoleName"), trust_policy=call.form.need("PolicyDocument")
    )


async def delete_role(call: Call) -> None:
    await call.admin.delete_role(call.account, call.name("RoleName"))


async def tag_role(call: Call) -> None:
    role = await call.admin.get_role(call.account, call.name("RoleName"))
    await call.admin.set_tags(call.account, "role", role.name, merge(role.tags, call.form.tags()))


async def untag_role(call: Call) -> None:
    role = await call.admin.get_role(call.account, call.name("RoleName"))
    tags = without(role.tags, call.form.texts("TagKeys"))
    await call.admin.set_tags(call.account, "role", role.name, tags)


async def list_role_tags(call: Call) -> Value:
    role = await call.admin.get_role(call.account, call.name("RoleName"))
    shown, more = call.page(tag_list(role.tags), lambda tag: str(tag["Key"]))
    return {"Tags": shown, **more}


ROUTES: Final[Mapping[str, Route]] = {
    "CreateRole": Route("iam", create_role, new("role", "RoleName")),
    "GetRole": Route("iam", get_role, role_arn),
    "ListRoles": Route("iam", list_roles, everything("role")),
    "UpdateRole": Route("iam", update_role, role_arn),
    "UpdateRoleDescription": Route("iam", update_role_description, role_arn),
    "UpdateAssumeRolePolicy": Route("iam", update_assume_role_policy, role_arn),
    "DeleteRole": Route("iam", delete_role, role_arn),
    "TagRole": Route("iam", tag_role, role_arn),
    "UntagRole": Route("iam", untag_role, role_arn),
    "ListRoleTags": Route("iam", list_role_tags, role_arn),
}
