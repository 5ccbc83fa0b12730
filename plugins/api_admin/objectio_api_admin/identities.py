"""Users of an account, their access keys, and groups of them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.errors import NotEmpty
from objectio.iam.admin import AccessKey, Group, IdentityAdmin, Kind, User
from objectio_api_admin.shapes import Order, Route, account_of


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    path: str = "/"


class ChangedUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: str = ""
    path: str = ""


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out is made."""

    access_key: str = ""
    secret_key: str = ""


class NewGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    path: str = "/"


# Users.


async def list_users(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    return {"users": [_shown(user) for user in await identities.list_users(account)]}


async def create_user(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    wanted: NewUser = order.body
    return _shown(await identities.create_user(account, wanted.name, path=wanted.path))


async def get_user(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    user = await identities.get_user(account, order.names["user"])
    groups = await identities.groups_of(account, user.name)
    keys = await identities.list_access_keys(account, user.name)
    return {
        **_shown(user),
        "groups": [group.name for group in groups],
        **await _policies(identities, account, "user", user.name),
        "keys": [_shown_key(key) for key in keys],
    }


async def update_user(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    wanted: ChangedUser = order.body
    return _shown(
        await identities.update_user(
            account, order.names["user"], new_name=wanted.name, new_path=wanted.path
        )
    )


async def delete_user(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    user = await identities.get_user(account, order.names["user"])
    held = await _held(identities, account, "user", user.name)
    keys = await identities.list_access_keys(account, user.name)
    held += [f"the access key {key.access_key}" for key in keys]
    held += [
        f"a place in group {group.name}" for group in await identities.groups_of(account, user.name)
    ]
    if held:
        raise NotEmpty(f"user {user.name} still has {', '.join(held)}: take them away first")
    await identities.delete_user(account, user.name)
    return _shown(user)


async def groups_of_user(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    groups = await identities.groups_of(account, order.names["user"])
    return {"groups": [_shown(group) for group in groups]}


# Access keys.


async def list_keys(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    keys = await identities.list_access_keys(account, order.names["user"])
    return {"keys": [_shown_key(key) for key in keys]}


async def create_key(context: ApiContext, order: Order) -> Any:
    """The only answer that has the secret."""
    identities, account = await account_of(context, order)
    wanted: NewKey = order.body
    key, secret_key = await identities.create_access_key(
        account,
        order.names["user"],
        access_key=wanted.access_key,
        secret_key=wanted.secret_key,
    )
    return {**_shown_key(key), "secret_key": secret_key}


async def delete_key(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    user, key = order.names["user"], order.names["key"]
    await identities.delete_access_key(account, user, key)
    return {"account": account, "user": user, "access_key": key}


async def enable_key(context: ApiContext, order: Order) -> Any:
    return await _switch(context, order, active=True)


async def disable_key(context: ApiContext, order: Order) -> Any:
    return await _switch(context, order, active=False)


async def _switch(context: ApiContext, order: Order, *, active: bool) -> Any:
    identities, account = await account_of(context, order)
    user, key = order.names["user"], order.names["key"]
    await identities.update_access_key(account, user, key, active=active)
    for each in await identities.list_access_keys(account, user):
        if each.access_key == key:
            return _shown_key(each)
    return {"account": account, "user": user, "access_key": key}  # deleted meanwhile


# Groups.


async def list_groups(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    return {"groups": [_shown(group) for group in await identities.list_groups(account)]}


async def create_group(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    wanted: NewGroup = order.body
    return _shown(await identities.create_group(account, wanted.name, path=wanted.path))


async def get_group(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    return await _group(identities, account, order.names["group"])


async def delete_group(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    group, users = await identities.get_group(account, order.names["group"])
    held = [f"user {user.name}" for user in users]
    held += await _held(identities, account, "group", group.name)
    if held:
        raise NotEmpty(f"group {group.name} still has {', '.join(held)}: take them away first")
    await identities.delete_group(account, group.name)
    return _shown(group)


async def add_to_group(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    group, user = order.names["group"], order.names["user"]
    await identities.add_to_group(account, group, user)
    return await _group(identities, account, group)


async def remove_from_group(context: ApiContext, order: Order) -> Any:
    identities, account = await account_of(context, order)
    group, user = order.names["group"], order.names["user"]
    await identities.remove_from_group(account, group, user)
    return await _group(identities, account, group)


async def _group(identities: IdentityAdmin, account: str, name: str) -> Any:
    group, users = await identities.get_group(account, name)
    return {
        **_shown(group),
        "users": [user.name for user in users],
        **await _policies(identities, account, "group", group.name),
    }


# What they have in common.


async def _policies(
    identities: IdentityAdmin, account: str, kind: Kind, name: str
) -> dict[str, list[str]]:
    attached = await identities.attached_policies(account, kind, name)
    return {
        "policies": [policy.arn for policy in attached],
        "inline_policies": list(await identities.list_policies(account, kind, name)),
    }


async def _held(identities: IdentityAdmin, account: str, kind: Kind, name: str) -> list[str]:
    attached = await identities.attached_policies(account, kind, name)
    inline = await identities.list_policies(account, kind, name)
    return [f"policy {policy.name}" for policy in attached] + [
        f"inline policy {policy}" for policy in inline
    ]


def _shown(one: User | Group) -> dict[str, Any]:
    return {
        "account": one.account,
        "name": one.name,
        "path": one.path,
        "id": one.id,
        "arn": one.arn,
        "created_ms": one.created_ms,
    }


def _shown_key(key: AccessKey) -> dict[str, Any]:
    return msgspec.structs.asdict(key)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/users",
        "ListUsers",
        "account/{name}/user/*",
        list_users,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users",
        "CreateUser",
        "account/{name}/user/*",
        create_user,
        "context",
        body=NewUser,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}",
        "GetUser",
        "account/{name}/user/{user}",
        get_user,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/update",
        "UpdateUser",
        "account/{name}/user/{user}",
        update_user,
        "context",
        body=ChangedUser,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/delete",
        "DeleteUser",
        "account/{name}/user/{user}",
        delete_user,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/groups",
        "ListGroupsForUser",
        "account/{name}/user/{user}",
        groups_of_user,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/keys",
        "ListAccessKeys",
        "account/{name}/user/{user}",
        list_keys,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys",
        "CreateAccessKey",
        "account/{name}/user/{user}",
        create_key,
        "context",
        body=NewKey,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/enable",
        "EnableAccessKey",
        "account/{name}/user/{user}",
        enable_key,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/disable",
        "DisableAccessKey",
        "account/{name}/user/{user}",
        disable_key,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/delete",
        "DeleteAccessKey",
        "account/{name}/user/{user}",
        delete_key,
        "context",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/groups",
        "ListGroups",
        "account/{name}/group/*",
        list_groups,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups",
        "CreateGroup",
        "account/{name}/group/*",
        create_group,
        "context",
        body=NewGroup,
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/groups/{group}",
        "GetGroup",
        "account/{name}/group/{group}",
        get_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/delete",
        "DeleteGroup",
        "account/{name}/group/{group}",
        delete_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/add",
        "AddUserToGroup",
        "account/{name}/group/{group}",
        add_to_group,
        "context",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/groups/{group}/users/{user}/remove",
        "RemoveUserFromGroup",
        "account/{name}/group/{group}",
        remove_from_group,
        "context",
    ),
)
