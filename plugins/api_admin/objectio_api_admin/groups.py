"""Groups of users, whose policies count for everyone in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from objectio.abc.api import ApiContext, Wanted
from objectio.errors import NotEmpty
from objectio.iam.admin import Group as KnownGroup
from objectio.iam.admin import IdentityAdmin
from objectio_api_admin.holders import held_by, policies_of
from objectio_api_admin.shapes import ARN, Order, Route, account_of
from objectio_api_admin.values import AccountId, Arn, GroupName, Milliseconds, Path, UniqueId


class NewGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: GroupName
    path: Path = "/"


class ChangedGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out or empty stays as it is."""

    name: Annotated[
        str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_+=,.@-]{0,128}$"})
    ] = ""
    path: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^(/([!-~]{1,510}/)?)?$"})] = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    name: str
    path: str
    id: UniqueId
    arn: Arn
    created_ms: Milliseconds


class GroupDetail(Group, frozen=True, kw_only=True):
    """`users` are the names of those in it, `policies` the ARNs of the managed policies that it has,
    `inline_policies` the names of those that stand in it itself."""

    users: Sequence[str]
    policies: Sequence[Arn]
    inline_policies: Sequence[str]


class GroupList(msgspec.Struct, frozen=True, kw_only=True):
    groups: Sequence[Group]


async def list_groups(context: ApiContext, order: Order) -> GroupList:
    identities, account = await account_of(context, order)
    return GroupList(groups=[show_group(each) for each in await identities.list_groups(account)])


async def create_group(context: ApiContext, order: Order) -> Group:
    identities, account = await account_of(context, order)
    wanted: NewGroup = order.body
    return show_group(await identities.create_group(account, wanted.name, path=wanted.path))


async def get_group(context: ApiContext, order: Order) -> GroupDetail:
    identities, account = await account_of(context, order)
    return await _detail(identities, account, order.names["group"])


async def update_group(context: ApiContext, order: Order) -> Group:
    identities, account = await account_of(context, order)
    wanted: ChangedGroup = order.body
    # As of a user that is renamed: with the name that it gets, too.
    if wanted.name and order.trust is not None:
        becomes = f"{ARN}account/{account}/group/{wanted.name}"
        await order.trust(Wanted("admin:UpdateGroup", becomes))
    return show_group(
        await identities.update_group(
            account, order.names["group"], new_name=wanted.name, new_path=wanted.path
        )
    )


async def delete_group(context: ApiContext, order: Order) -> Group:
    identities, account = await account_of(context, order)
    group, users = await identities.get_group(account, order.names["group"])
    held = [f"user {user.name}" for user in users]
    held += await held_by(identities, account, "group", group.name)
    if held:
        raise NotEmpty(f"group {group.name} still has {', '.join(held)}: take them away first")
    await identities.delete_group(account, group.name)
    return show_group(group)


async def add_to_group(context: ApiContext, order: Order) -> GroupDetail:
    identities, account = await account_of(context, order)
    group, user = order.names["group"], order.names["user"]
    await identities.add_to_group(account, group, user)
    return await _detail(identities, account, group)


async def remove_from_group(context: ApiContext, order: Order) -> GroupDetail:
    identities, account = await account_of(context, order)
    group, user = order.names["group"], order.names["user"]
    await identities.remove_from_group(account, group, user)
    return await _detail(identities, account, group)


async def groups_of_user(context: ApiContext, order: Order) -> GroupList:
    identities, account = await account_of(context, order)
    found = await identities.groups_of(account, order.names["user"])
    return GroupList(groups=[show_group(each) for each in found])


async def _detail(identities: IdentityAdmin, account: str, name: str) -> GroupDetail:
    group, users = await identities.get_group(account, name)
    attached, inline = await policies_of(identities, account, "group", group.name)
    return GroupDetail(
        **msgspec.structs.asdict(show_group(group)),
        users=[user.name for user in users],
        policies=attached,
        inline_policies=inline,
    )


def show_group(group: KnownGroup) -> Group:
    return Group(
        account=group.account,
        name=group.name,
        path=group.path,
        id=group.id,
        arn=group.arn,
        created_ms=group.created_ms,
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/groups",
        "ListGroups",
        "account/{name}/group/*",
        list_groups,
        "context",
        returns=GroupList,
        summary="Lists the groups of an account, by name.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups",
        "CreateGroup",
        "account/{name}/group/*",
        create_group,
        "context",
        body=NewGroup,
        returns=Group,
        summary="Makes a group.",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/groups/{group}",
        "GetGroup",
        "account/{name}/group/{group}",
        get_group,
        "context",
        returns=GroupDetail,
        summary="Shows a group, who is in it, and its policies.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/update",
        "UpdateGroup",
        "account/{name}/group/{group}",
        update_group,
        "context",
        body=ChangedGroup,
        returns=Group,
        summary="Gives a group another name, another path, or both.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/delete",
        "DeleteGroup",
        "account/{name}/group/{group}",
        delete_group,
        "context",
        returns=Group,
        summary="Deletes a group. Refused while it has users or policies.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/add",
        "AddUserToGroup",
        "account/{name}/group/{group}",
        add_to_group,
        "context",
        returns=GroupDetail,
        summary="Puts a user into a group.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/remove",
        "RemoveUserFromGroup",
        "account/{name}/group/{group}",
        remove_from_group,
        "context",
        returns=GroupDetail,
        summary="Takes a user out of a group.",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/groups",
        "ListGroupsForUser",
        "account/{name}/user/{user}",
        groups_of_user,
        "context",
        returns=GroupList,
        summary="Lists the groups that a user is in.",
    ),
)
